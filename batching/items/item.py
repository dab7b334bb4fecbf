"""An item of a batch: one record that holds the request and, later, the response."""

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from wire.errors import WireError


@dataclass(frozen=True, slots=True)
class ItemRequest:
    """The call that an item asks for. `path` includes the query; `has_body` tells a null body from no body."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    has_body: bool = False

    def dump(self) -> str:
        """Return the whole request as text for `load`, credentials included."""
        return json.dumps({name: getattr(self, name) for name in ItemRequest.__slots__})

    @classmethod
    def load(cls, text: str) -> Self:
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class ItemResponse:
    """The response to an item: a body, or an error from status 400 on. If `is_final`, a retry would fail as well."""

    status: int
    body: Any = None
    error: str = ""
    details: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    encoding: str = ""
    is_final: bool = False

    @classmethod
    def from_error(cls, error: WireError) -> Self:
        return cls(error.status, error=error.message, details=error.details)

    @property
    def succeeded(self) -> bool:
        return self.status < 400


@dataclass(slots=True, eq=False)
class Item:
    """One place in a batch. `raw` is the item as it came; `request` is None where it can't be executed.

    `has_references` tells whether values from other responses go into the request. `started` and `finished` are
    monotonic.
    """

    position: int
    id: Any
    raw: Any
    request: ItemRequest | None = None
    depends_on: tuple[str, ...] = ()
    has_references: bool = False
    response: ItemResponse | None = None
    started: float | None = None
    finished: float | None = None
    cancelled: bool = False
    _gate: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> bool:
        """Claim the start, once: False when it has started, or may not start any more."""
        if not self._gate.acquire(blocking=False):
            return False
        self.started = time.monotonic()
        return True

    def prevent_start(self) -> bool:
        """Make sure that it never starts: False when it has started."""
        return self._gate.acquire(blocking=False)

    def settle(self, response: ItemResponse, finished: float | None = None) -> bool:
        """Take the first response and no later one. Called in the thread of the event loop only."""
        if self.response is not None:
            return False
        self.response = response
        self.finished = finished or time.monotonic()
        return True

    @property
    def processing_time(self) -> float:
        if self.started is None or self.finished is None:
            return 0.0
        return round(self.finished - self.started, 6)

    def represent(self) -> dict[str, Any]:
        """Return a settled item as the envelope holds it."""
        assert self.response is not None  # noqa: S101  # for the type checker
        return represent(self.id, self.response, self.processing_time)


def represent(item_id: Any, response: ItemResponse, processing_time: float) -> dict[str, Any]:
    """Return an item as the envelope holds it."""
    outcome = {"body": response.body} if response.succeeded else {"error": response.error}
    extras = {"details": response.details, "encoding": response.encoding, "headers": dict(response.headers)}
    return {
        "id": item_id,
        "status": response.status,
        **outcome,
        **{name: value for name, value in extras.items() if value},
        "processing_time": processing_time,
    }
