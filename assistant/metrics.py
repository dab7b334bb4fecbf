"""Metrics for Prometheus, in its client's own registry: importing this switches them on.

It needs the extra `metrics`. Labels are few: an agent's id at most, never a caller or a message.
"""

from typing import Any

from django.dispatch import receiver
from prometheus_client import Counter, Gauge, Histogram

from assistant import signals
from assistant.admission import PROCESS, Bound, admission
from assistant.errors import ModelError
from assistant.models import Message

RUNNING = Gauge("assistant_answers_running", "Answers that are being written.")
STREAMS = Gauge("assistant_streams_open", "Streams and plain calls that read an answer as it is written.")
ANSWERS = Counter("assistant_answers", "Answers that have ended.", ["agent", "outcome"])
REFUSED = Counter("assistant_answers_refused", "Answers that there was no place for.", ["reason"])
MODEL_ERRORS = Counter("assistant_model_errors", "Failures of models.", ["kind"])
FIRST_TOKEN = Histogram(
    "assistant_time_to_first_token_seconds",
    "From the request to the model's first token.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
GAP = Histogram(
    "assistant_token_gap_seconds",
    "Between an answer's token events, of which there is at most one in 25 ms.",
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
    if message.time_to_first_token is not None:
        FIRST_TOKEN.observe(message.time_to_first_token)
    if isinstance(error, ModelError):
        MODEL_ERRORS.labels(type(error).__name__).inc()
