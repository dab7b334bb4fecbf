"""`manage.py run_batches`: execute background batches in a process of its own."""

import asyncio
import signal
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from batching.background.engine import Engine
from batching.conf import get_settings

# A call of the database releases the interpreter, and gets it back from a computing thread only after so long. With
# Python's 5 ms, the rows of short items took twice as long.
SWITCH_SECONDS = 0.0005


class Command(BaseCommand):
    help = "Execute background batches until SIGINT or SIGTERM. Any number of these may run, on any machines."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--drain", action="store_true", help="end when no background batch is left")

    def handle(self, *args: Any, drain: bool, **options: Any) -> None:
        before = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_SECONDS)
        try:
            asyncio.run(work(drain))
        finally:
            sys.setswitchinterval(before)


async def work(drain: bool) -> None:
    engine = Engine(get_settings())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, engine.stop)
    try:
        await engine.run(drain=drain)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
