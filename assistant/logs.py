"""The message's id on each log line of its answer."""

import logging
from contextvars import Context, ContextVar

from wire.observe.request_id import request_id

__all__ = ["MessageIDFilter"]

message_id: ContextVar[str] = ContextVar("message_id", default="-")


class MessageIDFilter(logging.Filter):
    """Put the message's id on each record that is logged for its answer."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.message_id = message_id.get()
        return True


def context_for(message: str) -> Context:
    """Return a context for an answer, with the request's id alone: the request's holds a thread that ends with it."""
    context = Context()
    context.run(request_id.set, request_id.get())
    context.run(message_id.set, message)
    return context
