"""`manage.py serve`: the project's own server."""

import resource
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.module_loading import import_string

from wire.asgi.lifespan import StartupFailed
from wire.conf import read_settings
from wire.extras import needs_extra
from wire.server.limits import ServerLimits


class Command(BaseCommand):
    help = "Serve ASGI_APPLICATION, or Django alone where there is none, until Ctrl-C or SIGTERM."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default=getattr(settings, "HOST", "127.0.0.1"), help="the address to listen on")
        parser.add_argument("--port", default=getattr(settings, "PORT", 8000), type=int, help="0 takes a free one")

    def handle(self, *args: Any, host: str, port: int, **options: Any) -> None:
        if settings.DEBUG and not is_loopback(host):
            raise CommandError(
                f"HOST={host} would expose a development server (DEBUG=true) to other machines. "
                "Listen on 127.0.0.1, or turn DEBUG off and set SECRET_KEY and ALLOWED_HOSTS."
            )
        try:
            with needs_extra("server", "manage.py serve"):
                from wire.server.server import CannotListen, Server
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from None
        limits = read_settings(ServerLimits)
        named = getattr(settings, "ASGI_APPLICATION", None)
        application = import_string(named) if named else get_asgi_application()
        raise_file_limit()
        try:
            Server(application, host=host, port=port, announce=self.announce, limits=limits).run()
        except CannotListen as error:
            raise CommandError(str(error)) from None
        except StartupFailed as error:
            raise CommandError(f"The application can't start: {error}") from None

    def announce(self, url: str) -> None:
        greeting: str = getattr(settings, "SERVE_GREETING", "Serving on {url}. Stop with Ctrl-C.")
        self.stdout.write(greeting.replace("{url}", url))
        self.stdout.flush()


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def raise_file_limit() -> None:
    """Raise the limit of open files to the system's: a stream needs two, and the default is often 1,024."""
    with suppress(ValueError, OSError):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
