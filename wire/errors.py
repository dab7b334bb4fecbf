"""One shape for every error that leaves the process: `{"error", "code", "details"?}`."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, JsonResponse

__all__ = ["KeyReused", "NoDatabase", "WireError", "json_error"]

Details = Mapping[str, list[str]]

SENTENCES = {
    400: "The request can't be understood.",
    401: "Credentials are missing or not valid.",
    403: "You may not do this.",
    404: "Not found.",
    405: "This method isn't allowed here.",
    413: "The body is too large.",
    415: "The body has to be JSON (Content-Type: application/json).",
    429: "Too many requests.",
    500: "Something went wrong in the service.",
    503: "The service can't answer right now.",
}


class WireError(Exception):
    """Base of the errors that a client may be told of.

    `status` is the HTTP status, `message` one sentence for a person, `details` what is wrong with which field,
    `retry_after` seconds after which the same call may work, `retryable` whether it may.
    """

    status: int = 500
    message: str = SENTENCES[500]
    details: Details | None = None
    retry_after: int | None = None
    retryable: bool = False

    def __init__(
        self, message: str | None = None, *, details: Details | None = None, retry_after: int | None = None
    ) -> None:
        self.message = message or self.message
        self.details = details or self.details
        self.retry_after = retry_after or self.retry_after
        self.retryable = self.retryable or self.retry_after is not None
        super().__init__(self.message)


class KeyReused(WireError):
    """An Idempotency-Key came back with another body."""

    status = 422
    message = "This Idempotency-Key was used with another body."


class NoDatabase(WireError):
    """The database can't be reached, or was lost on the way; the operator must act, and the caller may come back."""

    status = 503
    message = "The database can't be reached right now."
    retry_after = 5


# What Django raises then.
DATABASE_AWAY = (OperationalError, InterfaceError)


def envelope(status: int, message: str | None = None, details: Details | None = None) -> dict[str, Any]:
    """Return an error's body."""
    body: dict[str, Any] = {"error": message or sentence(status), "code": status}
    return {**body, "details": details} if details else body


def sentence(status: int) -> str:
    """Return what is said where nothing better is known, also for a status that has no name."""
    return SENTENCES.get(status) or (f"{HTTPStatus(status).phrase}." if status in HTTPStatus else f"Status {status}.")


def json_error(status: int, message: str | None = None) -> JsonResponse:
    """Return an error as a response, where no DRF view is involved."""
    return JsonResponse(envelope(status, message), status=status)


def not_found(request: HttpRequest, exception: Exception | None = None) -> JsonResponse:
    return json_error(404)
