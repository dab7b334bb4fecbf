"""What a model's server says went wrong, as one of our errors; its own words stay in the operator's log."""

import logging
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from assistant.errors import (
    AssistantError,
    ContextTooLong,
    ModelBusy,
    ModelError,
    ModelNotFound,
    ModelRefusedCredentials,
)
from assistant.logs import message_id
from assistant.providers.base import ModelRequest

logger = logging.getLogger(__name__)

EXCERPT_CHARS = 300
# Less than this of a text may be anybody's word.
TELLING_CHARS = 8
MAX_RETRY_AFTER = 3600
# Statuses that never mean that the prompt was too long.
UNRELATED = (401, 403, 404, 429)
TOO_LONG = re.compile(r"context.?(length|size|window)", re.IGNORECASE)


@dataclass(eq=False)
class Fault(Exception):
    """An error of the server: `status` as HTTP has it, `label` its code and type, `said` its sentence."""

    status: int
    label: str = ""
    said: str = ""
    retry_after: int | None = None

    @classmethod
    def of_response(cls, status: int, headers: Mapping[str, str], body: bytes) -> "Fault":
        try:
            content = orjson.loads(body)
        except orjson.JSONDecodeError:
            content = body.decode(errors="replace")
        return cls(status, *described(content), retry_after=seconds(headers.get("Retry-After", "")))

    @classmethod
    def of_event(cls, content: Any) -> "Fault":
        """Read an error that came inside a stream, where the status line has been sent long before."""
        code = content.get("code") if isinstance(content, dict) else None
        status = code if isinstance(code, int) and 400 <= code < 600 else 502
        return cls(status, *described(content))

    def as_error(self) -> AssistantError:
        """Return what the caller is told."""
        if self.is_too_long:
            return ContextTooLong()
        match self.status:
            case 401 | 403:
                return ModelRefusedCredentials()
            case 404:
                return ModelNotFound()
            case 429:
                return ModelBusy(retry_after=self.retry_after)
            case 503 if self.retry_after:
                return ModelBusy(retry_after=self.retry_after)
            case _:
                return failed(retryable=self.status >= 500)

    @property
    def is_too_long(self) -> bool:
        """Tell whether the prompt was more than the model takes: each server has its own words for it."""
        labelled = "context_length_exceeded" in self.label or "exceed_context_size" in self.label
        return labelled or (self.status not in UNRELATED and bool(TOO_LONG.search(self.said)))

    def told(self, *, model: str, request: ModelRequest, key: str = "") -> AssistantError:
        """Log what the server said, and return what the caller is told."""
        texts = [text for message in request.messages if isinstance(text := message.get("content"), str)]
        said = self.excerpt([key, *texts])
        logger.warning("message=%s model=%s status=%s upstream=%r", message_id.get(), model, self.status, said)
        return self.as_error()

    def excerpt(self, secrets: Iterable[str]) -> str:
        """Return the beginning of what it said, without what must not be in a log."""
        said = f"{self.label} {self.said}".strip()
        for secret in secrets:
            said = said.replace(secret, "***") if len(secret) >= TELLING_CHARS else said
        return said[:EXCERPT_CHARS]


def failed(message: str | None = None, *, retryable: bool) -> ModelError:
    """Return a failure of the model's server; `retryable`: the same call may work."""
    error = ModelError(message)
    error.retryable = retryable
    return error


def described(content: Any) -> tuple[str, str]:
    """Return the label and the sentence of an error in any of the shapes that servers give it."""
    if isinstance(content, dict) and content.get("error"):
        content = content["error"]
    if not isinstance(content, dict):
        return "", str(content)
    label = " ".join(str(content[name]) for name in ("code", "type") if content.get(name))
    return label, str(content.get("message") or content.get("detail") or "")


def seconds(retry_after: str) -> int | None:
    """Read a Retry-After header, in seconds or a date (RFC 9110, 10.2.3), as 1 to 3600 seconds."""
    try:
        wait = float(retry_after)
    except ValueError:
        wait = until(retry_after)
    return min(max(round(wait), 1), MAX_RETRY_AFTER) if abs(wait) < float("inf") else None


def until(date: str) -> float:
    """Return the seconds until an HTTP date, infinity where it isn't one."""
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return float("inf")
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - time.time()
