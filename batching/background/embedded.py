"""The embedded worker: an engine in a thread of the server's process."""

import asyncio
import os
import threading
from concurrent.futures import Future

from batching.background.engine import GRACE, Engine
from batching.conf import BatchingSettings, get_settings

# The share of a server's processor time that background items may use.
SHARE = 0.5


class EmbeddedWorker:
    """Runs an engine in a thread of its own."""

    def __init__(self, settings: BatchingSettings) -> None:
        self._engine: Future[Engine] = Future()
        self._settings = settings
        self._thread = threading.Thread(target=self._run, name="batch-engine", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def wake(self) -> None:
        self._engine.result().wake()

    def stop(self, seconds: float) -> None:
        self._engine.result().stop()
        self._thread.join(seconds)

    def _run(self) -> None:
        asyncio.run(self._run_engine())

    async def _run_engine(self) -> None:
        engine = Engine(self._settings, share=SHARE)
        self._engine.set_result(engine)
        await engine.run()


start_lock = threading.Lock()
# By process: a forked one needs its own.
workers: dict[int, EmbeddedWorker] = {}


def start() -> None:
    """Start the worker of this process, unless it runs or the settings leave it to other processes."""
    if is_running():
        return
    settings = get_settings()
    if settings.BATCH_ENABLED and settings.BATCH_RUN_IN_SERVER:
        with start_lock:
            if not is_running():
                workers[os.getpid()] = EmbeddedWorker(settings)


def wake() -> None:
    """Start the worker of this process as `start` does, and have it look for items at once."""
    start()
    if worker := workers.get(os.getpid()):
        worker.wake()


def is_running() -> bool:
    worker = workers.get(os.getpid())
    return worker is not None and worker.is_alive


def stop(seconds: float = GRACE + 1) -> None:
    """Stop the worker of this process, which releases unfinished items."""
    with start_lock:
        worker = workers.pop(os.getpid(), None)
    if worker:
        worker.stop(seconds)


# Not `atexit`: before it, the interpreter closes the pools that the engine uses.
threading._register_atexit(stop)  # type: ignore[attr-defined]
