"""The permissions of the API where a project names no others."""

from ipaddress import ip_address
from typing import Any

from django.conf import settings
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from assistant.models import APIKey

__all__ = ["HasScope", "IsAuthenticatedOrDevelopment"]

FORWARDING_HEADERS = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")


class IsAuthenticatedOrDevelopment(BasePermission):
    """Allow a session or an API key; in development (DEBUG) also any caller on this machine."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return bool(request.user and request.user.is_authenticated) or is_local_development(request)


class HasScope(BasePermission):
    """Hold API keys to their scopes; a view says in `required_scopes` which ones it needs.

    The attribute is django-oauth-toolkit's. A key without scopes may call everything; one with scopes may only read,
    with `read`, from a view that needs none of the known scopes.
    """

    message = "This API key may not call this."

    def has_permission(self, request: Request, view: Any) -> bool:
        key = request.auth
        if not isinstance(key, APIKey) or key.may_call(request.method, getattr(view, "required_scopes", ())):
            return True
        self.message = f"This API key may not call this: its scopes are {', '.join(key.scopes)}."
        return False


def is_local_development(request: Request) -> bool:
    """Tell whether DEBUG is on and the caller is on this machine, with no proxy between."""
    if not settings.DEBUG or any(header in request.headers for header in FORWARDING_HEADERS):
        return False
    try:
        return ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False
