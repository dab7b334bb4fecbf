"""Django's handler without a server around it, for requests that are made inside the process."""

from functools import lru_cache

from django.core.handlers.base import BaseHandler


class InnerHandler(BaseHandler):
    """Answers a request in the thread that asks."""


@lru_cache(maxsize=2)
def handler(middleware: tuple[str, ...], kind: type[InnerHandler] = InnerHandler) -> InnerHandler:
    """Return the process's handler of a kind; built again only where a test changes the middleware."""
    built = kind()
    built.load_middleware()
    return built
