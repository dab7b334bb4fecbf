"""Django's handler without a server around it, for requests that are made inside the process."""

from typing import Any

from django.core.handlers.base import BaseHandler
from django.core.signals import setting_changed
from django.dispatch import receiver

from wire.once import once


class InnerHandler(BaseHandler):
    """Answers a request in the thread that asks."""


@once
def handler(kind: type[InnerHandler] = InnerHandler) -> InnerHandler:
    """Return the process's handler of a kind."""
    built = kind()
    built.load_middleware()
    return built


@receiver(setting_changed)
def forget(**kwargs: Any) -> None:
    """Build handlers anew once a test has changed a setting: middlewares read theirs when they are made."""
    handler.cache_clear()
