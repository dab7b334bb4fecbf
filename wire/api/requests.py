"""The query and the headers of a request."""

from collections.abc import Iterable

from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.settings import api_settings
from rest_framework.throttling import BaseThrottle

FLAGS = {"true": True, "1": True, "false": False, "0": False}


def flag(request: Request, name: str) -> bool | None:
    """Return a boolean parameter of the query, None if it is missing. Raises `ValidationError`."""
    value = request.query_params.get(name)
    if value is None:
        return None
    if value.lower() not in FLAGS:
        raise ValidationError({name: ["This has to be true or false."]})
    return FLAGS[value.lower()]


def choice[D: (str, None)](request: Request, name: str, choices: Iterable[str], *, default: D) -> str | D:
    """Return a parameter of the query that has to be one of `choices`. Raises `ValidationError`."""
    value = request.query_params.get(name)
    if value is None:
        return default
    if value not in (allowed := list(choices)):
        raise ValidationError({name: [f"This has to be one of {', '.join(allowed)}."]})
    return value


def client_address(request: Request) -> str:
    """Return the client's IP address. DRF's NUM_PROXIES says how far to trust X-Forwarded-For; unset, not at all."""
    if api_settings.NUM_PROXIES:
        return BaseThrottle().get_ident(request)
    return request.META.get("REMOTE_ADDR") or ""
