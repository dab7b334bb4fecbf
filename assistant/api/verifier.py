"""The legal order of a stream's events, for tests of the service and of its clients. It needs nothing but Python.

    start (token | tool_call | tool_result)* (end | error)

Numbered from 1 without a gap; a tool_result answers a tool_call that is open; exactly one end or error, last.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

__all__ = ["IllegalStream", "Verifier", "verify"]

# The fields that each event has, and those that it may have.
FIELDS: dict[str, tuple[set[str], set[str]]] = {
    "start": ({"message_id", "conversation_id", "agent_id"}, set()),
    "token": ({"content"}, set()),
    "tool_call": ({"tool_call_id", "name", "parameters"}, set()),
    "tool_result": ({"tool_call_id", "name", "result", "status"}, set()),
    "error": ({"message", "code", "retryable"}, {"retry_after"}),
    "end": ({"message_id", "finish_reason", "usage", "processing_time"}, set()),
}
FINISH_REASONS = {"stop", "length", "cancelled"}
FRAME = re.compile(r"id: ([1-9][0-9]*)\ndata: ([^\r\n]+)", re.ASCII)


class IllegalStream(AssertionError):
    """The stream breaks the API's promise; the text says where."""


class Verifier:
    """Checks events as they come: `see` each of them, then `close`.

    `after` is the cursor of a stream that was resumed, `chunk_size` the most characters that a token may have.
    """

    def __init__(self, *, after: int = 0, chunk_size: int | None = None) -> None:
        self.number = self.after = after
        self.chunk_size = chunk_size
        self.ended = False
        self._message_id: str | None = None
        self._calls: dict[str, str] = {}

    def see(self, number: int, event: dict[str, Any]) -> None:
        """Take the next event. Raises `IllegalStream` where it may not come here."""
        demand(not self.ended, f"event {number} comes after the last one")
        demand(number == self.number + 1, f"event {number} comes after event {self.number}")
        kind = check_fields(event)
        demand((kind == "start") == (number == 1), f"event {number} is of type {kind}")
        self.number = number
        match kind:
            case "start":
                self._message_id = event["message_id"]
            case "token":
                self._see_token(event["content"])
            case "tool_call":
                self._open(event["tool_call_id"], event["name"])
            case "tool_result":
                self._answer(event["tool_call_id"], event["name"])
            case _:
                self._end(event)

    def close(self) -> None:
        """Tell that the connection has closed. Raises `IllegalStream` where the stream was cut."""
        nothing_was_left = self.after > 0 and self.number == self.after
        demand(self.ended or nothing_was_left, f"the stream was cut after event {self.number}: no end, no error")

    def _see_token(self, content: str) -> None:
        demand(content != "", f"event {self.number} is an empty token")
        demand(
            self.chunk_size is None or len(content) <= self.chunk_size,
            f"event {self.number} is a token of {len(content)} characters",
        )

    def _open(self, call: str, name: str) -> None:
        demand(call not in self._calls, f"event {self.number} calls {call} again before it was answered")
        self._calls[call] = name

    def _answer(self, call: str, name: str) -> None:
        # The call may have come before the cursor.
        demand(call in self._calls or self.after > 0, f"event {self.number} answers {call}, which isn't open")
        demand(self._calls.pop(call, name) == name, f"event {self.number} answers {call} as {name}")

    def _end(self, event: dict[str, Any]) -> None:
        self.ended = True
        if event["type"] == "end":
            demand(event["finish_reason"] in FINISH_REASONS, f"the answer finished as {event['finish_reason']}")
            demand(self._message_id in (None, event["message_id"]), "start and end name different messages")


def verify(stream: bytes, *, after: int = 0, chunk_size: int | None = None) -> list[dict[str, Any]]:
    """Return the events of a whole stream as it was received. Raises `IllegalStream`."""
    verifier = Verifier(after=after, chunk_size=chunk_size)
    events = []
    for number, event in read_frames(stream):
        verifier.see(number, event)
        events.append(event)
    verifier.close()
    return events


def read_frames(stream: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (id, event) of each frame; comment lines are passed over. Raises `IllegalStream`."""
    demand(stream.isascii(), "the stream isn't ASCII")
    *frames, rest = stream.decode("ascii").split("\n\n")
    demand(rest == "", f"the stream was cut inside a frame: {rest!r}")
    for frame in frames:
        if frame.startswith(":") and "\n" not in frame:
            continue
        found = FRAME.fullmatch(frame)
        if found is None:
            raise IllegalStream(f"a frame isn't one id: and one data: line: {frame!r}")
        yield int(found[1]), json.loads(found[2])


def check_fields(event: dict[str, Any]) -> str:
    """Return the event's type, its fields checked against those of the type."""
    kind = event.get("type")
    demand(kind in FIELDS, f"there is no event of type {kind!r}")
    has, may_have = FIELDS[str(kind)]
    names = event.keys() - {"type"}
    demand(has <= names <= has | may_have, f"a {kind} has the fields {sorted(names)}")
    return str(kind)


def demand(condition: bool, otherwise: str) -> None:
    if not condition:
        raise IllegalStream(otherwise)
