"""The app's settings: environment variables of the service, Django settings of the same name in a host project."""

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from wire.conf import Count, Seconds, read_settings


@dataclass(frozen=True, slots=True, config=ConfigDict(strict=True))
class AssistantSettings:
    """The settings with their defaults; durations in seconds."""

    STREAM_ENABLED: bool = True
    STREAM_CHUNK_SIZE: Count = 100
    STREAM_TIMEOUT: Seconds = 300
    STREAM_DISCONNECT_GRACE: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 10
    CHAT_CONCURRENCY: Count = 1000
    """Answers that a process writes at a time."""
    CHAT_CONCURRENCY_PER_CALLER: Count = 100
    """The part of them that one caller may have."""
    USER_TOKENS_PER_MONTH: Count | None = None
    """Input and output tokens that a user may spend in a month, unless the admin sets another allowance."""
    TOOL_TIMEOUT: Seconds = 30
    MESSAGE_MAX_CHARS: Count = 32_000
    ASSISTANT_MODEL: Annotated[str, Field(pattern=r"^[\w-]+:.+")] = "local:smollm2"
    ASSISTANT_PROVIDERS: Mapping[str, str] = field(default_factory=dict)
    """Further providers: the prefix of ASSISTANT_MODEL, and the path of a function that returns a model by name."""
    ASSISTANT_DATA_DIR: Annotated[Path, Field(strict=False)] = Path("var")
    """The directory of weights, starter documents and the local model's address."""
    ASSISTANT_TOOLS_OFF: Annotated[frozenset[str], Field(strict=False)] = frozenset()
    """Tools that are disabled. An unknown name stops the start."""
    ASSISTANT_FETCH_URL: bool = False
    """Whether agents and callers may use the tool `fetch_url`, which reads pages of the public web."""
    OPENAI_BASE_URL: Annotated[str, Field(pattern=r"^https?://")] = "https://api.openai.com/v1"
    OPENAI_API_KEY: str = ""
    REDIS_URL: str = ""
    """The Redis through which processes share running answers; empty: they don't."""
    MODEL_CONNECT_TIMEOUT: Seconds = 5
    MODEL_FIRST_TOKEN_TIMEOUT: Seconds = 120
    MODEL_IDLE_TIMEOUT: Seconds = 30


def get_settings() -> AssistantSettings:
    """Return the current settings, so that `override_settings` works.

    Raises `ImproperlyConfigured` with a sentence that names the invalid value.
    """
    return read_settings(AssistantSettings)
