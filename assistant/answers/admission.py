"""The number of answers that this process writes at once: in all, for one caller, by one model."""

import secrets
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import RLock
from types import TracebackType
from typing import Self

from assistant.errors import AssistantError
from assistant.signals import answer_refused

# Seconds after which a refused caller may come back; they differ, so that callers don't come back together.
RETRY_AFTER = range(1, 6)

CALLER, PROCESS, MODEL = "caller", "process", "model"


@dataclass(frozen=True, slots=True)
class Bound:
    """At most `places` answers at once on a process, a caller or a model; a further one is refused with `refusal`.

    `which` tells one caller or model from another.
    """

    on: str
    places: int
    refusal: type[AssistantError]
    which: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.on, self.which


class Admission:
    """Counts the places that are taken, under a lock: requests are handled in threads."""

    def __init__(self) -> None:
        self._taken: defaultdict[tuple[str, str], int] = defaultdict(int)
        # The garbage collector may end a lost place while this thread takes one.
        self._lock = RLock()

    def place(self, bounds: Sequence[Bound]) -> "Place":
        """Take a place under each of the bounds. Raises the refusal of the first one that is full, and takes none."""
        self._take(bounds)
        return Place(self, bounds)

    def taken(self) -> dict[tuple[str, str], int]:
        """Return how many places are taken, by the bounds' keys."""
        with self._lock:
            return dict(self._taken)

    def _take(self, bounds: Sequence[Bound]) -> None:
        with self._lock:
            for bound in bounds:
                if self._taken.get(bound.key, 0) >= bound.places:
                    answer_refused.send_robust(Admission, bound=bound)
                    raise bound.refusal(retry_after=secrets.choice(RETRY_AFTER))
            for bound in bounds:
                self._taken[bound.key] += 1

    def give_back(self, bounds: Sequence[Bound]) -> None:
        with self._lock:
            for bound in bounds:
                self._taken[bound.key] -= 1
                if not self._taken[bound.key]:
                    del self._taken[bound.key]


class Place:
    """A place that is taken until it is closed or lost. It may be closed again."""

    __slots__ = ("_admission", "_bounds")

    def __init__(self, admission: Admission, bounds: Sequence[Bound]) -> None:
        self._admission, self._bounds = admission, bounds

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        bounds, self._bounds = self._bounds, ()
        self._admission.give_back(bounds)

    __del__ = close


admission = Admission()
