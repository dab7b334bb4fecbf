"""What the items of a background batch that do nothing cost, by how long a slice is: `python -m bench.slices ITEMS`.

In one process, without a broker, on DATABASE_URL; prints a line of JSON for each length.
"""

import asyncio
import json
import sys
import time
from typing import Any

import django
from django.db.backends.signals import connection_created

VIEWS = ("async", "row", "wait")
SECONDS = (1.0, 10.0)


class Statements:
    """Counts statements and the seconds until each was answered, on every connection that is opened from now on."""

    def __init__(self) -> None:
        self.connections = self.count = 0
        self.seconds = 0.0
        connection_created.connect(self._wrap)

    def _wrap(self, connection: Any, **kwargs: Any) -> None:
        self.connections += 1
        connection.execute_wrappers[:] = [self._execute]  # this object may be connected again

    def _execute(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        began = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            self.count += 1
            self.seconds += time.perf_counter() - began


def accept(view: str, items: int) -> Any:
    from django.contrib.auth.models import User
    from django.test import Client

    from batching.models import Batch

    lines = "".join(f'{{"id": "{n}", "method": "GET", "path": "/api/nothing/{view}"}}\n' for n in range(items))
    client = Client()
    client.force_login(User.objects.get())
    answer = client.generic(
        "POST", "/api/batch", lines, content_type="application/x-ndjson", headers={"prefer": "respond-async"}
    )
    assert answer.status_code == 202, answer.content
    return Batch.objects.get(pk=answer.json()["batch_id"])


async def work(seconds: float) -> bool:
    from batching.background.engine import Engine
    from batching.conf import get_settings

    return await Engine(get_settings()).run_for(seconds)


def measured(view: str, items: int, seconds: float) -> dict[str, float | str]:
    batch = accept(view, items)
    statements = Statements()
    slices, cpu, wall = 1, time.process_time(), time.perf_counter()
    while asyncio.run(work(seconds)):
        slices += 1
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    batch.refresh_from_db()
    assert batch.succeeded == items, batch.counts
    return {
        "view": view,
        "seconds": seconds,
        "slices": slices,
        "items a second": items / wall,
        "ms of CPU an item": 1_000 * cpu / items,
        "ms of database an item": 1_000 * statements.seconds / items,
        "statements an item": statements.count / items,
        "connections an item": statements.connections / items,
    }


if __name__ == "__main__":
    django.setup()
    measured("row", 50, 1.0)
    for view in VIEWS:
        for seconds in SECONDS:
            print(json.dumps(measured(view, int(sys.argv[1]), seconds)), flush=True)
