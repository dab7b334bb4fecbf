"""The engine that lives in a server's process, in a thread of its own."""

import asyncio
import os
import threading
from concurrent.futures import Future

from batching.background.engine import GRACE, Engine
from batching.conf import BatchingSettings, get_settings

# Of the time of a server's processor, what items in the background may use.
SHARE = 0.5


class EmbeddedWorker:
    """The engine in a thread of its own."""

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
        asyncio.run(self._work())

    async def _work(self) -> None:
        engine = Engine(self._settings, share=SHARE)
        self._engine.set_result(engine)
        await engine.run()


starting = threading.Lock()
backgrounds: dict[int, EmbeddedWorker] = {}


def start() -> None:
    """Have this process work on background batches, if it is to."""
    if is_working():
        return
    settings = get_settings()
    if settings.BATCH_ENABLED and settings.BATCH_RUN_IN_SERVER:
        with starting:
            if not is_working():
                backgrounds[os.getpid()] = EmbeddedWorker(settings)


def wake() -> None:
    """Have this process, if it is to work on background batches, look at once for what there is to do."""
    start()
    if background := backgrounds.get(os.getpid()):
        background.wake()


def is_working() -> bool:
    background = backgrounds.get(os.getpid())  # one that was forked needs its own
    return background is not None and background.is_alive


def stop(seconds: float = GRACE + 1) -> None:
    """End the engine of this process; what it couldn't finish is given back."""
    with starting:
        background = backgrounds.pop(os.getpid(), None)
    if background:
        background.stop(seconds)


# Before the turn of `atexit` the interpreter closes the pools that the engine works with.
threading._register_atexit(stop)  # type: ignore[attr-defined]
