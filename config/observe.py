"""Metrics and traces, for each process whose environment turns them on."""

import logging
from secrets import compare_digest

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from wire.errors import json_error
from wire.extras import needs_extra

logger = logging.getLogger(__name__)


def begin() -> None:
    if settings.OTEL_EXPORTER_OTLP_ENDPOINT:
        export_spans(settings.OTEL_EXPORTER_OTLP_ENDPOINT, settings.OTEL_SERVICE_NAME)
    if settings.METRICS_PORT is not None:
        serve_metrics(settings.HOST, settings.METRICS_PORT)


def export_spans(endpoint: str, service: str) -> None:
    """Send spans in batches from a thread, and the rest when the process ends."""
    with needs_extra("otel", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from wire.observe import telemetry

    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces")))
    telemetry.switch_on(provider)


def register_metrics() -> None:
    """Turn on the metrics of the apps: their import registers them."""
    import assistant.metrics  # noqa: F401
    import batching.metrics  # noqa: F401
    import wire.observe.metrics  # noqa: F401


def metrics(request: HttpRequest) -> HttpResponse:
    """Return this process's metrics for `GET /metrics` with METRICS_TOKEN (`Authorization: Bearer ...`)."""
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not compare_digest(token.strip().encode(), settings.METRICS_TOKEN.encode()):
        refusal = json_error(401)
        refusal.headers["WWW-Authenticate"] = "Bearer"
        return refusal
    return HttpResponse(generate_latest(), content_type=CONTENT_TYPE_LATEST)


def serve_metrics(host: str, port: int) -> None:
    """Serve this process's metrics from a thread. A second process with the same port serves none."""
    from prometheus_client import start_http_server

    register_metrics()
    try:
        server, _ = start_http_server(port, host)
    except OSError as error:
        logger.warning("metrics=%s state=not_served error=%s", f"{host}:{port}", error.strerror)
    else:
        logger.info("metrics=%s state=served", f"{host}:{server.server_port}")
