"""`GET /metrics` for Prometheus, where METRICS_TOKEN is set."""

from secrets import compare_digest

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

import assistant.metrics  # noqa: F401  # importing switches them on, these three
import batching.metrics  # noqa: F401
import wire.observe.metrics  # noqa: F401
from wire.errors import json_error


def metrics(request: HttpRequest) -> HttpResponse:
    """Answer whoever brings the token (`Authorization: Bearer ...`) with this process's metrics."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not compare_digest(token.strip().encode(), settings.METRICS_TOKEN.encode()):
        refusal = json_error(401)
        refusal.headers["WWW-Authenticate"] = "Bearer"
        return refusal
    return HttpResponse(generate_latest(), content_type=CONTENT_TYPE_LATEST)
