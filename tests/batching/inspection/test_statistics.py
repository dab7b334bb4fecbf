"""What an operator asks of batches, against rows that are known."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from batching.inspection.statistics import BatchStatistics
from batching.models import Batch, BatchItem
from wire.observe.statistics import PERIODS, Percentiles, Period

pytestmark = pytest.mark.usefixtures("db")


def make(minutes: float = 1, *durations: float, **fields: Any) -> Batch:
    """Make a batch that came so many minutes ago, with items that succeeded in so many seconds."""
    came = timezone.now() - timedelta(minutes=minutes)
    is_open = fields.get("status") in Batch.OPEN
    ended = {} if is_open else {"finished_at": came, "status": "completed", "succeeded": len(durations)}
    values = {"total": len(durations), "caller": "x", "created_at": came, **ended, **fields}
    batch = Batch.objects.create(**values)
    BatchItem.objects.bulk_create(
        BatchItem(
            batch=batch,
            position=position,
            state="succeeded",
            status=200,
            started_at=came,
            finished_at=came,
            duration=duration,
        )
        for position, duration in enumerate(durations)
    )
    return batch


def statistics(period: str = "hour") -> BatchStatistics:
    return BatchStatistics(Period.named(period))


def test_batches_and_items_are_counted_by_status_and_state() -> None:
    make(1, total=5, succeeded=3, failed=2)
    make(2, total=4, succeeded=1, status="cancelled", cancelled=3)
    make(3, total=9, succeeded=2, failed=1, expired=1, status="running", expires_at=timezone.now())
    found = statistics()
    counts = {share.name: share.count for share in found.statuses if share.count}
    assert counts == {"completed": 1, "cancelled": 1, "running": 1}
    assert (found.total.count, found.items) == (3, 18)
    assert dict(found.states) == {"succeeded": 6, "failed": 3, "cancelled": 3, "expired": 1, "open": 5}


@pytest.mark.parametrize(("period", "count"), [("hour", 1), ("day", 2), ("week", 3), ("unheard of", 1)])
def test_a_period_has_what_came_in_it(period: str, count: int) -> None:
    for minutes in (59, 23 * 60, 6 * 24 * 60, 8 * 24 * 60):
        make(minutes, 1.0)
    found = statistics(period)
    assert found.total.count == count
    assert sum(sum(series.numbers) for series in found.items_chart.series) == count
    assert len(found.items_chart.rows) == count
    assert found.item_times == Percentiles(count, 1.0, 1.0)


def test_percentiles_are_the_nearest_ranks() -> None:
    make(1, *(number / 100 for number in range(1, 101)), duration=3.0)
    make(1, duration=70.0)
    assert statistics().item_times == Percentiles(100, 0.5, 0.95)
    assert statistics().times == Percentiles(2, 3.0, 70.0)


@pytest.mark.parametrize("seconds", [0.00043, 0.0123, 0.0999, 0.1, 0.123, 4.56, 78.9, 119.0, 999.9, 86_400.0])
def test_a_percentile_is_true_to_three_digits(seconds: float) -> None:
    make(1, seconds)
    times = statistics().item_times
    assert times
    assert times.p50 == pytest.approx(seconds, rel=0.005 if seconds > 0.001 else 0.05)


def test_what_failed_or_never_ran_has_no_part_in_the_times_of_items() -> None:
    batch = make(1, 1.0)
    values = {"batch": batch, "finished_at": timezone.now()}
    BatchItem.objects.create(**values, position=1, state="failed", duration=9.0)
    BatchItem.objects.create(**values, position=2, state="cancelled")
    assert statistics().item_times == Percentiles(1, 1.0, 1.0)


def test_nothing_has_no_times() -> None:
    found = statistics()
    assert (found.times, found.item_times, found.slowest, found.failing) == (None, None, [], [])
    assert (found.total.count, found.items, found.running.count, found.running.left) == (0, 0, 0, 0)


def test_the_slowest_the_failing_and_the_open() -> None:
    quick = make(5, slowest=0.5)
    slow = make(4, slowest=9.0, failed=1, total=1)
    old = make(8 * 24 * 60, slowest=99.0, failed=1, status="running", total=3, expires_at=timezone.now())
    new = make(3, status="queued", total=4, expires_at=timezone.now())
    found = statistics()
    assert found.slowest == [slow, quick]
    assert found.failing == [slow]
    assert (found.running.batches, found.running.count, found.running.left) == ([new, old], 2, 6)


@pytest.mark.parametrize("name", PERIODS)
def test_the_slots_reach_from_the_beginning_to_now(name: str) -> None:
    period = Period.named(name)
    assert period.slots[0] <= period.since < period.slots[1]
    assert period.slots[-1] <= period.now < period.slots[-1] + (period.slots[1] - period.slots[0])


def test_the_queries_do_not_grow_with_the_rows(django_assert_num_queries: Any) -> None:
    for number in range(30):
        make(number, 1.0, 2.0, slowest=2.0, failed=1, total=3)
        make(number, status="running", total=2)
    found = statistics()
    with django_assert_num_queries(6):
        for name in ("statuses", "states", "items_chart", "times", "item_times", "slowest", "failing", "running"):
            getattr(found, name)


def test_what_is_older_is_not_read() -> None:
    if connection.vendor != "sqlite":
        return  # PostgreSQL knows how old its rows are; SQLite goes by what the indexes promise
    make(1, 1.0, failed=1, slowest=1.0)
    with CaptureQueriesContext(connection) as queries:
        found = statistics()
        assert (found.total.count, found.times, found.item_times) == (1, None, Percentiles(1, 1.0, 1.0))
        assert len(found.slowest) == len(found.failing) == 1
    with connection.cursor() as cursor:
        for query in queries.captured_queries:
            cursor.execute(f"EXPLAIN QUERY PLAN {query['sql']}")
            plan = [step for *_, step in cursor.fetchall()]
            assert not [step for step in plan if step.startswith("SCAN batching")], plan
