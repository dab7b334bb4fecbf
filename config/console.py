"""The admin's front page: statistics of the last hour, day or week, and running work."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.http import HttpRequest
from django.template.response import TemplateResponse

from assistant.observe.statistics import AnswerStatistics as Answers
from batching.inspection.statistics import BatchStatistics as Batches
from wire.observe.statistics import PERIODS, Period


@dataclass(frozen=True)
class Console:
    """The statistics of a period that a user may see."""

    period: Period
    user: Any

    def __bool__(self) -> bool:
        return bool(self.answers or self.batches)

    @property
    def periods(self) -> list[str]:
        return list(PERIODS)

    @cached_property
    def answers(self) -> Answers | None:
        return Answers(self.period) if self.user.has_perm("assistant.view_message") else None

    @cached_property
    def batches(self) -> Batches | None:
        return Batches(self.period) if self.user.has_perm("batching.view_batch") else None

    @property
    def may_name(self) -> bool:
        """Tell whether the user may see callers' names."""
        users = get_user_model()._meta
        return bool(self.user.has_perm(f"{users.app_label}.view_{users.model_name}"))


class Site(admin.AdminSite):
    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        console = Console(Period.named(request.GET.get("period", "")), request.user)
        return super().index(request, {"console": console, **(extra_context or {})})
