"""What was promised, seen and written, compared: the items that a client was told of, the calls, and the rows."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.crash.client import Promised

FINAL = {"succeeded", "failed", "cancelled", "expired", "interrupted"}
# From a state to the next, and by how much the fence goes up.
LEGAL = {
    ("queued", "running", 1),
    ("running", "queued", 0),
    ("running", "succeeded", 0),
    ("running", "failed", 0),
    ("queued", "cancelled", 0),
    ("queued", "expired", 0),
}
GIVEN_UP = "Gave up"
BATCH = "id, status, total, succeeded, failed, cancelled, expired"
CHANGE = "item_id, state_before, state_after, fence_before, fence_after"
ITEM = "id, batch_id, position, path, state, status, fence, attempts, error, response_body"


def lines(file: Path) -> list[dict[str, Any]]:
    return Lines(file).new()


class Lines:
    """A file of JSON, a line each, read as it grows."""

    def __init__(self, file: Path) -> None:
        file.touch()
        self.file = file.open()
        self.all: list[dict[str, Any]] = []

    def new(self) -> list[dict[str, Any]]:
        """Return what has come since the last call."""
        new = []
        while (line := self.file.readline()).endswith("\n"):
            new.append(json.loads(line))
        if line:  # half of one
            self.file.seek(self.file.tell() - len(line))
        self.all += new
        return new


class Ledger:
    """What was promised of some batches, or of all there are, and what became of them.

    Each thing that isn't as promised is a sentence of `wrong`.
    """

    def __init__(
        self, database: Any, calls: Iterable[dict[str, Any]], promises: Sequence[Promised], *, whole: bool
    ) -> None:
        self.promises = promises
        names = ", ".join(f"'{promise.batch_id}'" for promise in promises) or "''"
        where = "" if whole else f" WHERE id IN ({names})"
        batches = database.rows(f"SELECT {BATCH} FROM batching_batch{where}")
        self.batches = {row[0]: dict(zip(BATCH.split(", "), row, strict=True)) for row in batches}
        where = "" if whole else f" WHERE batch_id IN ({names})"
        rows = database.rows(f"SELECT {ITEM} FROM batching_batchitem{where}")
        self.items = [dict(zip(ITEM.split(", "), row, strict=True)) for row in rows]
        self.of: dict[str, list[Any]] = group(self.items, "batch_id")
        self.transitions: dict[int, list[Any]] = defaultdict(list)
        for item_id, *change in database.rows(f"SELECT {CHANGE} FROM crash_transition{where} ORDER BY n"):
            self.transitions[item_id].append(change)
        self.calls = group(calls, "key")

    def wrong(self) -> list[str]:
        return [*self.lost(), *self.miscounted(), *self.moved(), *self.answered()]

    def lost(self) -> Iterator[str]:
        """What was promised is there, whole; what wasn't is whole too, or not there at all."""
        for promise in self.promises:
            if promise.batch_id not in self.batches:
                yield f"lost: {promise.batch_id} was accepted and isn't there"
            elif self.batches[promise.batch_id]["total"] != promise.total:
                yield f"lost: {promise.batch_id} has another number of items than was accepted"
        for batch_id in self.batches:
            positions = sorted(item["position"] for item in self.of[batch_id])
            if positions != list(range(self.batches[batch_id]["total"])):
                yield f"lost: {batch_id} has the positions {positions}"
        for item in self.items:
            if item["state"] not in FINAL:
                yield f"lost: {named(item)} is {item['state']}"

    def miscounted(self) -> Iterator[str]:
        for batch_id, batch in self.batches.items():
            states = [item["state"] for item in self.of[batch_id]]
            for name in ("succeeded", "failed", "cancelled", "expired"):
                if batch[name] != states.count(name):
                    yield f"counts: {batch_id} has {batch[name]} {name}, and {states.count(name)} rows"
            if batch["status"] not in {"completed", "cancelled"}:
                yield f"counts: {batch_id} is {batch['status']}"

    def moved(self) -> Iterator[str]:
        """Each item has gone from state to state as it may, and into one final state once."""
        for item in self.items:
            moves = self.transitions[item["id"]]
            for before, after, fence, then in moves:
                if before in FINAL:
                    yield f"two final states: {named(item)} was {before} and is written again ({after})"
                elif (before, after, then - fence) not in LEGAL:
                    yield f"claimed while held: {named(item)} went from {before} ({fence}) to {after} ({then})"
            if sum(after in FINAL for _, after, _, _ in moves) > 1:
                yield f"two final states: {named(item)} has ended more than once"

    def answered(self) -> Iterator[str]:
        """Each answer is that of the last claim; each call was claimed, and came with the item's one key."""
        for item in self.items:
            calls = self.calls[f"{item['batch_id']}:{item['position']}"]
            fences = [call["fence"] for call in calls]
            if len(set(fences)) != len(fences) or max(fences, default=0) > item["fence"]:
                yield f"ran unclaimed: {named(item)} was called under {fences}, and claimed {item['fence']} times"
            if any(call["name"] != name_of(item) for call in calls):
                yield f"key: that of {named(item)} came with another item's call"
            if item["state"] in {"succeeded", "failed"} and not item["error"].startswith(GIVEN_UP):
                yield from self.late(item, fences)
            if item["state"] not in expected(item):
                yield f"answer: {named(item)} is {item['state']}, {item['status']} {item['error']}"

    def late(self, item: dict[str, Any], fences: list[int]) -> Iterator[str]:
        if item["fence"] not in fences:
            yield f"lost: {named(item)} has an answer without a call under its last claim"
        body = item["response_body"]
        said = json.loads(body) if isinstance(body, str) else body
        if item["state"] == "succeeded" and said["fence"] != item["fence"]:
            yield f"late write: {named(item)} has the answer of claim {said['fence']} of {item['fence']}"

    def strays(self) -> Iterator[str]:
        """Calls of items that aren't there, once everything has been looked at."""
        known = {f"{item['batch_id']}:{item['position']}" for item in self.items}
        for key in self.calls.keys() - known:
            yield f"key: a call came with {key}, which no item has"


def group(rows: Iterable[dict[str, Any]], name: str) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = defaultdict(list)
    for row in rows:
        groups[row[name]].append(row)
    return groups


def name_of(item: dict[str, Any]) -> str:
    name: str = item["path"].rpartition("/")[2].partition("?")[0]
    return name


def named(item: dict[str, Any]) -> str:
    return f"{item['batch_id']}:{item['position']} ({name_of(item)})"


def expected(item: dict[str, Any]) -> set[str]:
    """Return how an item of a kind may end."""
    ended = {"failed"} if "/refused/" in item["path"] else {"succeeded"}
    return ended | ({"cancelled"} if name_of(item).startswith("cancel") else set())
