"""How many answers this process writes at once: in all, for one caller, by one model."""

import secrets
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import RLock

from assistant.errors import AssistantError
from assistant.signals import answer_refused

# Seconds after which a refused caller may come back: not all of them at once.
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
    """Counts the places that are taken. Requests are handled in threads, so that it is locked."""

    def __init__(self) -> None:
        self._taken: defaultdict[tuple[str, str], int] = defaultdict(int)
        # The collector may end a place that nobody holds any more while this thread takes one.
        self._lock = RLock()

    @contextmanager
    def place(self, bounds: Sequence[Bound]) -> Iterator[None]:
        """Hold a place under each of the bounds. Raises the refusal of the first one that is full, and holds none."""
        self._take(bounds)
        try:
            yield
        finally:
            self._give_back(bounds)

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

    def _give_back(self, bounds: Sequence[Bound]) -> None:
        with self._lock:
            for bound in bounds:
                self._taken[bound.key] -= 1
                if not self._taken[bound.key]:
                    del self._taken[bound.key]


admission = Admission()
