"""Who may call, where a project doesn't say otherwise."""

from ipaddress import ip_address
from typing import Any

from django.conf import settings
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

FORWARDING_HEADERS = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")


class IsAuthenticatedOrDevelopment(BasePermission):
    """A session or an API key; in development (DEBUG) also anybody on this machine."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return bool(request.user and request.user.is_authenticated) or is_local_development(request)


def is_local_development(request: Request) -> bool:
    """Tell whether DEBUG is on and the caller on this machine, with no proxy between."""
    if not settings.DEBUG or any(header in request.headers for header in FORWARDING_HEADERS):
        return False
    try:
        return ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False
