"""`manage.py prune_batches`: to be run once a day."""

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from batching.background.retention import prune
from batching.conf import get_settings


class Command(BaseCommand):
    help = "Delete batches that finished longer ago than BATCH_RETENTION_DAYS, and end batches whose process died."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--days", type=int, help="days to keep batches (default: BATCH_RETENTION_DAYS)")

    def handle(self, *args: Any, days: int | None, **options: Any) -> None:
        if days is not None and days < 0:
            raise CommandError("--days can't be negative.")
        older_than = timedelta(days=get_settings().BATCH_RETENTION_DAYS if days is None else days)
        self.stdout.write(f"Deleted {prune(older_than=older_than)} batches.")
