"""What the tests of background batches share."""

import json
from typing import Any

from django.core.management import call_command

from batching.models import Batch, BatchItem
from tests.batching.conftest import Send

ASYNC = {"prefer": "respond-async"}
LINES = "application/x-ndjson"


def accept(send: Send, items: list[Any], **headers: str) -> Any:
    """Send a background batch, an item a line; a string is a line as it is."""
    return accept_lines(send, lines(items), **headers)


def accept_lines(send: Send, body: str, **headers: str) -> Any:
    return send("POST", "/api/batch", body, content_type=LINES, headers={**ASYNC, **headers})


def lines(items: list[Any]) -> str:
    return "".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in items)


def accepted(response: Any) -> Batch:
    assert response.status_code == 202, response.content
    return Batch.objects.get(pk=response.json()["batch_id"])


def drain() -> None:
    """Work on what is there until nothing is left, in this process."""
    call_command("run_batches", drain=True)


def states(batch: Batch) -> list[str]:
    return list(BatchItem.objects.filter(batch=batch).order_by("position").values_list("state", flat=True))


def results(send: Send, batch: Batch, query: str = "") -> list[dict[str, Any]]:
    response = send("GET", f"/api/batch/{batch.pk}/results{query}")
    assert response.status_code == 200, response.content
    return [json.loads(line) for line in content(response).splitlines()]


def content(response: Any) -> bytes:
    """Return all of a streamed response, sync or async."""
    return response.getvalue() if not response.is_async else read(response)


def read(response: Any) -> bytes:
    from asgiref.sync import async_to_sync

    async def joined() -> bytes:
        return b"".join([part async for part in response])

    return async_to_sync(joined)()
