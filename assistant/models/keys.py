"""API keys: secrets that authenticate their users, with scopes and limits."""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Self

from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone


class APIKeyQuerySet(models.QuerySet["APIKey"]):
    def usable(self) -> Self:
        return self.filter(revoked_at=None, user__is_active=True)

    def unused_since(self, moment: datetime) -> Self:
        return self.filter(Q(last_used_at=None) | Q(last_used_at__lt=moment))


class APIKey(models.Model):
    """A named secret that authenticates its user. The secret is shown once; only its digest is stored.

    The secret has 256 random bits, so that a plain SHA-256 is as safe as a slow hash (OWASP's advice on API keys).
    """

    PREFIX = "sk_"
    # Set on a new key only, and in no column, so that it can't be read again.
    secret: str = ""

    class Scope(models.TextChoices):
        CHAT = "chat", "chat: ask agents; read, rename and delete conversations"
        TOOLS = "tools", "tools: list and run tools"
        BATCHES = "batches", "batches: send, read, cancel and retry them; each item needs its own scope"
        READ = "read", "read: GET everything, change nothing"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=100, help_text="What it is for.")
    hint = models.CharField(max_length=12, editable=False, help_text="How it begins, to tell it from others.")
    digest = models.CharField(max_length=64, unique=True, editable=False)
    scopes = models.JSONField(default=list, blank=True, help_text="What it may call; none means everything.")
    requests_per_minute = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text="Empty: THROTTLE_KEY."
    )
    tokens_per_minute = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text="In and out together. Empty: no limit."
    )
    tokens_per_month = models.PositiveBigIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="In and out together, by the calendar in UTC. Empty: no limit but the user's.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects: ClassVar[models.Manager["APIKey"]] = APIKeyQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        verbose_name = "API key"
        verbose_name_plural = "API keys"

    def __str__(self) -> str:
        return f"{self.name} ({self.hint}...)"

    @classmethod
    def issue(cls, *, user: Any, name: str, **limits: Any) -> tuple["APIKey", str]:
        """Create a key and return it with its secret, which can't be read again."""
        key = cls(user=user, name=name, **limits)
        key.make_secret()
        key.save(force_insert=True)
        return key, key.secret

    def make_secret(self) -> None:
        self.secret = self.PREFIX + secrets.token_urlsafe(32)
        self.hint, self.digest = self.secret[:8], digest(self.secret)

    def may_call(self, method: str | None, needed: Sequence[str]) -> bool:
        """Tell whether the key's scopes allow a call; a call without known scopes needs a key without scopes."""
        if not self.scopes or (method in SAFE_METHODS and self.Scope.READ in self.scopes):
            return True
        return bool(needed) and set(needed) <= set(self.scopes)

    def revoke(self) -> None:
        self.revoked_at = timezone.now()
        self.save(update_fields=["revoked_at"])


SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
