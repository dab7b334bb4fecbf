"""Serve the local model from a process of its own."""

import signal
import time
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandError, CommandParser

from assistant.conf import get_settings
from assistant.errors import ModelError
from assistant.providers.local import weights_path
from assistant.providers.shared_llama import SharedLlama

POLL_SECONDS = 1


class Command(BaseCommand):
    help = (
        "Serve the local model to all processes of this machine until SIGINT or SIGTERM. If another process serves it"
        " already, say so, wait, and take over when that process ends."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("model", nargs="?", help="such as local:smollm2 (default: ASSISTANT_MODEL)")

    def handle(self, *, model: str | None, **options: Any) -> None:
        name = model or get_settings().ASSISTANT_MODEL
        if not name.startswith("local:"):
            raise CommandError(f"{name} doesn't run on this machine: name a local: model.")
        llama = SharedLlama(weights_path(name.removeprefix("local:")))
        for number in (signal.SIGINT, signal.SIGTERM):  # also if the shell made the process ignore SIGINT
            signal.signal(number, signal.default_int_handler)
        try:
            self.hold(llama, name)
        except KeyboardInterrupt:
            pass
        except ModelError as error:
            raise CommandError(error.message) from error
        finally:
            llama.close()

    def hold(self, llama: SharedLlama, name: str) -> NoReturn:
        """Serve the model, and restart it if it dies; never returns."""
        announced = 0
        while True:
            holder = llama.poll()
            if holder and holder.pid != announced:
                announced = holder.pid
                self.stdout.write(f"Process {holder.pid} serves {name} at {holder.url}.")
            time.sleep(POLL_SECONDS)
