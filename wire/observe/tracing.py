"""Spans, if tracing is on (docs/monitoring.md); otherwise nothing is made and OpenTelemetry isn't imported.

A span has names, numbers and outcomes, but no text: no message, no parameters, no path as it was sent. Spans of other
tasks, threads and processes are linked by the `traceparent` of W3C Trace Context.
"""

from collections.abc import Mapping
from inspect import iscoroutinefunction
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

__all__ = ["span", "tracing_middleware"]

Attributes = Mapping[str, Any]
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
Kind = Literal["internal", "server", "client", "producer", "consumer"]


class Span(Protocol):
    """A context manager: the span is current in its block and ends with it, as failed if an exception leaves it."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def rename(self, name: str) -> None: ...

    def note(self, attributes: Attributes) -> None:
        """Add attributes, except those that are None."""

    def fail(self, error: str) -> None:
        """Mark the span as failed, with the name of an exception or a status."""


class Tracer(Protocol):
    """The tracer that `wire.observe.telemetry` sets; its arguments are those of `span`."""

    def span(self, name: str, attributes: Attributes, kind: Kind, parent: str, link: str) -> Span: ...

    def traceparent(self) -> str: ...


class Untraced:
    """The span while tracing is off: it does nothing."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None: ...

    def rename(self, name: str) -> None: ...

    def note(self, attributes: Attributes) -> None: ...

    def fail(self, error: str) -> None: ...


UNTRACED = Untraced()
tracer: Tracer | None = None


def span(
    name: str, attributes: Attributes | None = None, *, kind: Kind = "internal", parent: str = "", link: str = ""
) -> Span:
    """Return a child of the current span, or of the `parent` traceparent; `link` is a linked span's traceparent."""
    return tracer.span(name, attributes or {}, kind, parent, link) if tracer else UNTRACED


def traceparent() -> str:
    """Return the traceparent of the current span; empty if there is none."""
    return tracer.traceparent() if tracer else ""


def headers() -> dict[str, str]:
    """Return the headers that make a call of another service a child of the current span."""
    current = traceparent()
    return {"traceparent": current} if current else {}


@sync_and_async_middleware
def tracing_middleware(get_response: Any) -> Any:
    """Make each request a span, in the trace of its `traceparent`.

    A request that is made inside the process belongs to a span already and gets none of its own.
    """
    if iscoroutinefunction(get_response):

        async def call_async(request: HttpRequest) -> HttpResponseBase:
            with request_span(request) as current:
                response: HttpResponseBase = await get_response(request)
                note_response(current, request, response)
                return response

        return call_async

    def call(request: HttpRequest) -> HttpResponseBase:
        with request_span(request) as current:
            response: HttpResponseBase = get_response(request)
            note_response(current, request, response)
            return response

    return call


def request_span(request: HttpRequest) -> Span:
    if tracer is None or traceparent():
        return UNTRACED
    attributes = {"http.request.method": method_of(request), "url.scheme": request.scheme}
    return span(method_of(request), attributes, kind="server", parent=request.headers.get("traceparent", ""))


def note_response(current: Span, request: HttpRequest, response: HttpResponseBase) -> None:
    """Add a response's status and route to the span. The path isn't added: it may hold a text."""
    if current is UNTRACED:
        return
    route = route_of(request)
    current.rename(f"{method_of(request)} {route}".strip())
    current.note({"http.route": route or None, "http.response.status_code": response.status_code})
    if response.status_code >= 500:
        current.fail(str(response.status_code))


def method_of(request: HttpRequest) -> str:
    """Return the method if it is a standard one: any other would be a new label for each word that a client sends."""
    return request.method if request.method in METHODS else "_OTHER"


def route_of(request: HttpRequest) -> str:
    """Return the URL pattern of a request; empty if none matched."""
    return request.resolver_match.route if request.resolver_match else ""
