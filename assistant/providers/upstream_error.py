"""Errors of a model's server, converted to the app's; the server's own message stays in the log."""

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
# A shorter text may be an ordinary word, and isn't masked.
MIN_SECRET_CHARS = 8
MAX_RETRY_AFTER = 3600
# Statuses that never mean that the prompt was too long.
UNRELATED = (401, 403, 404, 429)
TOO_LONG = re.compile(r"context.?(length|size|window)", re.IGNORECASE)


@dataclass(eq=False)
class UpstreamError(Exception):
    """An error of the server: `status` is an HTTP status, `label` its code and type, `message` its sentence."""

    status: int
    label: str = ""
    message: str = ""
    retry_after: int | None = None

    @classmethod
    def of_response(cls, status: int, headers: Mapping[str, str], body: bytes) -> "UpstreamError":
        try:
            content = orjson.loads(body)
        except orjson.JSONDecodeError:
            content = body.decode(errors="replace")
        return cls(status, *parse_error_body(content), retry_after=parse_retry_after(headers.get("Retry-After", "")))

    @classmethod
    def of_event(cls, content: Any) -> "UpstreamError":
        """Parse an error inside a stream, whose status line was sent before."""
        code = content.get("code") if isinstance(content, dict) else None
        status = code if isinstance(code, int) and 400 <= code < 600 else 502
        return cls(status, *parse_error_body(content))

    def as_error(self) -> AssistantError:
        """Return the error for the caller."""
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
                return model_error(retryable=self.status >= 500)

    @property
    def is_too_long(self) -> bool:
        """Tell whether the prompt was too long for the model: each server says so differently."""
        labelled = "context_length_exceeded" in self.label or "exceed_context_size" in self.label
        return labelled or (self.status not in UNRELATED and bool(TOO_LONG.search(self.message)))

    def report(self, *, model: str, request: ModelRequest, key: str = "") -> AssistantError:
        """Log the server's message, and return the error for the caller."""
        texts = [text for message in request.messages if isinstance(text := message.get("content"), str)]
        message = self.excerpt([key, *texts])
        logger.warning("message=%s model=%s status=%s upstream=%r", message_id.get(), model, self.status, message)
        return self.as_error()

    def excerpt(self, secrets: Iterable[str]) -> str:
        """Return the beginning of the message, with secrets masked."""
        message = f"{self.label} {self.message}".strip()
        for secret in secrets:
            message = message.replace(secret, "***") if len(secret) >= MIN_SECRET_CHARS else message
        return message[:EXCERPT_CHARS]


def model_error(message: str | None = None, *, retryable: bool) -> ModelError:
    """Return an error of the model's server; `retryable`: the same call may succeed."""
    error = ModelError(message)
    error.retryable = retryable
    return error


def parse_error_body(content: Any) -> tuple[str, str]:
    """Return the label and the message of an error in any of the servers' formats."""
    if isinstance(content, dict) and content.get("error"):
        content = content["error"]
    if not isinstance(content, dict):
        return "", str(content)
    label = " ".join(str(content[name]) for name in ("code", "type") if content.get(name))
    return label, str(content.get("message") or content.get("detail") or "")


def parse_retry_after(retry_after: str) -> int | None:
    """Parse a Retry-After header, seconds or a date (RFC 9110, 10.2.3), as 1 to 3600 seconds."""
    try:
        wait = float(retry_after)
    except ValueError:
        wait = seconds_until(retry_after)
    return min(max(round(wait), 1), MAX_RETRY_AFTER) if abs(wait) < float("inf") else None


def seconds_until(date: str) -> float:
    """Return the seconds until an HTTP date, infinity if it isn't one."""
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return float("inf")
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - time.time()
