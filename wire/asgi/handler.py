"""Django's handler for requests that are made inside the process, without a server."""

from typing import Any

from django.core.handlers.base import BaseHandler
from django.core.signals import setting_changed

from wire.once import once


class InnerHandler(BaseHandler):
    """Handles a request in the calling thread."""


@once
def handler(kind: type[InnerHandler] = InnerHandler) -> InnerHandler:
    """Return the process's one handler of a class."""
    made = kind()
    made.load_middleware()
    setting_changed.connect(rebuild)
    return made


def rebuild(**kwargs: Any) -> None:
    """Have handlers built again after a test has changed a setting: middleware reads its settings when it is made."""
    handler.cache_clear()
