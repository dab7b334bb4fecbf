"""A client that asks again, and another server, until it is heard, and keeps in mind what it was told."""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import Any

# Seconds for which it asks again.
PATIENCE = 300


class Unheard(Exception):
    """Nobody has answered in all that time."""


@dataclass
class Promised:
    """What a client was told: that this batch was accepted, of so many items."""

    batch_id: str
    total: int


@dataclass
class Client:
    ports: list[int]
    promises: list[Promised] = field(default_factory=list)
    unheard: int = 0

    def submit(self, key: str, items: list[dict[str, Any]], pause: float = 0.0) -> str:
        """Send a batch, with so many seconds between its lines; returns its id once a 202 was heard."""
        lines = [json.dumps(item).encode() + b"\n" for item in items]
        headers = {
            "Content-Type": "application/x-ndjson",
            "Content-Length": str(sum(map(len, lines))),
            "Idempotency-Key": key,
            "Prefer": "respond-async",
        }
        return self.accepted("/api/batch", headers, len(items), lambda: slowly(lines, pause))

    def retry(self, batch_id: str, total: int) -> str:
        return self.accepted(f"/api/batch/{batch_id}/retry", {}, total)

    def cancel(self, batch_id: str) -> None:
        self.heard(f"/api/batch/{batch_id}/cancel", {}, {200})

    def accepted(self, path: str, headers: dict[str, str], total: int, body: Any = None) -> str:
        answer = self.heard(path, headers, {202}, body)
        self.promises.append(Promised(answer["batch_id"], total))
        return self.promises[-1].batch_id

    def hang_up(self, items: list[dict[str, Any]]) -> None:
        """Begin to send a batch, and leave in the middle of it."""
        body = b"".join(json.dumps(item).encode() + b"\n" for item in items)
        with closing(HTTPConnection("127.0.0.1", self.ports[0], timeout=5)) as connection:
            connection.putrequest("POST", "/api/batch")
            for name, value in {"Content-Type": "application/x-ndjson", "Prefer": "respond-async"}.items():
                connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body[: len(body) // 2])

    def heard(self, path: str, headers: dict[str, str], wanted: set[int], body: Any = None) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                status, answer = self.ask(path, headers, body() if body else b"")
            except (OSError, HTTPException):
                self.unheard += 1
                self.ports.append(self.ports.pop(0))
            else:
                if status in wanted:
                    return answer
                # 409: what was cut off with this key isn't forgotten yet. 503: the database is away.
                assert status in {409, 503}, (path, status, answer)
            time.sleep(0.02)
        raise Unheard(path)

    def ask(self, path: str, headers: dict[str, str], body: Any) -> tuple[int, Any]:
        with closing(HTTPConnection("127.0.0.1", self.ports[0], timeout=15)) as connection:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())


def slowly(lines: list[bytes], pause: float) -> Iterator[bytes]:
    for line in lines:
        yield line
        time.sleep(pause)
