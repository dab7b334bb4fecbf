"""Statistics of the answers of a period; each is one or two queries, made on access."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Count, F, Q, QuerySet, Sum, Value, Window
from django.db.models.functions import Coalesce

from assistant.models import Message
from wire.observe.statistics import Chart, Percentiles, Period, Share, Slot

__all__ = ["AnswerStatistics"]

# Rows of a table of agents or callers, and of a table of answers.
MAX_NAMES, MAX_ANSWERS = 10, 5
UNSUCCESSFUL = (Message.Status.FAILED, Message.Status.INTERRUPTED)
# Long columns, which aren't needed here.
TEXTS = ("prompt", "text", "events")


@dataclass(slots=True)
class TokenTotals:
    """The tokens of an agent's or caller's answers. `query` selects them in the admin's list."""

    name: str
    query: str
    answers: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def add(self, status: str, answers: int, input_tokens: int, output_tokens: int) -> None:
        self.answers += answers
        self.failed += answers if status in UNSUCCESSFUL else 0
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens


@dataclass(frozen=True, slots=True)
class RunningAnswers:
    """The number of answers that are being written, and the oldest of them."""

    count: int = 0
    answers: list[Message] = field(default_factory=list)


class AnswerStatistics:
    """The answers whose questions were asked in a period."""

    def __init__(self, period: Period) -> None:
        self.period = period

    @property
    def messages(self) -> QuerySet[Message]:
        return Message.objects.filter(created_at__gte=self.period.since).order_by()

    @cached_property
    def counts_by_slot(self) -> list[tuple[Any, ...]]:
        """Return rows of slot, agent, status, number of answers, input and output tokens."""
        slots = self.messages.annotate(slot=Slot("created_at", self.period.slot), group=without_index_order("agent"))
        numbers = {"answers": Count("*"), "total_in": Sum("input_tokens"), "total_out": Sum("output_tokens")}
        return list(slots.values_list("slot", "group", "status").annotate(**numbers))

    @cached_property
    def total(self) -> TokenTotals:
        total = TokenTotals("", self.query())
        for _, _, *numbers in self.counts_by_slot:
            total.add(*numbers)
        return total

    @cached_property
    def statuses(self) -> list[Share]:
        counts = dict.fromkeys(Message.Status.values, 0)
        for _, _, status, answers, *_ in self.counts_by_slot:
            counts[status] += answers
        return [Share(status, count, self.query(status__exact=status)) for status, count in counts.items()]

    @property
    def answers_chart(self) -> Chart:
        rows = ((slot, status, answers) for slot, _, status, answers, *_ in self.counts_by_slot)
        return Chart.of(self.period, Message.Status.values, rows)

    @property
    def tokens_chart(self) -> Chart:
        """Return the tokens by the time of their questions."""
        inputs = [(slot, "in", tokens) for slot, *_, tokens, _ in self.counts_by_slot]
        outputs = [(slot, "out", tokens) for slot, *_, tokens in self.counts_by_slot]
        return Chart.of(self.period, ["in", "out"], inputs + outputs)

    @cached_property
    def agents(self) -> list[TokenTotals]:
        """Return the agents with most answers."""
        agents: dict[str, TokenTotals] = {}
        for _, agent, *numbers in self.counts_by_slot:
            agents.setdefault(agent, TokenTotals(agent, self.query(agent__id__exact=agent))).add(*numbers)
        return sorted(agents.values(), key=lambda agent: (-agent.answers, agent.name))[:MAX_NAMES]

    @cached_property
    def callers(self) -> list[TokenTotals]:
        """Return the callers with most tokens."""
        counts = (
            self.messages.annotate(group=without_index_order("caller"))
            .values_list("group")
            .annotate(
                answers=Count("*"),
                failed=Count("status", filter=Q(status__in=UNSUCCESSFUL)),
                total_in=Sum("input_tokens"),
                total_out=Sum("output_tokens"),
                all=Sum(F("input_tokens") + F("output_tokens")),
            )
        )
        rows = list(counts.order_by("-all", "group")[:MAX_NAMES])
        names = usernames(caller for caller, *_ in rows)
        return [
            TokenTotals(names.get(caller, caller), self.query(caller=caller), *numbers) for caller, *numbers, _ in rows
        ]

    @cached_property
    def times(self) -> Percentiles | None:
        """Return the durations of completed answers."""
        return Percentiles.of(self.messages.filter(status=Message.Status.COMPLETED), "processing_time")

    @cached_property
    def first_tokens(self) -> Percentiles | None:
        """Return the times to the first token, of answers with any status."""
        return Percentiles.of(self.messages, "time_to_first_token")

    @cached_property
    def slowest(self) -> list[Message]:
        return top(self.messages.filter(processing_time__isnull=False), "-processing_time", "id")

    @cached_property
    def failing(self) -> list[Message]:
        """Return the newest answers that failed or were interrupted."""
        if not self.total.failed:
            return []
        return top(self.messages.filter(status__in=UNSUCCESSFUL), "-created_at", "id")

    @cached_property
    def running(self) -> RunningAnswers:
        """Return the running answers, including those from before the period."""
        running = Message.objects.filter(status=Message.Status.RUNNING).defer(*TEXTS)
        oldest = list(running.annotate(count=Window(Count("*"))).order_by("created_at", "id")[:MAX_ANSWERS])
        return RunningAnswers(oldest[0].count, oldest) if oldest else RunningAnswers()  # type: ignore[attr-defined]  # annotated

    def query(self, **chosen: str) -> str:
        return self.period.query("created_at", **chosen)


def without_index_order(field: str) -> Coalesce:
    """Return a field as an expression without an index: SQLite would read all rows in the index's order."""
    return Coalesce(field, Value(""))


def top(messages: QuerySet[Message], *order: str) -> list[Message]:
    """Return the first messages of an order, found by an index: sorting such long rows is slow."""
    found = messages.order_by(*order).values("pk")[:MAX_ANSWERS]
    return list(Message.objects.defer(*TEXTS).filter(pk__in=found).order_by(*order))


def usernames(callers: Iterable[str]) -> dict[str, str]:
    """Return the names of the users among callers (`user:1`), without deleted ones."""
    users = get_user_model()
    ids = [caller.removeprefix("user:") for caller in callers if caller.startswith("user:")]
    return {f"user:{user.pk}": user.get_username() for user in users._default_manager.filter(pk__in=ids)}
