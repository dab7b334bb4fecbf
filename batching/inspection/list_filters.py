"""The filters of the admin's list of batches."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from batching.models import Batch


class OutcomeFilter(admin.SimpleListFilter):
    title = "outcome"
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("failures", "with failed items"), ("successes", "all items succeeded")]

    def queryset(self, request: HttpRequest, batches: QuerySet[Batch]) -> QuerySet[Batch]:
        match self.value():
            case "failures":
                return batches.filter(failed__gt=0)
            case "successes":
                return batches.filter(failed=0, status=Batch.Status.COMPLETED)
        return batches


class DurationFilter(admin.SimpleListFilter):
    title = "total time"
    parameter_name = "seconds"
    choice_seconds = ("1", "5", "30")

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(seconds, f"{seconds} s and longer") for seconds in self.choice_seconds]

    def queryset(self, request: HttpRequest, batches: QuerySet[Batch]) -> QuerySet[Batch]:
        seconds = self.value()
        return batches.filter(duration__gte=seconds) if seconds in self.choice_seconds else batches


class CallerFilter(admin.SimpleListFilter):
    """Lists no owners: there may be as many as users."""

    title = "caller"
    parameter_name = "caller"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("signed-in", "signed in"), ("anonymous", "anonymous")]

    def queryset(self, request: HttpRequest, batches: QuerySet[Batch]) -> QuerySet[Batch]:
        match self.value():
            case "signed-in":
                return batches.filter(owner__isnull=False)
            case "anonymous":
                return batches.filter(owner=None)
        return batches
