"""Inside the processes under test: where they can be struck, what they note down, and what can be taken out of them.

Functions of `batching` are wrapped from here, so that nothing in it knows of being tested. A process that reaches the
point that the `armed` file names, and is the first to remove that file, kills or stops itself there.
"""

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt

# The point, and the function before or after which it lies. `queue.close` ends every transaction that closes batches.
BEFORE = {
    "before the claim": "queue.claim_from",
    "before the view": "attempts.execute",
    "before the end is written": "queue.finish",
    "between rows and counts": "queue.add_counts",
    "before a release": "queue.release",
    "before leases are prolonged": "queue.renew",
    "before the reaper": "reaper.reap",
    "cancelling": "queue.drop_cancelled",
    "before a slice is accepted": "acceptance.Acceptance.write",
    "before a batch shows": "acceptance.Acceptance.publish",
    "before a batch is forgotten": "reaper.forget",
    "forgetting": "deletion.Collector.delete",
    "before a retry": "acceptance.RetriedItems.items",
}
AFTER = {
    "claim not committed": "queue.load_caller",
    "claimed": "queue.claim_from",
    "after the view": "attempts.execute",
    "not committed": "queue.close",
    "end written": "queue.finish",
    "released": "queue.release",
    "after the reaper": "reaper.reap",
    "cancelled": "queue.cancel",
    "slice accepted": "acceptance.Acceptance.write",
    "committed, not answered": "acceptance.Acceptance.publish",
    "about to be answered": "progress.represent",
}
IN_THE_VIEW = "in the view"

# So that a cycle takes a moment, not minutes.
QUICK = {
    "engine.IDLE": 0.2,
    "engine.PAUSE": 0.05,
    "engine.GRACE": 0.2,
    "attempts.LONGEST_BACKOFF": 0.05,
    "acceptance.PATIENCE": 0.4,
    "acceptance.SLICE": 2,
}

WITH_CELERY = {"tasks.POLL": 0.2}

directory = Path(os.environ.get("CRASH_DIRECTORY", "."))
holding = threading.local()


def note(file: str, **what: Any) -> None:
    """Append a line; what was written stays, also when this process is killed right after."""
    handle = os.open(directory / file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, json.dumps({**what, "pid": os.getpid(), "at": round(time.time(), 3)}).encode() + b"\n")
    finally:
        os.close(handle)


def reach(point: str) -> None:
    """Be struck here, if it is this point's turn."""
    try:
        armed = json.loads((directory / "armed").read_bytes())
    except FileNotFoundError:
        return
    if armed["point"] != point or random.random() > armed["chance"]:
        return
    try:
        os.unlink(directory / "armed")
    except FileNotFoundError:  # another one was first
        return
    note("strikes", point=point, action=armed["action"])
    os.kill(os.getpid(), signal.SIGKILL if armed["action"] == "kill" else signal.SIGSTOP)


@csrf_exempt
def called(request: HttpRequest, kind: str, name: str) -> JsonResponse:
    """Note the call down, take some time, and answer as the kind of the item says, with the fence it ran under.

    It takes `seconds`, or under a later claim than the first `again` seconds.
    """
    note("calls", name=name, key=request.headers["Idempotency-Key"], fence=holding.fence)
    reach(IN_THE_VIEW)
    time.sleep(float(request.GET["seconds" if holding.fence == 1 else "again"]))
    statuses = {"fine": 200, "refused": 404, "later": 503 if is_first(name) else 200}
    return JsonResponse({"fence": holding.fence}, status=statuses[kind])


def is_first(name: str) -> bool:
    """Tell whether nobody has asked for this name before."""
    try:
        (directory / "seen" / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def place_of(path: str) -> tuple[Any, str]:
    """Return what holds a name of `batching`, such as `queue.claim`, and the name."""
    from django.db.models import deletion

    from batching.api import progress
    from batching.background import acceptance, attempts, engine, queue, reaper

    modules: dict[str, Any] = {
        "acceptance": acceptance,
        "deletion": deletion,
        "attempts": attempts,
        "engine": engine,
        "queue": queue,
        "progress": progress,
        "reaper": reaper,
    }
    if settings.BATCH_CELERY_APP:
        from batching import tasks

        modules["tasks"] = tasks
    owner, *names, last = path.split(".")
    place = modules[owner]
    for name in names:
        place = getattr(place, name)
    return place, last


def wrap(path: str, before: Callable[..., None] | None = None, after: Callable[..., None] | None = None) -> None:
    place, name = place_of(path)
    inner = getattr(place, name)

    @wraps(inner)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if before:
            before(*args)
        result = inner(*args, **kwargs)
        if after:
            after(result, *args)
        return result

    setattr(place, name, wrapped)


def install(taken_out: str) -> None:
    """Make the points, in what is left without `taken_out`."""
    from tests.crash.faults import FAULTS

    FAULTS[taken_out]()
    for path, value in (QUICK | (WITH_CELERY if settings.BATCH_CELERY_APP else {})).items():
        setattr(*place_of(path), value)
    wrap("attempts.execute", before=lambda attempt, *_: setattr(holding, "fence", attempt.fence))
    wrap("queue.finish_one", after=note_refusal)
    for point, path in BEFORE.items():
        wrap(path, before=lambda *_, point=point: reach(point))
    for point, path in AFTER.items():
        wrap(path, after=lambda *_, point=point: reach(point))


def note_refusal(accepted: bool, result: Any, *_: Any) -> None:
    if not accepted:
        note("refusals", item=result.attempt.id, fence=result.attempt.fence)
