"""The app's settings: environment variables of the service, Django settings of the same name in a host project."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass

from wire.conf import Count, Seconds, read
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
    """Items that run side by side in this process, over all batches."""
    BATCH_MAX_BYTES: Count = 1024 * 1024
    """The body of a batch."""
    BATCH_ALLOWED_PATHS: Prefixes = ("/api/",)
    """How the paths of items may begin."""
    BATCH_ASYNC_MAX_SIZE: Count = 50_000
    """Items in a background batch."""
    BATCH_ASYNC_MAX_BYTES: Count = 256 * 1024 * 1024
    """The NDJSON of a background batch; as one JSON text it may have BATCH_MAX_BYTES."""
    BATCH_RUN_IN_SERVER: bool = True
    """Whether a server works on background batches; else `manage.py run_batches` does."""
    BATCH_CELERY_APP: str = ""
    """Where the project's Celery application is, such as `project.celery.app`, if its workers are to be called."""
    BATCH_SLICE: Seconds = 10
    """For so long a Celery task takes on items; then the next in the line does."""
    BATCH_BACKGROUND_CONCURRENCY: Count = 2
    """Items of background batches that run side by side in a process."""
    BATCH_MAX_QUEUED: Count = 100_000
    """Items that a caller may have waiting or running in background batches."""
    BATCH_MAX_ATTEMPTS: Count = 3
    BATCH_ITEM_TIMEOUT: Seconds = 300
    BATCH_EXPIRES_AFTER: Seconds = 24 * 60 * 60
    """After so long, what hasn't started of a background batch never starts."""
    BATCH_LEASE: Seconds = 30
    """After so long without a sign of life, a process that works on items counts as dead."""
    BATCH_WEBHOOK_SECRET: Annotated[str, Field(pattern=SIGNING_KEY)] = ""
    """What signs webhooks: `whsec_` and 24 to 64 bytes in base64 (https://www.standardwebhooks.com)."""
    BATCH_WEBHOOK_HOSTS: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Hosts that may be told of the end of a background batch, as in ALLOWED_HOSTS; none: nobody is."""
    BATCH_RETENTION_DAYS: Count = 30
    BATCH_STORE_BODIES: Literal["off", "masked", "full"] = "masked"
    """What is kept of items' bodies: nothing that nobody is still to be given, all but credentials, or all."""
    BATCH_STORED_BODY_BYTES: Count = 65_536
    """How much of an item's body, asked or answered, is kept in the database."""

    @field_validator("BATCH_WEBHOOK_HOSTS")
    @classmethod
    def signed(cls, hosts: tuple[str, ...], others: ValidationInfo) -> tuple[str, ...]:
        if hosts and not others.data.get("BATCH_WEBHOOK_SECRET"):
            raise ValueError("it needs BATCH_WEBHOOK_SECRET as well")
        if hosts and not (is_installed("aiohttp") and is_installed("standardwebhooks")):
            raise ValueError(f"it {advice('webhooks')}")
        return hosts


def get_settings() -> BatchingSettings:
    """Return the settings as they are now, so that `override_settings` just works.

    Raises `ImproperlyConfigured` with a sentence naming the value that can't be used.
    """
    return read(BatchingSettings)
