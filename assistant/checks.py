"""System checks: what a deployment should know before it serves."""

from collections.abc import Iterable
from typing import Any

from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured
from rest_framework.settings import api_settings

from assistant.cluster import sharing
from assistant.conf import get_settings


@register("assistant")
def check_settings(**kwargs: Any) -> list[CheckMessage]:
    try:
        get_settings()
        sharing.check_settings()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="assistant.E001")]
    return []


@register("assistant")
def check_scopes(**kwargs: Any) -> list[CheckMessage]:
    """Refuse to take API keys without holding them to their scopes."""
    from assistant.api.authentication import APIKeyAuthentication  # these want the apps to be there
    from assistant.api.permissions import HasScope

    if not has(api_settings.DEFAULT_AUTHENTICATION_CLASSES, APIKeyAuthentication):
        return []
    if has(api_settings.DEFAULT_PERMISSION_CLASSES, HasScope):
        return []
    sentence = (
        "DEFAULT_PERMISSION_CLASSES has to hold assistant.api.permissions.HasScope: keys would pass their scopes."
    )
    return [Error(sentence, id="assistant.E002")]


def has(classes: Iterable[Any], wanted: type) -> bool:
    return any(isinstance(each, type) and issubclass(each, wanted) for each in classes)
