"""What a request says outside its body."""

from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.settings import api_settings
from rest_framework.throttling import BaseThrottle

FLAGS = {"true": True, "1": True, "false": False, "0": False}
KEY_MAX_CHARS = 255


def flag(request: Request, name: str) -> bool | None:
    """Return a yes or no of the query, None where it says nothing. Raises `ValidationError`."""
    said = request.query_params.get(name)
    if said is None:
        return None
    if said.lower() not in FLAGS:
        raise ValidationError({name: ["This has to be true or false."]})
    return FLAGS[said.lower()]


def idempotency_key(request: Request) -> str | None:
    """Return the caller's Idempotency-Key, if there is one. Raises `ValidationError`."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (0 < len(key) <= KEY_MAX_CHARS and key.isascii() and key.isprintable()):
        raise ValidationError({"Idempotency-Key": [f"This has to be 1 to {KEY_MAX_CHARS} printable ASCII characters."]})
    return key


def client_address(request: Request) -> str:
    """Return where the client is; X-Forwarded-For is believed as far as DRF's NUM_PROXIES says, unset not at all."""
    if api_settings.NUM_PROXIES:
        return BaseThrottle().get_ident(request)
    return request.META.get("REMOTE_ADDR") or ""
