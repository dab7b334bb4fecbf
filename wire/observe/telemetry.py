"""Tracing by OpenTelemetry, for `wire.observe.tracing`. It needs the extra `otel`."""

from types import TracebackType
from typing import Self

from wire.extras import needs_extra
from wire.observe import tracing
from wire.observe.tracing import Attributes, Kind

with needs_extra("otel", "wire.observe.telemetry"):
    from opentelemetry import context, trace
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, SpanKind, StatusCode, TracerProvider
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

__all__ = ["switch_on"]

# `tracestate` and `baggage` are dropped: their texts would be forwarded to other services.
PROPAGATOR = TraceContextTextMapPropagator()


def switch_on(provider: TracerProvider | None = None) -> None:
    """Make spans from now on, with the given provider or the project's global one."""
    tracing.tracer = OTelTracer(trace.get_tracer("django-assistant-backend", tracer_provider=provider))


def context_of(traceparent: str) -> Context:
    """Return the context of a traceparent; an empty one if it isn't valid."""
    return PROPAGATOR.extract({"traceparent": traceparent}, Context())


class OTelSpan:
    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def __enter__(self) -> Self:
        self._token = context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        context.detach(self._token)
        if isinstance(error, Exception):  # not a cancellation or a closed generator
            self.fail(type(error).__name__)
        self._span.end()

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def note(self, attributes: Attributes) -> None:
        self._span.set_attributes({name: value for name, value in attributes.items() if value is not None})

    def fail(self, error: str) -> None:
        self._span.set_attribute("error.type", error)
        self._span.set_status(StatusCode.ERROR)


class OTelTracer:
    """See `wire.observe.tracing.span`."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    def span(self, name: str, attributes: Attributes, kind: Kind, parent: str, link: str) -> OTelSpan:
        links = [Link(trace.get_current_span(context_of(link)).get_span_context())] if link else None
        around = context_of(parent) if parent else None
        given = {key: value for key, value in attributes.items() if value is not None}
        return OTelSpan(self._tracer.start_span(name, around, SpanKind[kind.upper()], given, links))

    def traceparent(self) -> str:
        carrier: dict[str, str] = {}
        PROPAGATOR.inject(carrier)
        return carrier.get("traceparent", "")
