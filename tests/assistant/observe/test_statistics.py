"""What an operator asks of answers, against rows that are known."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from assistant.models import Agent, Conversation, Message
from assistant.observe.statistics import AnswerStatistics
from wire.observe.statistics import Percentiles, Period

pytestmark = pytest.mark.usefixtures("db")


def answer(minutes: float = 1, **fields: Any) -> Message:
    """Store an answer that was asked for so many minutes ago."""
    agent = Agent.objects.get(pk=fields.pop("agent", "default"))
    conversation = Conversation.objects.create(agent=agent)
    asked = timezone.now() - timedelta(minutes=minutes)
    values = {"status": "completed", "model": "x", "caller": "anonymous", "created_at": asked, **fields}
    return Message.objects.create(conversation=conversation, agent=agent, prompt="Hi", **values)


def statistics(period: str = "hour") -> AnswerStatistics:
    return AnswerStatistics(Period.named(period))


def test_answers_are_counted_by_status() -> None:
    for status in ("completed", "completed", "failed", "interrupted", "cancelled", "running"):
        answer(status=status, input_tokens=3, output_tokens=2)
    answer(61)
    found = statistics()
    counts = {share.name: share.count for share in found.statuses}
    assert counts == {"completed": 2, "failed": 1, "interrupted": 1, "cancelled": 1, "running": 1}
    total = found.total
    assert (total.answers, total.failed, total.input_tokens, total.output_tokens) == (6, 2, 18, 12)


def test_charts_have_each_number_in_its_slot() -> None:
    answer(0, input_tokens=5, output_tokens=7)
    answer(30, status="failed", input_tokens=1)
    found = statistics()
    [(early, failed), (late, completed)] = found.answers_chart.rows
    assert late - early == timedelta(minutes=30)
    names = [series.name for series in found.answers_chart.series]
    assert (names[failed.index(1)], names[completed.index(1)]) == ("failed", "completed")
    assert [numbers for _, numbers in found.tokens_chart.rows] == [(1, 0), (5, 7)]


def test_times_are_those_of_completed_answers_and_of_first_tokens() -> None:
    for number in range(1, 21):
        answer(processing_time=number * 1.0, time_to_first_token=number / 10)
    answer(status="failed", processing_time=500.0, time_to_first_token=0.05)
    answer(status="running")
    assert statistics().times == Percentiles(20, 10.0, 19.0)
    assert statistics().first_tokens == Percentiles(21, 1.0, 1.9)


def test_tokens_by_agent_and_by_caller() -> None:
    ada = User.objects.create_user("ada")
    answer(agent="researcher", caller=f"user:{ada.pk}", input_tokens=100, output_tokens=10)
    answer(caller=f"user:{ada.pk}", input_tokens=5, output_tokens=1)
    answer(caller="user:987654", status="failed", input_tokens=9)
    answer(caller="anonymous")
    found = statistics()
    agents = [(one.name, one.answers, one.failed, one.input_tokens, one.output_tokens) for one in found.agents]
    assert agents == [("default", 3, 1, 14, 1), ("researcher", 1, 0, 100, 10)]
    callers = [(one.name, one.answers, one.failed, one.input_tokens, one.output_tokens) for one in found.callers]
    assert callers == [("ada", 2, 0, 105, 11), ("user:987654", 1, 1, 9, 0), ("anonymous", 1, 0, 0, 0)]


def test_the_slowest_the_failing_and_the_running() -> None:
    slow, quick = answer(processing_time=9.0), answer(processing_time=1.0)
    older, newer = answer(3, status="interrupted"), answer(2, status="failed")
    old, young = answer(8 * 24 * 60, status="running"), answer(5, status="running")
    found = statistics()
    assert found.slowest == [slow, quick]
    assert found.failing == [newer, older]
    assert (found.running.count, found.running.answers) == (2, [old, young])


def test_nothing_is_nothing() -> None:
    found = statistics("week")
    assert (found.total.answers, found.times, found.first_tokens) == (0, None, None)
    assert found.agents == found.callers == []
    assert (found.slowest, found.failing, found.running.count, found.answers_chart.rows) == ([], [], 0, [])


def test_the_queries_do_not_grow_with_the_rows(django_assert_num_queries: Any) -> None:
    for number in range(20):
        user = User.objects.create_user(f"user{number}")
        answer(number, caller=f"user:{user.pk}", processing_time=1.0, time_to_first_token=0.1)
        answer(number, caller=f"user:{user.pk}", status="failed")
        answer(number, caller=f"user:{user.pk}", status="running")
    found = statistics()
    with django_assert_num_queries(8):
        for name in ("total", "statuses", "answers_chart", "tokens_chart", "agents", "callers"):
            getattr(found, name)
        for name in ("times", "first_tokens", "slowest", "failing", "running"):
            getattr(found, name)


def test_what_is_older_is_not_read() -> None:
    if connection.vendor != "sqlite":
        return  # PostgreSQL knows how old its rows are; SQLite goes by what the indexes promise
    answer(status="failed")
    with CaptureQueriesContext(connection) as queries:
        found = statistics()
        assert (len(found.agents), len(found.callers), found.times, len(found.failing)) == (1, 1, None, 1)
        assert (found.slowest, found.first_tokens) == ([], None)
    with connection.cursor() as cursor:
        for query in queries.captured_queries:
            cursor.execute(f"EXPLAIN QUERY PLAN {query['sql']}")  # a query of our own
            plan = [step for *_, step in cursor.fetchall()]
            assert not [step for step in plan if step.startswith("SCAN assistant_message")], plan
