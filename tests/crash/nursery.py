"""A warm parent: it has imported the service once, and forks a server or a worker of it in milliseconds.

A line on its input names what to take out and what to fork; its answer is the child's pid. Its children end with it.
"""

import ctypes
import gc
import importlib
import os
import random
import signal
import sys
import traceback
from typing import Any

import django

# What `manage.py serve` imports, but for the module that makes an event loop, which can't be shared.
WARM = (
    *("twisted.internet.asyncioreactor", "twisted.web.http", "autobahn.twisted.websocket"),
    *("daphne.http_protocol", "daphne.ws_protocol", "config.asgi", "tests.crash.urls"),
)
WITH_CELERY = (
    "config.celery",
    "celery.apps.worker",
    "celery.bin.worker",
    "celery.concurrency.prefork",
    "kombu.transport.redis",
)
PR_SET_PDEATHSIG = 1


def main() -> None:
    django.setup()
    for name in (*WARM, *(WITH_CELERY if os.environ.get("CELERY_BROKER_URL") else ())):
        importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries them
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            child(*line.split())
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def child(taken_out: str, *command: str) -> None:
    """Be a process of the service."""
    die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    random.seed()
    try:
        from django.core.management import call_command

        from tests.crash import points

        points.install(taken_out)
        if command[0] == "celery":
            work()
        else:
            call_command(*command)
    except BaseException:  # the last word of a process
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(0)


def work() -> None:
    """Be `celery -A config worker`, with a process that works and one that talks to the broker."""
    from celery.signals import worker_process_init

    from config.celery import app

    worker_process_init.connect(die_with_parent)
    name = f"--hostname={os.getpid()}@crash"
    app.worker_main(["worker", "--concurrency=1", "--without-mingle", "--without-gossip", "--loglevel=WARNING", name])


def die_with_parent(**kwargs: Any) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
