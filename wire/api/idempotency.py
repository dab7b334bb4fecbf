"""The Idempotency-Key of a call: a caller's second call with it gets the first one's answer, for a day.

https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/ has the header. The rows that keep an answer
have the fields `caller`, `idempotency_key` and `request_hash`.
"""

from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from wire.errors import WireError

KEY_LIFETIME = timedelta(days=1)
KEY_MAX_CHARS = 255


class KeyReused(WireError):
    """An Idempotency-Key came back with another body."""

    status = 422
    message = "This Idempotency-Key was used with another body."


def idempotency_key(request: Request) -> str | None:
    """Return the caller's Idempotency-Key, if there is one. Raises `ValidationError`."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (0 < len(key) <= KEY_MAX_CHARS and key.isascii() and key.isprintable()):
        raise ValidationError({"Idempotency-Key": [f"This has to be 1 to {KEY_MAX_CHARS} printable ASCII characters."]})
    return key


def rows_of_key[Rows: QuerySet[Any]](rows: Rows, caller: str, key: str, *, since: str) -> Rows:
    """Return the caller's one row with this key, or none; `since` is the field from which the key's day counts."""
    keyed = rows.filter(caller=caller, idempotency_key=key)
    keyed.filter(**{f"{since}__lt": timezone.now() - KEY_LIFETIME}).update(idempotency_key=None)
    return keyed


def refuse_reuse(row: Any, request_hash: str) -> None:
    """Raise `KeyReused` unless the row's call had the same body."""
    if row.request_hash != request_hash:
        raise KeyReused
