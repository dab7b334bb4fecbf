"""Middleware that counts requests for Prometheus, in its client's default registry.

It needs the extra `metrics`.
"""

import time
from inspect import iscoroutinefunction
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from wire.extras import needs_extra
from wire.observe.tracing import method_of, route_of

with needs_extra("metrics", "wire.observe.metrics"):
    from prometheus_client import Histogram

__all__ = ["metrics_middleware"]

REQUESTS = Histogram(
    "http_request_duration_seconds",
    "Seconds from a request to the start of its response.",
    ["route", "method", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)


@sync_and_async_middleware
def metrics_middleware(get_response: Any) -> Any:
    """Count requests by the pattern of their URL, not by their path."""
    if iscoroutinefunction(get_response):

        async def call_async(request: HttpRequest) -> HttpResponseBase:
            began = time.monotonic()
            response: HttpResponseBase = await get_response(request)
            return count(request, response, began)

        return call_async

    def call(request: HttpRequest) -> HttpResponseBase:
        began = time.monotonic()
        return count(request, get_response(request), began)

    return call


def count(request: HttpRequest, response: HttpResponseBase, began: float) -> HttpResponseBase:
    labels = (route_of(request), method_of(request), str(response.status_code))
    REQUESTS.labels(*labels).observe(time.monotonic() - began)
    return response
