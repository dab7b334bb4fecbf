"""Django's handler without a server around it, for requests that are made inside the process."""

from django.core.handlers.base import BaseHandler

from wire.once import once


class InnerHandler(BaseHandler):
    """Answers a request in the thread that asks."""


@once
def handler(middleware: tuple[str, ...], kind: type[InnerHandler] = InnerHandler) -> InnerHandler:
    """Return the process's handler of a kind; built again only where a test changes the middleware."""
    built = kind()
    built.load_middleware()
    return built
