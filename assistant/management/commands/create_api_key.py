from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management import BaseCommand, CommandError

from assistant.models import APIKey


class Command(BaseCommand):
    help = "Create an API key for a user and print it once. Send it as `Authorization: Bearer KEY` to act as the user."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--name", default="command line", help="the purpose of the key")

    def handle(self, *args: Any, username: str, name: str, **options: Any) -> None:
        users = get_user_model()
        try:
            user = users._default_manager.get_by_natural_key(username)
        except users.DoesNotExist:
            raise CommandError(f"There is no user named {username!r}.") from None
        _, secret = APIKey.issue(user=user, name=name)
        self.stdout.write(secret)
