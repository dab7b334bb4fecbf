"""Batches and items as rows, for tests of what is shown of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from batching.models import Batch, BatchItem

BEGAN = datetime(2026, 3, 5, 12, tzinfo=UTC)


def make(*items: dict[str, Any], **fields: Any) -> Batch:
    """Make a finished batch; of its items, `started` and `finished` are seconds."""
    began = fields.setdefault("created_at", BEGAN)
    ended = {"status": "completed", "finished_at": began + timedelta(seconds=10), "duration": 10.0, "slowest": 2.5}
    batch = Batch.objects.create(**{"total": len(items), "caller": "x", **ended, **fields})
    BatchItem.objects.bulk_create(
        BatchItem(batch=batch, position=position, **item_fields(item, began)) for position, item in enumerate(items)
    )
    return batch


def item_fields(item: dict[str, Any], began: datetime) -> dict[str, Any]:
    item = {"item_id": "a", "method": "GET", "path": "/api/x", "started": 0.0, "finished": 1.0, "status": 200, **item}
    started, finished = item.pop("started"), item.pop("finished")
    item.setdefault(
        "state", "running" if finished is None else "succeeded" if (item["status"] or 500) < 400 else "failed"
    )
    item["queued_at"] = began
    item["started_at"] = None if started is None else began + timedelta(seconds=started)
    item["finished_at"] = None if finished is None else began + timedelta(seconds=finished)
    return item


def background(*items: dict[str, Any], **fields: Any) -> Batch:
    """Make a background batch that has ended, with counts as its items have it."""
    states = [item_fields(item, BEGAN)["state"] for item in items]
    counts = {"succeeded": states.count("succeeded"), "failed": states.count("failed")}
    origin = {"scheme": "http", "server": ["", 0], "client": ["", 0], "root_path": "", "headers": {}}
    identity = {"authenticator": "", "in_session": False, "passed_csrf": True, "key": None}
    own = {"expires_at": BEGAN + timedelta(days=1), "started_at": BEGAN, "origin": origin, "identity": identity}
    return make(*items, **{**own, **counts, **fields})


def running(*items: dict[str, Any], **fields: Any) -> Batch:
    return background(*items, **{"status": "running", "finished_at": None, "duration": None, **fields})


QUEUED = {"started": None, "finished": None, "status": None, "state": "queued"}
