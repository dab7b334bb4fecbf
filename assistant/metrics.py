"""Prometheus metrics in the client's default registry: importing this module enables them.

It needs the extra `metrics`. Labels are names of agents, models and tools, never callers or messages.
"""

from typing import Any

from django.dispatch import receiver

from assistant import signals
from assistant.answers.admission import PROCESS, Bound, admission
from assistant.errors import CallerError, ModelError, ToolTimeout
from assistant.models import Message
from assistant.tools.toolbox import Tool
from wire.extras import needs_extra

with needs_extra("metrics", "assistant.metrics"):
    from prometheus_client import Counter, Gauge, Histogram

__all__ = []

RUNNING = Gauge("assistant_answers_running", "Answers that are being written.")
STREAMS = Gauge("assistant_streams_open", "Streams and plain calls that read an answer as it is written.")
ANSWERS = Counter("assistant_answers", "Answers that have ended.", ["agent", "outcome"])
# Without labels it exists before the first count: Prometheus sees no increase in a counter that starts at one.
INTERRUPTED = Counter("assistant_answers_interrupted", "Answers that ended because their process stopped or died.")
REFUSED = Counter("assistant_answers_refused", "Answers that were refused at a limit.", ["reason"])
MODEL_ERRORS = Counter("assistant_model_errors", "Failures of models.", ["model", "kind"])
TOKENS = Counter("assistant_tokens", "Tokens of answers that have ended.", ["model", "direction"])
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
FIRST_TOKEN = Histogram(
    "assistant_time_to_first_token_seconds",
    "From the request to the model's first token.",
    ["model"],
    buckets=SECONDS,
)
ANSWER = Histogram(
    "assistant_answer_duration_seconds",
    "From the request to the end of the answer.",
    ["model"],
    buckets=(*SECONDS, 300),
)
TOOLS = Histogram(
    "assistant_tool_duration_seconds",
    "Calls of tools, by models and by callers.",
    ["tool", "outcome"],
    buckets=SECONDS,
)
GAP = Histogram(
    "assistant_token_gap_seconds",
    "Between an answer's token events, at most one per 25 ms.",
    buckets=(0.03, 0.04, 0.05, 0.075, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
RUNNING.set_function(lambda: admission.taken().get((PROCESS, ""), 0))


@receiver(signals.answer_refused)
def count_refusal(bound: Bound, **kwargs: Any) -> None:
    REFUSED.labels(bound.on).inc()


@receiver(signals.reader_came)
def count_reader(**kwargs: Any) -> None:
    STREAMS.inc()


@receiver(signals.reader_left)
def discount_reader(**kwargs: Any) -> None:
    STREAMS.dec()


@receiver(signals.token_sent)
def observe_gap(gap: float, **kwargs: Any) -> None:
    GAP.observe(gap)


@receiver(signals.answer_ended)
def count_answer(message: Message, error: BaseException | None, **kwargs: Any) -> None:
    ANSWERS.labels(message.agent_id, message.status).inc()
    INTERRUPTED.inc(message.status == Message.Status.INTERRUPTED)
    TOKENS.labels(message.model, "input").inc(message.input_tokens)
    TOKENS.labels(message.model, "output").inc(message.output_tokens)
    if message.time_to_first_token is not None:
        FIRST_TOKEN.labels(message.model).observe(message.time_to_first_token)
    if message.processing_time is not None:
        ANSWER.labels(message.model).observe(message.processing_time)
    if isinstance(error, ModelError):
        MODEL_ERRORS.labels(message.model, type(error).__name__).inc()


@receiver(signals.tool_ended)
def observe_tool(tool: Tool, error: BaseException | None, seconds: float, **kwargs: Any) -> None:
    TOOLS.labels(tool.name, outcome(error)).observe(seconds)


def outcome(error: BaseException | None) -> str:
    match error:
        case None:
            return "completed"
        case CallerError():
            return "refused"
        case ToolTimeout():
            return "timed_out"
        case Exception():
            return "failed"
        case _:
            return "cancelled"
