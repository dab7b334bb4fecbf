"""`manage.py delete_person NAME`: deletes a person's data on request."""

from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.management.retention import forget


class Command(BaseCommand):
    help = "Delete a user with conversations, messages, batches, keys, sessions and the entries of the admin's log."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="the user's name")

    def handle(self, *args: Any, name: str, **options: Any) -> None:
        users = get_user_model()
        try:
            person = users._default_manager.get_by_natural_key(name)
        except users.DoesNotExist:
            raise CommandError(f"There is no user {name}.") from None
        for kind, count in sorted(forget(person).items()):
            self.stdout.write(f"{count} {kind}")
