"""The state of a batch or an item as a short label with a colour."""

from dataclasses import dataclass
from http import HTTPStatus

from django.utils import timezone

from batching.models import Batch, BatchItem


@dataclass(frozen=True, slots=True)
class Badge:
    """A state in a few words. `tone` is its colour class: good, warning, bad, quiet or busy."""

    tone: str
    label: str


def batch_badge(batch: Batch) -> Badge:
    if is_abandoned(batch):
        return Badge("bad", "running, lease over")
    tones = {Batch.Status.COMPLETED: "good", Batch.Status.CANCELLED: "quiet"}
    tone = "busy" if batch.status in Batch.OPEN else tones.get(Batch.Status(batch.status), "bad")
    return Badge(tone, batch.status)


def item_badge(state: str, status: int | None) -> Badge:
    """Return the badge of an item."""
    if state in (BatchItem.State.QUEUED, BatchItem.State.RUNNING):
        return Badge("busy", state)
    if status is None:
        return Badge("bad", state)
    label = f"{status} {reason_phrase(status)}".strip()
    if state in (BatchItem.State.CANCELLED, BatchItem.State.EXPIRED):
        return Badge("quiet", f"{state}, {label}")
    return Badge("good" if status < 400 else "warning" if status < 500 else "bad", label)


def reason_phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def is_abandoned(batch: Batch) -> bool:
    """Tell whether a batch is still marked as running although its process is gone."""
    lease = batch.lease_expires_at
    return batch.status == Batch.Status.RUNNING and lease is not None and lease < timezone.now()
