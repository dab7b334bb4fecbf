"""What an operator asks of the answers of a period; each is a query or two, where it is looked at."""

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

# Rows that a table has of agents and callers, and of single answers.
MOST_NAMES, MOST_ANSWERS = 10, 5
UNSUCCESSFUL = (Message.Status.FAILED, Message.Status.INTERRUPTED)
# What is long in a row, and isn't looked at here.
TEXTS = ("prompt", "text", "events")


@dataclass(slots=True)
class Tokens:
    """What the answers of someone read and wrote. `query` leads to them in the admin's list."""

    name: str
    query: str
    answers: int = 0
    failed: int = 0
    read: int = 0
    written: int = 0

    def add(self, status: str, answers: int, read: int, written: int) -> None:
        self.answers += answers
        self.failed += answers if status in UNSUCCESSFUL else 0
        self.read += read
        self.written += written


@dataclass(frozen=True, slots=True)
class RunningAnswers:
    """How many answers are being written now, and the oldest of them."""

    count: int = 0
    answers: list[Message] = field(default_factory=list)


class AnswerStatistics:
    """The answers that were asked for in a period."""

    def __init__(self, period: Period) -> None:
        self.period = period

    @property
    def messages(self) -> QuerySet[Message]:
        return Message.objects.filter(created_at__gte=self.period.since).order_by()

    @cached_property
    def counted(self) -> list[tuple[Any, ...]]:
        """Return slot, agent and status, how many answers there are of them, and what these read and wrote."""
        slots = self.messages.annotate(slot=Slot("created_at", self.period.slot), whose=unsorted("agent"))
        numbers = {"answers": Count("*"), "read": Sum("input_tokens"), "written": Sum("output_tokens")}
        return list(slots.values_list("slot", "whose", "status").annotate(**numbers))

    @cached_property
    def total(self) -> Tokens:
        total = Tokens("", self.query())
        for _, _, *numbers in self.counted:
            total.add(*numbers)
        return total

    @cached_property
    def statuses(self) -> list[Share]:
        counts = dict.fromkeys(Message.Status.values, 0)
        for _, _, status, answers, *_ in self.counted:
            counts[status] += answers
        return [Share(status, count, self.query(status__exact=status)) for status, count in counts.items()]

    @property
    def answers_chart(self) -> Chart:
        rows = ((slot, status, answers) for slot, _, status, answers, *_ in self.counted)
        return Chart.of(self.period, Message.Status.values, rows)

    @property
    def tokens_chart(self) -> Chart:
        """Return the tokens by when their answers were asked for."""
        rows = [(slot, *both) for slot, *_, read, written in self.counted for both in (("in", read), ("out", written))]
        return Chart.of(self.period, ["in", "out"], rows)

    @cached_property
    def agents(self) -> list[Tokens]:
        """Return the agents that were asked most."""
        agents: dict[str, Tokens] = {}
        for _, agent, *numbers in self.counted:
            agents.setdefault(agent, Tokens(agent, self.query(agent__id__exact=agent))).add(*numbers)
        return sorted(agents.values(), key=lambda agent: (-agent.answers, agent.name))[:MOST_NAMES]

    @cached_property
    def callers(self) -> list[Tokens]:
        """Return the callers whose answers took most tokens."""
        counted = (
            self.messages.annotate(whose=unsorted("caller"))
            .values_list("whose")
            .annotate(
                answers=Count("*"),
                failed=Count("status", filter=Q(status__in=UNSUCCESSFUL)),
                read=Sum("input_tokens"),
                written=Sum("output_tokens"),
                all=Sum(F("input_tokens") + F("output_tokens")),
            )
        )
        rows = list(counted.order_by("-all", "whose")[:MOST_NAMES])
        names = names_of(caller for caller, *_ in rows)
        return [Tokens(names.get(caller, caller), self.query(caller=caller), *numbers) for caller, *numbers, _ in rows]

    @cached_property
    def times(self) -> Percentiles | None:
        """Return how long completed answers took."""
        return Percentiles.of(self.messages.filter(status=Message.Status.COMPLETED), "processing_time")

    @cached_property
    def first_tokens(self) -> Percentiles | None:
        """Return how long the first tokens took, whatever became of their answers."""
        return Percentiles.of(self.messages, "time_to_first_token")

    @cached_property
    def slowest(self) -> list[Message]:
        return first(self.messages.filter(processing_time__isnull=False), "-processing_time", "id")

    @cached_property
    def failing(self) -> list[Message]:
        """Return the newest answers that failed or were interrupted."""
        if not self.total.failed:
            return []
        return first(self.messages.filter(status__in=UNSUCCESSFUL), "-created_at", "id")

    @cached_property
    def running(self) -> RunningAnswers:
        """Return what is being written now, whenever it was asked for."""
        running = Message.objects.filter(status=Message.Status.RUNNING).defer(*TEXTS)
        oldest = list(running.annotate(count=Window(Count("*"))).order_by("created_at", "id")[:MOST_ANSWERS])
        return RunningAnswers(oldest[0].count, oldest) if oldest else RunningAnswers()  # type: ignore[attr-defined]  # annotated

    def query(self, **chosen: str) -> str:
        return self.period.query("created_at", **chosen)


def unsorted(field: str) -> Coalesce:
    """Return a field that no index has sorted: SQLite would read all rows in its order, whatever their age."""
    return Coalesce(field, Value(""))


def first(messages: QuerySet[Message], *order: str) -> list[Message]:
    """Return the first messages of an order. They are found in an index: to sort rows as long as these takes long."""
    found = messages.order_by(*order).values("pk")[:MOST_ANSWERS]
    return list(Message.objects.defer(*TEXTS).filter(pk__in=found).order_by(*order))


def names_of(callers: Iterable[str]) -> dict[str, str]:
    """Return the names of the users among callers (`user:1`); who was deleted has none."""
    users = get_user_model()
    ids = [caller.removeprefix("user:") for caller in callers if caller.startswith("user:")]
    return {f"user:{user.pk}": user.get_username() for user in users._default_manager.filter(pk__in=ids)}
