"""OpenTelemetry behind `wire.observe.tracing`: it needs the extra `otel`."""

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

# Neither `tracestate` nor `baggage` is taken over: their texts would go on to the model's server.
PROPAGATOR = TraceContextTextMapPropagator()


def switch_on(provider: TracerProvider | None = None) -> None:
    """Have spans made, by the given provider or by the one that the project has set for all its code."""
    tracing.tracer = OTelTracer(trace.get_tracer("django-assistant-backend", tracer_provider=provider))


def place(traceparent: str) -> Context:
    """Return what it refers to; nothing, where it can't be read."""
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
        if isinstance(error, Exception):  # neither who was cancelled nor a generator that was closed
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
        links = [Link(trace.get_current_span(place(link)).get_span_context())] if link else None
        around = place(parent) if parent else None
        said = {key: value for key, value in attributes.items() if value is not None}
        return OTelSpan(self._tracer.start_span(name, around, SpanKind[kind.upper()], said, links))

    def traceparent(self) -> str:
        carrier: dict[str, str] = {}
        PROPAGATOR.inject(carrier)
        return carrier.get("traceparent", "")
