"""The base view of JSON APIs, and DRF's exception handler."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from rest_framework import exceptions
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView, set_rollback

from wire.api.negotiation import JSONNegotiation
from wire.api.parsers import StrictJSONParser
from wire.conf import body_max_bytes
from wire.errors import DATABASE_AWAY, Details, NoDatabase, WireError, envelope

logger = logging.getLogger(__name__)


class JSONView(APIView):
    """The base view: strict JSON in, JSON out, errors of one shape, for any REST_FRAMEWORK setting.

    Authentication, permissions and throttles stay those of the project.
    """

    parser_classes = [StrictJSONParser]
    renderer_classes = [JSONRenderer]
    content_negotiation_class = JSONNegotiation
    versioning_class = None

    @classmethod
    def max_body_bytes(cls) -> int:
        """Return how many bytes the body of a request may have.

        `manage.py serve` asks the class before the body arrives. A class that takes more than BODY_MAX_BYTES overrides
        this and names a parser that reads as much.
        """
        return body_max_bytes()

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = super().dispatch(request, *args, **kwargs)
        # The view and its request refer to each other: a response in that cycle would outlive the request.
        del self.response
        return response

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        # No row has such an id, and PostgreSQL raises an error instead of finding none.
        if any(isinstance(value, str) and "\0" in value for value in kwargs.values()):
            raise Http404

    def get_exception_handler(self) -> Any:
        return exception_handler


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Render an exception of a DRF view (DRF's EXCEPTION_HANDLER setting)."""
    match exc:
        case WireError():
            response = error_response(exc)
        case Http404():
            response = Response(envelope(404), status=404)
        case PermissionDenied():
            response = Response(envelope(403), status=403)
        case exceptions.APIException():
            response = drf_error_response(exc)
        case _ if isinstance(exc, DATABASE_AWAY):
            error = NoDatabase()
            error.__cause__ = exc
            response = error_response(error)
        case _:
            return None
    set_rollback()
    return response


def error_response(exc: WireError) -> Response:
    if exc.status >= 500:
        logger.warning("error=%s status=%s", type(exc).__name__, exc.status, exc_info=exc)
    headers = {"Retry-After": str(exc.retry_after)} if exc.retry_after else None
    return Response(envelope(exc.status, exc.message, exc.details), status=exc.status, headers=headers)


def drf_error_response(exc: exceptions.APIException) -> Response:
    headers = {}
    if authenticate := getattr(exc, "auth_header", None):
        headers["WWW-Authenticate"] = authenticate
    if wait := getattr(exc, "wait", None):
        headers["Retry-After"] = str(int(-(-wait // 1)))
    message, details = read_detail(exc)
    return Response(envelope(exc.status_code, message, details), status=exc.status_code, headers=headers)


def read_detail(exc: exceptions.APIException) -> tuple[str, Details | None]:
    """Return DRF's nested detail as one sentence and the errors by field."""
    if not isinstance(exc, exceptions.ValidationError):
        return str(exc.detail), None
    details = dict(flatten(exc.detail))
    field, messages = next(iter(details.items()))
    first = messages[0].rstrip(".")
    message = f"{first}." if field == "body" else f"{field}: {first}."
    return message, details


def flatten(detail: Any, path: str = "") -> list[tuple[str, list[str]]]:
    """Flatten DRF's nested error detail to (dotted field, messages) pairs."""
    if isinstance(detail, Mapping):
        pairs: Iterable[tuple[Any, Any]] = detail.items()
    elif isinstance(detail, list) and any(isinstance(part, Mapping | list) for part in detail):
        pairs = enumerate(detail)
    else:
        return [(path or "body", [str(part) for part in (detail if isinstance(detail, list) else [detail])])]
    return [
        flat
        for name, part in pairs
        for flat in flatten(part, path if name == "non_field_errors" else f"{path}.{name}".lstrip("."))
    ]
