"""API keys as DRF's authentication."""

from datetime import timedelta
from typing import Any

from django.utils import timezone
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from assistant.models import APIKey
from assistant.models.keys import digest
from assistant.models.prepared import PreparedQuery

__all__ = ["APIKeyAuthentication"]

# The time of last use is written at most this often: a write for each call would serialise them all.
LAST_USE_PRECISION = timedelta(minutes=1)

# Each call with a key begins with this.
usable_key = PreparedQuery(
    APIKey, lambda text: APIKey.objects.usable().select_related("user__token_allowance").filter(digest=text)
)


class APIKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer sk_...` authenticates the key's user (RFC 6750)."""

    def authenticate(self, request: Request) -> tuple[Any, APIKey] | None:
        scheme, _, secret = get_authorization_header(request).decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            return None
        key = usable_key(digest(secret.strip()))
        if key is None:
            raise AuthenticationFailed("This API key isn't valid.")
        self.note_use(key)
        return key.user, key

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"

    def note_use(self, key: APIKey) -> None:
        now = timezone.now()
        if key.last_used_at is None or now - key.last_used_at > LAST_USE_PRECISION:
            # Of several calls at the same moment, one writes.
            APIKey.objects.filter(pk=key.pk).unused_since(now - LAST_USE_PRECISION).update(last_used_at=now)
