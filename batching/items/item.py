"""An item of a batch: one record from what was asked to what was answered."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ItemRequest:
    """What an item asks for. `path` has its query; `has_body` tells a body of null from none at all."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    has_body: bool = False


@dataclass(frozen=True, slots=True)
class ItemResponse:
    """How an item was answered: with a body, or from status 400 on with an error."""

    status: int
    body: Any = None
    error: str = ""
    details: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    encoding: str = ""

    @property
    def succeeded(self) -> bool:
        return self.status < 400


@dataclass(slots=True, eq=False)
class Item:
    """One place in a batch. `asked` is the item as it came; `call` is None where it can't be carried out.

    `refers` tells whether values of other answers go into it; `started` and `finished` are monotonic moments.
    """

    position: int
    id: Any
    asked: Any
    call: ItemRequest | None = None
    depends_on: tuple[str, ...] = ()
    refers: bool = False
    answer: ItemResponse | None = None
    started: float | None = None
    finished: float | None = None
    cancelled: bool = False
    _gate: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> bool:
        """Claim the start, once: False when it has begun, or was called off."""
        if not self._gate.acquire(blocking=False):
            return False
        self.started = time.monotonic()
        return True

    def call_off(self) -> bool:
        """See to it that it never starts: False when it has begun."""
        return self._gate.acquire(blocking=False)

    def settle(self, answer: ItemResponse, finished: float | None = None) -> bool:
        """Take the first answer and none that comes later. Called in the thread of the event loop only."""
        if self.answer is not None:
            return False
        self.answer = answer
        self.finished = finished or time.monotonic()
        return True

    @property
    def processing_time(self) -> float:
        if self.started is None or self.finished is None:
            return 0.0
        return round(self.finished - self.started, 6)

    def represent(self) -> dict[str, Any]:
        """Return what the envelope says of an item that is answered."""
        assert self.answer is not None  # noqa: S101  # for the type checker
        return represent(self.id, self.answer, self.processing_time)


def represent(item_id: Any, answer: ItemResponse, processing_time: float) -> dict[str, Any]:
    """Return an item as the envelope has it."""
    outcome = {"body": answer.body} if answer.succeeded else {"error": answer.error}
    extras = {"details": answer.details, "encoding": answer.encoding, "headers": dict(answer.headers)}
    return {
        "id": item_id,
        "status": answer.status,
        **outcome,
        **{name: value for name, value in extras.items() if value},
        "processing_time": processing_time,
    }
