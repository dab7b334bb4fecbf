"""`manage.py prune`: deletes data whose retention is over. Run it once a day."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand

from config.management.retention import prune_conversations


class Command(BaseCommand):
    help = "Delete batches, conversations and sessions whose retention is over."

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("prune_batches", stdout=self.stdout)
        call_command("clearsessions")
        if days := settings.CONVERSATION_RETENTION_DAYS:
            deleted = prune_conversations(older_than=timedelta(days=days))
            self.stdout.write(f"Deleted {deleted} conversations.")
