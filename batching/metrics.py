"""Metrics for Prometheus, in its client's own registry: importing this module registers them.

It needs the extra `metrics`.
"""

import logging
from collections.abc import Iterator
from typing import Any

from django.db import DatabaseError
from django.db.models import F, Min, Sum
from django.dispatch import receiver
from django.utils import timezone

from batching.models import Batch, BatchItem
from batching.signals import batch_finished
from wire.asgi.threads import give_connections_back
from wire.extras import needs_extra

with needs_extra("metrics", "batching.metrics"):
    from prometheus_client import REGISTRY, Counter
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector

__all__ = []

logger = logging.getLogger(__name__)

BATCHES = Counter("batching_batches", "Batches that have ended.", ["outcome"])
ITEMS = Counter("batching_items", "Items of batches that have ended, counted with their batch.", ["outcome"])
LEFT = F("total") - F("succeeded") - F("failed") - F("cancelled") - F("expired")


@receiver(batch_finished)
def count_batch(batch: Batch, **kwargs: Any) -> None:
    for outcome in ("succeeded", "failed", "cancelled", "expired"):
        ITEMS.labels(outcome).inc(getattr(batch, outcome))
    BATCHES.labels(batch.status).inc()


class Queue(Collector):
    """The current queue of background batches, from the rows: the same in each process."""

    def describe(self) -> Iterator[GaugeMetricFamily]:
        yield items_gauge()
        yield oldest_gauge()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        try:
            waiting, running, age = depth()
        except DatabaseError:  # the other metrics matter most while the database is away
            logger.exception("metrics=queue state=unknown")
            return
        items = items_gauge()
        items.add_metric(["waiting"], waiting)
        items.add_metric(["running"], running)
        yield items
        yield oldest_gauge(age)


def items_gauge() -> GaugeMetricFamily:
    return GaugeMetricFamily(
        "batching_queue_items", "Items of background batches that have not ended.", labels=["state"]
    )


def oldest_gauge(age: float | None = None) -> GaugeMetricFamily:
    return GaugeMetricFamily(
        "batching_queue_oldest_seconds", "The age of the oldest background batch that has not ended.", value=age
    )


def depth() -> tuple[int, int, float]:
    """Return how many items wait, how many run, and the age of the oldest open batch in seconds."""
    try:
        opened = Batch.objects.open_in_background().accepted().aggregate(left=Sum(LEFT), oldest=Min("created_at"))
        running = BatchItem.objects.filter(lease_expires_at__isnull=False).count()
    finally:
        give_connections_back()  # the thread may be one in which no request ends
    age = (timezone.now() - opened["oldest"]).total_seconds() if opened["oldest"] else 0.0
    return max(0, (opened["left"] or 0) - running), running, age


REGISTRY.register(Queue())
