"""What the loop has to notice: each takes out of the processes under test something that a promise rests on."""

from typing import Any

from batching.background import queue, reaper
from batching.background.queue import HELD, ITEM_RESPONSE_COLUMNS, ITEMS, AttemptResult


def no_fence() -> None:
    """Whoever ends an item that runs may do so, though somebody else has claimed it since."""

    def finish_one(result: AttemptResult, room: int) -> bool:
        stored_request = None if result.response.succeeded else result.attempt.stored_request
        values = [*result.values(room), stored_request, None, result.attempt.id]
        return ITEMS.finish_one((*ITEM_RESPONSE_COLUMNS, "call", "lease_expires_at"), ("id",), HELD, values)

    queue.finish_one = finish_one


def no_reaper() -> None:
    """Nobody puts back what dead processes held."""
    reaper.reap = lambda max_attempts, room: None


def no_condition() -> None:
    """An item is ended by whoever comes, also when it has ended."""

    def finish_one(result: AttemptResult, room: int) -> bool:
        names = (*ITEM_RESPONSE_COLUMNS, "call", "lease_expires_at")
        stored_request = None if result.response.succeeded else result.attempt.stored_request
        values: list[Any] = [*result.values(room), stored_request, None, result.attempt.id]
        sql = ITEMS.finish_sql(names, ("id",)).replace(' AND "finished_at" IS NULL', "")
        return ITEMS.write(sql, (*names, "id"), [values]) == 1

    queue.finish_one = finish_one


def no_condition_on_claims() -> None:
    """What runs is claimed once more."""
    queue.CLAIM = queue.CLAIM.replace("state = 'queued'", "state IN ('queued', 'running')")


FAULTS = {
    "nothing": lambda: None,
    "fence": no_fence,
    "reaper": no_reaper,
    "condition": no_condition,
    "claim": no_condition_on_claims,
}
