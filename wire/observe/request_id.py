"""The request id: on every response, and on every log line of a request."""

import logging
import re
import secrets
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from inspect import iscoroutinefunction
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

__all__ = ["RequestIDFilter", "request_id", "request_id_middleware"]

request_id: ContextVar[str] = ContextVar("request_id", default="-")
"""The id of the current request, `-` outside of requests."""
ACCEPTABLE_ID = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)

GetResponse = Callable[[HttpRequest], Any]
Middleware = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]


class RequestIDFilter(logging.Filter):
    """Adds the request's id to each log record."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        return True


def around(
    get_response: GetResponse,
    before: Callable[[HttpRequest], None],
    after: Callable[[HttpRequest, HttpResponseBase], HttpResponseBase],
) -> Middleware:
    """Return a middleware, async or sync as `get_response` is."""
    if iscoroutinefunction(get_response):

        async def call_async(request: HttpRequest) -> HttpResponseBase:
            before(request)
            return after(request, await get_response(request))

        return call_async

    def call(request: HttpRequest) -> HttpResponseBase:
        before(request)
        return after(request, get_response(request))

    return call


@sync_and_async_middleware
def request_id_middleware(get_response: GetResponse) -> Middleware:
    """Give each request an id, the caller's `X-Request-ID` if it is a valid one, and return it in the response."""

    def before(request: HttpRequest) -> None:
        request_id.set(acceptable(request.META.get("HTTP_X_REQUEST_ID", "")))

    def after(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        response.headers["X-Request-ID"] = request_id.get()
        return response

    return around(get_response, before, after)


def acceptable(given: str) -> str:
    """Return the id that a caller sent, or a new one if it isn't valid."""
    return given if ACCEPTABLE_ID.fullmatch(given) else secrets.token_hex(16)
