"""Spans of what happens, where tracing is on (docs/monitoring.md); elsewhere nothing is made, and nothing imported.

A span says who did what with which outcome, never a text: no message, no answer, no parameters, no path as it was sent.
What belongs to another task, thread or process is found by the `traceparent` of W3C Trace Context.
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
    """Current inside its block, at whose end it ends; failed where an exception leaves that."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def rename(self, name: str) -> None: ...

    def note(self, attributes: Attributes) -> None:
        """Say more of it; what is None is left out."""

    def fail(self, error: str) -> None:
        """Say that it failed: with the name of an exception, or a status."""


class Tracer(Protocol):
    """What `wire.observe.telemetry` sets; the arguments are those of `span`."""

    def span(self, name: str, attributes: Attributes, kind: Kind, parent: str, link: str) -> Span: ...

    def traceparent(self) -> str: ...


class Untraced:
    """The span that there is where tracing is off."""

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
    """Return a span of the current one, or of the `parent` where its traceparent is given; `link` refers to another."""
    return tracer.span(name, attributes or {}, kind, parent, link) if tracer else UNTRACED


def traceparent() -> str:
    """Return what refers to the current span; empty where there is none."""
    return tracer.traceparent() if tracer else ""


def headers() -> dict[str, str]:
    """Return the headers with which a call of another service is part of the current span."""
    current = traceparent()
    return {"traceparent": current} if current else {}


@sync_and_async_middleware
def tracing_middleware(get_response: Any) -> Any:
    """Make each request a span, in the trace that its `traceparent` names.

    What is called inside the process, as an item of a batch is, is part of a span already and has none of its own.
    """
    if iscoroutinefunction(get_response):

        async def in_the_loop(request: HttpRequest) -> HttpResponseBase:
            with of_request(request) as current:
                response: HttpResponseBase = await get_response(request)
                note_answer(current, request, response)
                return response

        return in_the_loop

    def in_a_thread(request: HttpRequest) -> HttpResponseBase:
        with of_request(request) as current:
            response: HttpResponseBase = get_response(request)
            note_answer(current, request, response)
            return response

    return in_a_thread


def of_request(request: HttpRequest) -> Span:
    if tracer is None or traceparent():
        return UNTRACED
    attributes = {"http.request.method": method_of(request), "url.scheme": request.scheme}
    return span(method_of(request), attributes, kind="server", parent=request.headers.get("traceparent", ""))


def note_answer(current: Span, request: HttpRequest, response: HttpResponseBase) -> None:
    """Say how a request was answered, and by which route: its path may hold a text."""
    if current is UNTRACED:
        return
    route = route_of(request)
    current.rename(f"{method_of(request)} {route}".strip())
    current.note({"http.route": route or None, "http.response.status_code": response.status_code})
    if response.status_code >= 500:
        current.fail(str(response.status_code))


def method_of(request: HttpRequest) -> str:
    """Return the method where it is a known one: who counts requests can't count every word that somebody sends."""
    return request.method if request.method in METHODS else "_OTHER"


def route_of(request: HttpRequest) -> str:
    """Return the pattern of the URL that a request was answered by; empty where there was none."""
    return request.resolver_match.route if request.resolver_match else ""
