"""An app that clocks what the thread of a worker's rows spends in the database, if BENCH_ROWS names a file."""

import atexit
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.db.backends.signals import connection_created


class BenchConfig(AppConfig):
    name = "bench"

    def ready(self) -> None:
        # After the service's own check, by which processes that share batches want PostgreSQL: here SQLite will do.
        if os.environ.get("BENCH_RUN_IN_SERVER") == "false":
            settings.BATCH_RUN_IN_SERVER = False
        if os.environ.get("BENCH_ROWS"):
            connection_created.connect(clocked)
            atexit.register(report, os.environ["BENCH_ROWS"])


seconds = 0.0


def clocked(sender: Any, connection: Any, **kwargs: Any) -> None:
    if threading.current_thread().name.startswith("batch-rows"):
        connection.execute_wrappers.append(timed)
        connection._commit = commit(connection._commit)


def timed(execute: Callable[..., Any], *arguments: Any) -> Any:
    global seconds
    began = time.perf_counter()
    try:
        return execute(*arguments)
    finally:
        seconds += time.perf_counter() - began


def commit(original: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: timed(original)


def report(path: str) -> None:
    Path(path).write_text(json.dumps(seconds))
