"""The service's middleware: health checks, and the protection of development servers."""

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
    """Answer `GET /healthz` before the middleware for sessions, users and hosts.

    Each of those may change threads, which takes long beside streams at full speed. And a health check uses the
    process's address, which isn't in ALLOWED_HOSTS.
    """
    if iscoroutinefunction(get_response):

        async def call_async(request: HttpRequest) -> HttpResponseBase:
            response: HttpResponseBase = health_response() if is_health_check(request) else await get_response(request)
            return response

        return call_async

    def call(request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = health_response() if is_health_check(request) else get_response(request)
        return response

    return call


@sync_and_async_middleware
def development_middleware(
    get_response: Callable[[HttpRequest], Any],
) -> Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]:
    """Answer 403 to other machines and through proxies: in development, a caller needs no account."""
    if iscoroutinefunction(get_response):

        async def call_async(request: HttpRequest) -> HttpResponseBase:
            response: HttpResponseBase = refuse_remote(request) or await get_response(request)
            return response

        return call_async

    def call(request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = refuse_remote(request) or get_response(request)
        return response

    return call


def refuse_remote(request: HttpRequest) -> JsonResponse | None:
    address = request.META.get("REMOTE_ADDR") or "unknown"
    forwarded = [name for name in request.headers if name.startswith("X-Forwarded-") or name in FORWARDING]
    if is_local(address) and not forwarded:
        return None
    logger.error(
        "A DEVELOPMENT SERVER (DEBUG=true) WAS REACHED FROM ELSEWHERE: refused client=%s headers=%s", address, forwarded
    )
    return json_error(403, "This is a development server, for its own machine alone.")


def is_health_check(request: HttpRequest) -> bool:
    return request.path == "/healthz" and request.method in ("GET", "HEAD")


def health_response() -> JsonResponse:
    response = JsonResponse({"status": "ok"})
    # CommonMiddleware adds it, but runs later.
    response.headers["Content-Length"] = str(len(response.content))
    return response
