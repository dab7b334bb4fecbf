"""`manage.py batch_status [ID]`: the open background batches, or the details of one batch."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from batching.management import summary
from batching.models import Batch


class Command(BaseCommand):
    help = "List the background batches that are open; or show the details of one, open or not."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", nargs="?", metavar="ID")

    def handle(self, *args: Any, id: str | None, **options: Any) -> None:  # noqa: A002  # the argument's name
        accepted = Batch.objects.accepted().select_related("owner", "webhook")
        if id is None:
            self.list_open(accepted.open_in_background())
        elif batch := accepted.filter(pk=id, expires_at__isnull=False).first():
            self.stdout.write("\n".join(summary.lines(batch)))
        else:
            raise CommandError(f"There is no background batch {id}.")

    def list_open(self, batches: Any) -> None:
        for batch in batches.order_by("created_at"):
            self.stdout.write(summary.line(batch))
