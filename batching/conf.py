"""The app's settings: environment variables of the service, Django settings of the same name in a host project."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass

from wire.conf import Count, Seconds, read_settings
from wire.extras import advice, is_installed

Prefixes = Annotated[tuple[Annotated[str, Field(pattern=r"^/")], ...], Field(strict=False, min_length=1)]
SIGNING_KEY = r"^(whsec_([A-Za-z0-9+/]{4}){8,21}([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)?$"


@dataclass(frozen=True, slots=True, config=ConfigDict(strict=True))
class BatchingSettings:
    """The settings with their defaults; durations in seconds."""

    BATCH_ENABLED: bool = True
    BATCH_MAX_SIZE: Count = 10
    """Items in a batch."""
    BATCH_TIMEOUT: Seconds = 30
    BATCH_CONCURRENCY: Count = 10
    """Items that run at once in a process, over all batches."""
    BATCH_MAX_BYTES: Count = 1024 * 1024
    """Bytes of a batch."""
    BATCH_ITEM_MAX_BYTES: Count = 8 * 1024 * 1024
    """Bytes of the answer to an item."""
    BATCH_ALLOWED_PATHS: Prefixes = ("/api/",)
    """The prefixes of the paths that items may call."""
    BATCH_ASYNC_MAX_SIZE: Count = 50_000
    """Items in a background batch."""
    BATCH_ASYNC_MAX_BYTES: Count = 256 * 1024 * 1024
    """Bytes of a background batch as NDJSON; as one JSON text it may have BATCH_MAX_BYTES."""
    BATCH_RUN_IN_SERVER: bool = True
    """Whether servers execute background batches; if not, `manage.py run_batches` does."""
    BATCH_CELERY_APP: str = ""
    """The path of the project's Celery application, such as `project.celery.app`, if Celery executes batches."""
    BATCH_SLICE: Seconds = 10
    """How long a Celery task starts items before it makes way for the next task."""
    BATCH_BACKGROUND_CONCURRENCY: Count = 2
    """Items of background batches that run at once in a process."""
    BATCH_MAX_QUEUED: Count = 100_000
    """Items that a caller may have waiting or running in background batches."""
    BATCH_MAX_ATTEMPTS: Count = 3
    BATCH_ITEM_TIMEOUT: Seconds = 300
    BATCH_EXPIRES_AFTER: Seconds = 24 * 60 * 60
    """How long after its call a background batch starts items."""
    BATCH_LEASE: Seconds = 30
    """How long after its last renewal of a lease a process counts as dead."""
    BATCH_WEBHOOK_SECRET: Annotated[str, Field(pattern=SIGNING_KEY)] = ""
    """The key that signs webhooks: `whsec_` and 24 to 64 bytes in base64 (https://www.standardwebhooks.com)."""
    BATCH_WEBHOOK_HOSTS: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Hosts that webhooks may be sent to, as in ALLOWED_HOSTS; empty: webhooks are disabled."""
    BATCH_RETENTION_DAYS: Count = 30
    BATCH_STORE_BODIES: Literal["off", "masked", "full"] = "masked"
    """The bodies in the admin: none (`off`), without credentials (`masked`), or all (`full`).

    Responses that the caller may fetch later are stored whole and as they are in any case.
    """
    BATCH_STORED_BODY_BYTES: Count = 65_536
    """The length to which a body is stored that the caller doesn't fetch later."""

    @field_validator("BATCH_WEBHOOK_HOSTS")
    @classmethod
    def require_secret(cls, hosts: tuple[str, ...], others: ValidationInfo) -> tuple[str, ...]:
        if hosts and not others.data.get("BATCH_WEBHOOK_SECRET"):
            raise ValueError("it needs BATCH_WEBHOOK_SECRET as well")
        if hosts and not (is_installed("aiohttp") and is_installed("standardwebhooks")):
            raise ValueError(f"it {advice('webhooks')}")
        return hosts


def get_settings() -> BatchingSettings:
    """Return the current settings, so that `override_settings` works.

    Raises `ImproperlyConfigured` with a sentence that names an invalid value.
    """
    return read_settings(BatchingSettings)
