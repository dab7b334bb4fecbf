"""Batches, their items with request and response, and their webhooks."""

import secrets
from datetime import datetime, timedelta
from typing import Any, ClassVar, Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from wire.api.callers import Caller

__all__ = ["Batch", "BatchItem", "Webhook"]

KEY_LIFETIME = timedelta(days=1)
# How long after the end of a background batch its failed items can be retried.
RETRY_LIFETIME = timedelta(days=1)


def new_batch_id() -> str:
    return f"batch_{secrets.token_hex(12)}"


class BatchQuerySet(models.QuerySet["Batch"]):
    def for_caller(self, caller: Caller) -> Self:
        """Return the batches that the caller may read by id; anonymous callers share theirs."""
        return self.accepted().filter(owner=caller.pk if caller.is_authenticated else None)

    def listed_for(self, caller: Caller) -> Self:
        """Return the batches that the caller may list: none for an anonymous one."""
        return self.accepted().filter(owner=caller.pk) if caller.is_authenticated else self.none()

    def accepted(self) -> Self:
        """Leave out batches that are still being received: no client has their ids."""
        return self.exclude(status=Batch.Status.RECEIVING)

    def open_in_background(self) -> Self:
        return self.filter(finished_at=None, expires_at__isnull=False)

    def abandoned(self) -> Self:
        """Return running batches whose lease has expired: their process died."""
        return self.filter(status=Batch.Status.RUNNING, lease_expires_at__lt=timezone.now())

    def interrupt(self) -> int:
        """End these batches, whose process died, and free their keys; return how many there were."""
        now = timezone.now()
        ids = list(self.values_list("pk", flat=True))
        BatchItem.objects.filter(batch__in=ids, finished_at=None).update(
            state=BatchItem.State.INTERRUPTED, error="The service stopped while the batch was running.", finished_at=now
        )
        return Batch.objects.filter(pk__in=ids, status=Batch.Status.RUNNING).update(
            status=Batch.Status.INTERRUPTED,
            failed=models.F("total") - models.F("succeeded"),
            idempotency_key=None,
            lease_expires_at=None,
            finished_at=now,
        )

    def finished_before(self, moment: datetime) -> Self:
        return self.filter(finished_at__lt=moment)


class Batch(models.Model):
    """The requests of one call. `owner` is None for an anonymous caller."""

    class Status(models.TextChoices):
        RECEIVING = "receiving", "receiving: its items are still on their way"
        QUEUED = "queued"
        RUNNING = "running"
        COMPLETED = "completed"
        CANCELLING = "cancelling"
        CANCELLED = "cancelled", "cancelled: its client went away or called it off"
        EXPIRED = "expired", "expired: its time was over"
        INTERRUPTED = "interrupted", "interrupted: its process died"

    class Priority(models.IntegerChoices):
        LOW = 0, "low"
        NORMAL = 1, "normal"

    OPEN = (Status.RECEIVING, Status.QUEUED, Status.RUNNING, Status.CANCELLING)
    FINAL = (Status.COMPLETED, Status.CANCELLED, Status.EXPIRED, Status.INTERRUPTED)

    id = models.CharField(primary_key=True, max_length=40, default=new_batch_id, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="batches",
        db_index=False,  # an index below begins with it
    )
    status = models.CharField(max_length=12, choices=Status, default=Status.RUNNING)
    total = models.PositiveIntegerField(help_text="How many items it has.")
    succeeded = models.PositiveIntegerField(default=0, help_text="Items answered with a status below 400.")
    failed = models.PositiveIntegerField(default=0, help_text="Items answered with 400 or above, or not at all.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    started_at = models.DateTimeField(null=True, blank=True, editable=False)
    finished_at = models.DateTimeField(null=True, blank=True, editable=False)
    duration = models.FloatField(null=True, blank=True, help_text="Seconds, from the call to its answer.")
    slowest = models.FloatField(null=True, blank=True, help_text="Seconds that its slowest item took.")
    request_id = models.CharField(max_length=128, blank=True, help_text="The X-Request-ID of the call.")
    client_address = models.CharField(max_length=64, blank=True)
    caller = models.CharField(max_length=64, help_text="Whose Idempotency-Key it is.")
    idempotency_key = models.CharField(max_length=255, null=True, blank=True)  # noqa: DJ001  # null: no key, not unique
    request_hash = models.CharField(max_length=64, blank=True)
    lease_expires_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="If it is running after this moment, its process died."
    )

    # Of background batches only.
    cancelled = models.PositiveIntegerField(default=0, help_text="Items that were called off.")
    expired = models.PositiveIntegerField(default=0, help_text="Items whose time was over before they started.")
    priority = models.PositiveSmallIntegerField(choices=Priority, default=Priority.NORMAL)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="What hasn't started by then never starts.")
    parent = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="retries", help_text="What it retries."
    )
    origin = models.JSONField(null=True, blank=True, editable=False)  # see batching.items.request_factory.dump
    identity = models.JSONField(null=True, blank=True, editable=False)  # see batching.run.identity
    retry_before = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="Until then the requests of its failed items are kept."
    )

    objects: ClassVar[models.Manager["Batch"]] = BatchQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-id"]
        verbose_name_plural = "batches"
        permissions = [("operate_batch", "Can cancel and retry batches")]
        indexes = [
            models.Index(fields=["-created_at", "-id"], name="batching_newest"),
            models.Index(fields=["owner", "-created_at", "-id"], name="batching_newest_of_an_owner"),
            models.Index(fields=["finished_at"], name="batching_finished"),
            models.Index(fields=["lease_expires_at"], condition=Q(status="running"), name="batching_leases"),
            models.Index(
                fields=["caller", "created_at"],
                condition=Q(finished_at=None, expires_at__isnull=False),
                name="batching_open_in_background",
            ),
            models.Index(fields=["retry_before"], condition=Q(retry_before__isnull=False), name="batching_retries"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["caller", "idempotency_key"], name="a_batch_key_once_a_caller"),
            models.CheckConstraint(
                condition=Q(status__in=["receiving", "queued", "running", "cancelling"], finished_at=None)
                | Q(status__in=["completed", "cancelled", "expired", "interrupted"], finished_at__isnull=False),
                name="a_batch_is_open_or_finished",
            ),
        ]

    def __str__(self) -> str:
        return self.id

    @property
    def is_background(self) -> bool:
        return self.expires_at is not None

    @property
    def is_fetched_later(self) -> bool:
        """Tell whether the caller may fetch the responses after the call: results or a replay."""
        return self.is_background or self.idempotency_key is not None

    @property
    def is_cancellable(self) -> bool:
        return self.is_background and self.status in (self.Status.QUEUED, self.Status.RUNNING)

    @property
    def left(self) -> int:
        """Return how many items have no final state yet."""
        return self.total - self.succeeded - self.failed - self.cancelled - self.expired

    @property
    def counts(self) -> dict[str, int]:
        """Return counts that add up to the total."""
        counts = {"total": self.total, "succeeded": self.succeeded, "failed": self.failed}
        if not self.is_background:
            return counts
        # Every lease is later. With this condition, SQLite uses the index of leases and doesn't read all items.
        leased = self.items.filter(lease_expires_at__gt=self.created_at)
        running = min(leased.count(), self.left) if self.left else 0
        rest = {"cancelled": self.cancelled, "expired": self.expired}
        return {**counts, **rest, "running": running, "queued": self.left - running}


class BatchItem(models.Model):
    """One request of a batch and its response.

    The response is whole and as it was if the caller may fetch it later (`Batch.is_fetched_later`). All else has its
    credentials masked and long bodies cut.
    """

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        SUCCEEDED = "succeeded", "succeeded: a status below 400"
        FAILED = "failed", "failed: a status of 400 or above"
        CANCELLED = "cancelled", "cancelled: its client went away or called it off"
        EXPIRED = "expired", "expired: its batch's time was over"
        INTERRUPTED = "interrupted", "interrupted: its process died"

    # The unique constraint below is its index.
    batch = models.ForeignKey(Batch, on_delete=models.CASCADE, related_name="items", db_index=False)
    position = models.PositiveIntegerField(help_text="Its place in the request, from 0.")
    item_id = models.CharField(max_length=255, blank=True, help_text="The id that the caller gave it.")
    given_id = models.JSONField(
        null=True, editable=False, help_text="The id of a refused item as it came, if item_id can't hold it."
    )
    state = models.CharField(max_length=12, choices=State, default=State.QUEUED)
    status = models.PositiveSmallIntegerField(null=True, blank=True, help_text="The HTTP status of its answer.")
    method = models.CharField(max_length=16, blank=True)
    path = models.TextField(blank=True, help_text="With its query, as it was asked for.")
    request_headers = models.JSONField(default=dict, blank=True)
    request_body = models.JSONField(null=True, blank=True)
    depends_on = models.JSONField(default=list, blank=True, help_text="Ids of items that have to succeed first.")
    response_headers = models.JSONField(default=dict, blank=True)
    response_body = models.JSONField(null=True, blank=True)
    encoding = models.CharField(max_length=8, blank=True, help_text="base64 where the answer is bytes.")
    error = models.TextField(blank=True)
    details = models.JSONField(null=True, blank=True)
    truncated = models.BooleanField(default=False, help_text="A body was too long to be kept whole.")
    queued_at = models.DateTimeField(default=timezone.now, editable=False)
    started_at = models.DateTimeField(null=True, blank=True, editable=False)
    finished_at = models.DateTimeField(null=True, blank=True, editable=False)
    duration = models.FloatField(null=True, blank=True, help_text="Seconds from its start to its answer.")
    # Of background batches only.
    call = models.TextField(null=True, editable=False)  # noqa: DJ001  # null: not kept (any more)
    not_before = models.DateTimeField(null=True, editable=False, help_text="When it may start.")
    lease_expires_at = models.DateTimeField(
        null=True, editable=False, help_text="If it is running after this moment, its process died."
    )
    fence = models.PositiveIntegerField(db_default=0, editable=False, help_text="How often it was claimed.")
    attempts = models.PositiveSmallIntegerField(db_default=0, editable=False, help_text="How often it was tried.")

    class Meta:
        ordering = ["batch", "position"]
        indexes = [
            models.Index(
                fields=["batch", "not_before", "position"],
                condition=Q(state="queued", not_before__isnull=False),
                name="batching_queue",
            ),
            models.Index(
                fields=["batch", "lease_expires_at"],
                condition=Q(lease_expires_at__isnull=False),
                name="batching_item_leases",
            ),
            # Covers all that the admin draws: the rows of items are long, and a batch may have very many.
            models.Index(
                fields=["batch", "state", "status", "duration", "started_at", "finished_at", "position"],
                condition=Q(finished_at__isnull=False),
                name="batching_drawn",
            ),
        ]
        constraints = [
            models.UniqueConstraint(fields=["batch", "position"], name="one_item_a_position"),
            models.CheckConstraint(
                condition=Q(state__in=["queued", "running"], finished_at=None)
                | Q(
                    state__in=["succeeded", "failed", "cancelled", "expired", "interrupted"], finished_at__isnull=False
                ),
                name="an_item_is_open_or_finished",
            ),
        ]

    def __str__(self) -> str:
        return self.item_id or f"#{self.position}"


class WebhookQuerySet(models.QuerySet["Webhook"]):
    def due(self) -> Self:
        """Return the webhooks whose next attempt is due, the longest overdue first."""
        waiting = self.filter(state=Webhook.State.WAITING, not_before__lte=timezone.now())
        return waiting.filter(batch__finished_at__isnull=False).order_by("not_before")


class Webhook(models.Model):
    """The webhook at the end of a background batch, and the state of its delivery."""

    class State(models.TextChoices):
        WAITING = "waiting", "waiting: for the end of its batch, or to be tried (again)"
        DELIVERED = "delivered"
        FAILED = "failed", "failed: given up"

    batch = models.OneToOneField(Batch, on_delete=models.CASCADE, primary_key=True, related_name="webhook")
    url = models.CharField(max_length=2_000)
    state = models.CharField(max_length=12, choices=State, default=State.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0, help_text="How often it was tried.")
    not_before = models.DateTimeField(default=timezone.now, help_text="When it may be tried.")
    error = models.CharField(max_length=100, blank=True, help_text="Why the last attempt failed.")

    objects: ClassVar[models.Manager["Webhook"]] = WebhookQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["not_before"], condition=Q(state="waiting"), name="batching_webhooks_waiting"),
        ]

    def __str__(self) -> str:
        return f"{self.batch_id}: {self.state}"

    def claim(self, until: datetime) -> bool:
        """Begin an attempt, unless another process has; without a result by `until`, it counts as failed."""
        return self._change(attempts=self.attempts + 1, not_before=until)

    def deliver(self) -> bool:
        return self._change(state=self.State.DELIVERED, error="")

    def put_off(self, error: str, until: datetime) -> bool:
        return self._change(error=error, not_before=until)

    def give_up(self, error: str) -> bool:
        return self._change(state=self.State.FAILED, error=error)

    def _change(self, **values: Any) -> bool:
        """Write values, unless another attempt has begun since."""
        same_attempt = Webhook.objects.filter(pk=self.pk, state=self.State.WAITING, attempts=self.attempts)
        changed = same_attempt.update(**values) == 1
        for name, value in values.items():
            setattr(self, name, value)
        return changed
