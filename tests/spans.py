"""Record the spans of a test: by name, with attributes and texts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from wire.observe import telemetry, tracing

MIDDLEWARE = "wire.observe.tracing.tracing_middleware"


class Spans:
    """The exported spans: by name, with attributes and parents."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()

    @property
    def all(self) -> list[ReadableSpan]:
        """Return them in the order in which they began."""
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        [span] = self.named(name)
        return span

    def tree(self, span: ReadableSpan) -> Any:
        """Return a span's name and what its children are, in the order in which they began."""
        children = [each for each in self.all if each.parent and each.parent.span_id == span.context.span_id]
        return (span.name, *(self.tree(child) for child in children))

    @property
    def text(self) -> str:
        return "".join(span.to_json() for span in self.all)


@contextmanager
def record() -> Iterator[Spans]:
    """Enable tracing and record spans until the block ends."""
    spans = Spans()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans.exporter))
    telemetry.switch_on(provider)
    try:
        yield spans
    finally:
        tracing.tracer = None
        provider.shutdown()


def attributes(span: ReadableSpan, *names: str) -> list[Any]:
    return [(span.attributes or {}).get(name) for name in names]
