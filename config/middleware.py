"""The service's own middleware."""

from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import Any

from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware


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


def asks(request: HttpRequest) -> bool:
    return request.path == "/healthz" and request.method in ("GET", "HEAD")


def healthy() -> JsonResponse:
    response = JsonResponse({"status": "ok"})
    # CommonMiddleware, which would add it, comes later.
    response.headers["Content-Length"] = str(len(response.content))
    return response
