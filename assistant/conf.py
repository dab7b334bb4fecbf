"""The app's settings: environment variables of the service, Django settings of the same name in a host project."""

from dataclasses import fields
from pathlib import Path
from typing import Annotated

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

Count = Annotated[int, Field(ge=1, strict=True)]
Seconds = Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True, config=ConfigDict(strict=True))
class Settings:
    """The settings with their defaults; durations in seconds."""

    STREAM_ENABLED: bool = True
    STREAM_CHUNK_SIZE: Count = 100
    STREAM_TIMEOUT: Seconds = 300
    STREAM_DISCONNECT_GRACE: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 10
    TOOL_TIMEOUT: Seconds = 30
    MESSAGE_MAX_CHARS: Count = 32_000
    ASSISTANT_MODEL: Annotated[str, Field(pattern=r"^[\w-]+:.+")] = "local:smollm2"
    ASSISTANT_DATA_DIR: Annotated[Path, Field(strict=False)] = Path("var")
    """Where weights, starter documents and the local model's address are kept."""
    ASSISTANT_TOOLS_OFF: Annotated[frozenset[str], Field(strict=False)] = frozenset({"fetch_url"})
    """Tools that nobody may call."""
    OPENAI_BASE_URL: Annotated[str, Field(pattern=r"^https?://")] = "https://api.openai.com/v1"
    OPENAI_API_KEY: str = ""
    MODEL_CONNECT_TIMEOUT: Seconds = 5
    MODEL_FIRST_TOKEN_TIMEOUT: Seconds = 120
    MODEL_IDLE_TIMEOUT: Seconds = 30


NAMES = tuple(f.name for f in fields(Settings))


def get_settings() -> Settings:
    """Return the settings as they are now, so that `override_settings` just works.

    Raises `ImproperlyConfigured` with a sentence naming the value that can't be used.
    """
    return build(tuple((name, getattr(settings, name)) for name in NAMES if hasattr(settings, name)))


def build(values: tuple[tuple[str, object], ...]) -> Settings:
    try:
        return Settings(**dict(values))  # type: ignore[arg-type]  # pydantic checks the types
    except ValidationError as error:
        first = error.errors()[0]
        raise ImproperlyConfigured(
            f"{first['loc'][0]} can't be {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}."
        ) from None
