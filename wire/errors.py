"""One shape for every error that leaves the process: `{"error", "code", "details"?}`."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, JsonResponse

__all__ = ["NoDatabase", "WireError", "json_error"]

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
    """Base of the errors that a client may see.

    `status` is the HTTP status, `message` one sentence for a person, `details` the errors by field, `retry_after` the
    seconds after which the same call may succeed, `retryable` whether it may.
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


class NoDatabase(WireError):
    """The database can't be reached or the connection broke: the operator must act, the caller may retry."""

    status = 503
    message = "The database can't be reached right now."
    retry_after = 5


# Django's exceptions in that case.
DATABASE_AWAY = (OperationalError, InterfaceError)


def envelope(status: int, message: str | None = None, details: Details | None = None) -> dict[str, Any]:
    """Return the body of an error."""
    body: dict[str, Any] = {"error": message or sentence(status), "code": status}
    return {**body, "details": details} if details else body


def sentence(status: int) -> str:
    """Return the default message of a status, also of one without a name."""
    return SENTENCES.get(status) or (f"{HTTPStatus(status).phrase}." if status in HTTPStatus else f"Status {status}.")


def json_error(status: int, message: str | None = None) -> JsonResponse:
    """Return an error as a response, outside of DRF's views."""
    return JsonResponse(envelope(status, message), status=status)


def not_found(request: HttpRequest, exception: Exception | None = None) -> JsonResponse:
    return json_error(404)
