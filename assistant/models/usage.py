"""The tokens that users spend in a month, and their allowances."""

from datetime import UTC, date, datetime
from typing import Any, ClassVar

from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q

from assistant.events import Usage
from assistant.models.keys import APIKey


class Allowance(models.Model):
    """The tokens that a user may spend in a month, instead of USER_TOKENS_PER_MONTH."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="token_allowance")
    tokens_per_month = models.PositiveBigIntegerField(
        validators=[MinValueValidator(1)], help_text="In and out together, by the calendar in UTC."
    )

    class Meta:
        ordering = ["user"]
        verbose_name = "user's allowance"
        verbose_name_plural = "users' allowances"

    def __str__(self) -> str:
        return str(self.user)


def month_of(moment: datetime) -> date:
    """Return the first day of the month, in UTC."""
    return moment.astimezone(UTC).date().replace(day=1)


class MonthlyUsageQuerySet(models.QuerySet["MonthlyUsage"]):
    def charge(self, *, user_id: Any, api_key_id: int | None, ended_at: datetime, usage: Usage) -> None:
        """Add an answer that has ended to its month."""
        row: dict[str, Any] = {"user_id": user_id, "api_key_id": api_key_id, "month": month_of(ended_at)}
        counts = {"answers": 1, "input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
        more = {name: F(name) + count for name, count in counts.items()}
        if not self.filter(**row).update(**more):
            self.get_or_create(**row)
            self.filter(**row).update(**more)


class MonthlyUsage(models.Model):
    """The usage of a user's answers that ended in a month, with one of their keys or without a key."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    api_key = models.ForeignKey(APIKey, null=True, on_delete=models.CASCADE, related_name="monthly_usage")
    month = models.DateField(help_text="Its first day, in UTC.")
    answers = models.PositiveIntegerField(default=0)
    input_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)

    objects: ClassVar[models.Manager["MonthlyUsage"]] = MonthlyUsageQuerySet.as_manager()

    class Meta:
        ordering = ["-month", "user", "api_key"]
        verbose_name = "usage"
        verbose_name_plural = "usage by month"
        constraints = [
            models.UniqueConstraint(fields=["user", "month", "api_key"], name="one_usage_of_a_key_a_month"),
            models.UniqueConstraint(
                fields=["user", "month"], condition=Q(api_key=None), name="one_usage_without_a_key_a_month"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.month:%Y-%m} {self.user}"
