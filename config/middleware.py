"""The service's own middleware."""

import logging
from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import Any

from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from config.production import is_local
from wire.errors import json_error

logger = logging.getLogger(__name__)

FORWARDING = {"Forwarded", "X-Real-Ip", "Via"}


@sync_and_async_middleware
def health_middleware(
    get_response: Callable[[HttpRequest], Any],
) -> Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]:
    """Answer `GET /healthz` before sessions, users and hosts are looked at.

    Each of those costs a change of thread, which takes long beside streams at full speed; and who asks for a
    process's health asks for it by its address, which no ALLOWED_HOSTS has.
    """
    if iscoroutinefunction(get_response):

        async def in_the_loop(request: HttpRequest) -> HttpResponseBase:
            response: HttpResponseBase = healthy() if asks(request) else await get_response(request)
            return response

        return in_the_loop

    def in_a_thread(request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = healthy() if asks(request) else get_response(request)
        return response

    return in_a_thread


@sync_and_async_middleware
def development_middleware(
    get_response: Callable[[HttpRequest], Any],
) -> Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]:
    """Answer 403 to whoever isn't on this machine, or comes through a proxy: in development nobody needs an account."""
    if iscoroutinefunction(get_response):

        async def in_the_loop(request: HttpRequest) -> HttpResponseBase:
            response: HttpResponseBase = stranger_refused(request) or await get_response(request)
            return response

        return in_the_loop

    def in_a_thread(request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = stranger_refused(request) or get_response(request)
        return response

    return in_a_thread


def stranger_refused(request: HttpRequest) -> JsonResponse | None:
    address = request.META.get("REMOTE_ADDR") or "unknown"
    forwarded = [name for name in request.headers if name.startswith("X-Forwarded-") or name in FORWARDING]
    if is_local(address) and not forwarded:
        return None
    logger.error(
        "A DEVELOPMENT SERVER (DEBUG=true) WAS REACHED FROM ELSEWHERE: refused client=%s headers=%s", address, forwarded
    )
    return json_error(403, "This is a development server, for its own machine alone.")


def asks(request: HttpRequest) -> bool:
    return request.path == "/healthz" and request.method in ("GET", "HEAD")


def healthy() -> JsonResponse:
    response = JsonResponse({"status": "ok"})
    # CommonMiddleware, which would add it, comes later.
    response.headers["Content-Length"] = str(len(response.content))
    return response
