"""System checks: what a deployment should know before it serves."""

from typing import Any

from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured

from assistant import sharing
from assistant.conf import get_settings


@register("assistant")
def check_settings(**kwargs: Any) -> list[CheckMessage]:
    try:
        get_settings()
        sharing.check_settings()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="assistant.E001")]
    return []
