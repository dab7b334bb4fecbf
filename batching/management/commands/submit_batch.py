"""`manage.py submit_batch FILE.jsonl --as USER`: submit a background batch from a file, as the user."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

from batching.background import acceptance, celery
from batching.conf import BatchingSettings, get_settings
from batching.errors import BatchesDisabled
from batching.items import request_factory
from batching.items.ndjson import Source, Upload
from batching.items.paths import AllowedPaths
from batching.management import summary
from batching.models import Batch
from batching.run import identity
from wire.errors import WireError

# Seconds between two polls of a followed batch.
PACE = 0.5

SOME_FAILED, REFUSED, INTERRUPTED = 1, 2, 130


class Command(BaseCommand):
    help = (
        "Submit a background batch from a file with one item per line, and print its id. The server or its workers run "
        "it as the user. Exit status: 0; with --follow 1 unless all items succeed; 2 if the batch is refused."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "file", metavar="FILE", help="JSON lines, as POST /api/batch takes them; - for standard input"
        )
        parser.add_argument("--as", dest="username", metavar="USER", required=True, help="the owner of the batch")
        parser.add_argument("--priority", choices=Batch.Priority.labels, default=Batch.Priority.NORMAL.label)
        parser.add_argument("--follow", action="store_true", help="show the progress until the batch has ended")

    def handle(self, *args: Any, file: str, username: str, priority: str, follow: bool, **options: Any) -> None:
        try:
            with open_source(file) as source:
                batch = accept(source, user_named(username), priority, get_settings())
        except WireError as error:
            raise CommandError(error.message, returncode=REFUSED) from None
        except KeyboardInterrupt:
            self.interrupt("Nothing was accepted.")
        self.stdout.write(batch.pk)
        if follow:
            self.follow(batch)

    def follow(self, batch: Batch) -> None:
        progress = summary.Progress(self.stdout)
        try:
            while not batch.finished_at:
                progress.show(batch)
                time.sleep(PACE)
                batch.refresh_from_db()
            progress.show(batch)
        except Batch.DoesNotExist:
            raise CommandError(f"{batch.pk} was deleted.", returncode=SOME_FAILED) from None
        except KeyboardInterrupt:
            progress.close()
            self.interrupt(f"{batch.pk} continues. To see its status: manage.py batch_status {batch.pk}")
        progress.close()
        for line in summary.failures(batch):
            self.stdout.write(line)
        if batch.succeeded < batch.total:
            sys.exit(SOME_FAILED)

    def interrupt(self, message: str) -> NoReturn:
        self.stderr.write(message)
        sys.exit(INTERRUPTED)


@contextmanager
def open_source(file: str) -> Iterator[Source]:
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        source = open(file, "rb")  # noqa: SIM115  # closed below
    except OSError as error:
        raise CommandError(f"{file} can't be read: {error.strerror}.", returncode=REFUSED) from None
    with source:
        yield source


def user_named(username: str) -> Any:
    users = get_user_model()
    try:
        user = users._default_manager.get_by_natural_key(username)
    except users.DoesNotExist:
        raise CommandError(f"There is no user named {username!r}.", returncode=REFUSED) from None
    if not user.is_active:
        raise CommandError(f"The user {username!r} is deactivated.", returncode=REFUSED)
    return user


def accept(source: Source, user: Any, priority: str, settings: BatchingSettings) -> Batch:
    """Store a batch of a user. Raises `WireError`."""
    if not settings.BATCH_ENABLED:
        raise BatchesDisabled
    origin = request_factory.dump_default()
    batch = acceptance.batch_for(
        user,
        settings,
        priority=Batch.Priority[priority.upper()],
        origin=origin,
        identity=identity.dump_session(),
    )
    body = Upload(source, max_bytes=settings.BATCH_ASYNC_MAX_BYTES, max_line=settings.BATCH_MAX_BYTES, expected=None)
    allowed = AllowedPaths(settings.BATCH_ALLOWED_PATHS, origin["root_path"])
    acceptance.accept(batch, body, allowed=allowed, max_size=settings.BATCH_ASYNC_MAX_SIZE, settings=settings)
    celery.wake_for(batch)
    return batch
