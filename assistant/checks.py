"""System checks of the settings."""

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
    """Refuse API keys whose scopes no permission enforces."""
    from assistant.api.authentication import APIKeyAuthentication  # they need the app registry
    from assistant.api.permissions import HasScope

    if not has(api_settings.DEFAULT_AUTHENTICATION_CLASSES, APIKeyAuthentication):
        return []
    if has(api_settings.DEFAULT_PERMISSION_CLASSES, HasScope):
        return []
    message = "The scopes of API keys aren't enforced."
    hint = "Add assistant.api.permissions.HasScope to DEFAULT_PERMISSION_CLASSES."
    return [Error(message, hint=hint, id="assistant.E002")]


def has(classes: Iterable[Any], wanted: type) -> bool:
    return any(isinstance(each, type) and issubclass(each, wanted) for each in classes)
