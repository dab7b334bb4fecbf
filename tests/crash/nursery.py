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

import django

# What `manage.py serve` imports, but for the module that makes an event loop, which can't be shared.
WARM = (
    *("twisted.internet.asyncioreactor", "twisted.web.http", "autobahn.twisted.websocket"),
    *("daphne.http_protocol", "daphne.ws_protocol", "config.asgi", "tests.crash.urls"),
)
PR_SET_PDEATHSIG = 1


def main() -> None:
    django.setup()
    for name in WARM:
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
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    random.seed()
    try:
        from django.core.management import call_command

        from tests.crash import points

        points.install(taken_out)
        call_command(*command)
    except BaseException:  # the last word of a process
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
