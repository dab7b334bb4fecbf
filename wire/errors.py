"""One shape for every error that leaves the process: `{"error", "code", "details"?}`."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, JsonResponse
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

logger = logging.getLogger(__name__)

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


def envelope(status: int, message: str | None = None, details: Details | None = None) -> dict[str, Any]:
    """Return an error's body."""
    body: dict[str, Any] = {"error": message or sentence(status), "code": status}
    return {**body, "details": details} if details else body


def sentence(status: int) -> str:
    """Return what is said where nothing better is known."""
    return SENTENCES.get(status) or HTTPStatus(status).phrase + "."


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Render an exception of a DRF view (DRF's EXCEPTION_HANDLER setting)."""
    match exc:
        case WireError():
            response = rendered(exc)
        case Http404():
            response = Response(envelope(404), status=404)
        case PermissionDenied():
            response = Response(envelope(403), status=403)
        case exceptions.APIException():
            response = rendered_drf(exc)
        case _:
            return None
    set_rollback()
    return response


def rendered(exc: WireError) -> Response:
    if exc.status >= 500:
        logger.warning("error=%s status=%s", type(exc).__name__, exc.status, exc_info=exc)
    headers = {"Retry-After": str(exc.retry_after)} if exc.retry_after else None
    return Response(envelope(exc.status, exc.message, exc.details), status=exc.status, headers=headers)


def rendered_drf(exc: exceptions.APIException) -> Response:
    headers = {}
    if authenticate := getattr(exc, "auth_header", None):
        headers["WWW-Authenticate"] = authenticate
    if wait := getattr(exc, "wait", None):
        headers["Retry-After"] = str(int(-(-wait // 1)))
    message, details = read_detail(exc)
    return Response(envelope(exc.status_code, message, details), status=exc.status_code, headers=headers)


def read_detail(exc: exceptions.APIException) -> tuple[str, Details | None]:
    """Return DRF's nested detail as a sentence and what is wrong with which field."""
    if not isinstance(exc, exceptions.ValidationError):
        return str(exc.detail), None
    details = dict(flattened(exc.detail))
    field, messages = next(iter(details.items()))
    first = messages[0].rstrip(".")
    message = f"{first}." if field == "body" else f"{field}: {first}."
    return message, details


def flattened(detail: Any, path: str = "") -> list[tuple[str, list[str]]]:
    """Flatten DRF's nested error detail to (dotted field, messages) pairs."""
    if isinstance(detail, Mapping):
        pairs = detail.items()
    elif isinstance(detail, list) and any(isinstance(part, Mapping | list) for part in detail):
        pairs = enumerate(detail)
    else:
        return [(path or "body", [str(part) for part in (detail if isinstance(detail, list) else [detail])])]
    return [
        flat
        for name, part in pairs
        for flat in flattened(part, path if name == "non_field_errors" else f"{path}.{name}".lstrip("."))
    ]


def json_error(status: int, message: str | None = None) -> JsonResponse:
    """Return an error as a response, where no DRF view is involved."""
    return JsonResponse(envelope(status, message), status=status)


def not_found(request: HttpRequest, exception: Exception | None = None) -> JsonResponse:
    return json_error(404)
