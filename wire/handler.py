"""Django's handler without a server around it, for requests that are made inside the process."""

from functools import lru_cache

from django.core.handlers.base import BaseHandler


class InnerHandler(BaseHandler):
    """Answers a request in the thread that asks."""


@lru_cache(maxsize=1)
def handler(middleware: tuple[str, ...]) -> InnerHandler:
    """Return the process's handler; built again only where a test changes the middleware."""
    built = InnerHandler()
    built.load_middleware()
    return built
