"""An item as Django's own handler answers it, in a thread and a context that nothing else shares."""

import logging
from asyncio import CancelledError
from collections.abc import Callable
from contextvars import Context, ContextVar

from django.core.signals import request_finished, request_started
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import ResolverMatch, set_script_prefix

from batching.items import response as answers
from batching.items.item import ItemResponse
from batching.items.request_factory import PreparedRequest, RequestFactory
from batching.run import identity
from batching.run.identity import IdentifiedCaller
from wire.api.sse import can_stream
from wire.asgi.handler import InnerHandler, handler
from wire.observe import tracing

logger = logging.getLogger(__name__)

inside_item: ContextVar[bool] = ContextVar("batching_inside_item", default=False)
# Who a background item is carried out for. Set here alone, for one item.
speaking_for: ContextVar[IdentifiedCaller | None] = ContextVar("batching_speaking_for", default=None)

# Reads a response while its connection to the view is still open: `answers.read`, or a stream's relay.
ResponseReader = Callable[[HttpResponseBase], ItemResponse]
# Makes an item's span.
SpanFactory = Callable[[], tracing.Span]


class ItemHandler(InnerHandler):
    """Django's handler, which vouches for who an item is carried out for."""

    def resolve_request(self, request: HttpRequest) -> ResolverMatch:
        match: ResolverMatch = super().resolve_request(request)
        if caller := speaking_for.get():
            identity.vouch_to(match.func, request, caller)
        return match


def answered(
    sent: PreparedRequest,
    origin: RequestFactory,
    read: ResponseReader,
    *,
    streamed: bool,
    span: SpanFactory,
    caller: IdentifiedCaller | None = None,
) -> ItemResponse:
    """Return how Django answers an item; whatever its view does ends here. Runs in a thread of its own.

    `streamed` tells whether an event stream may be the answer; `caller` is who it is carried out for where the request
    that the batch came with is gone.
    """
    try:
        return Context().run(carried_out, sent, origin, read, streamed, span, caller)
    except CancelledError:
        return answers.CRASHED
    except BaseException:  # SystemExit too: a view is foreign code, and its exit is not the process's
        logger.exception("path=%s state=crashed", sent.target.path_info)
        return answers.CRASHED


def carried_out(
    sent: PreparedRequest,
    origin: RequestFactory,
    read: ResponseReader,
    streamed: bool,
    span: SpanFactory,
    caller: IdentifiedCaller | None,
) -> ItemResponse:
    inside_item.set(True)
    speaking_for.set(caller)
    can_stream.set(streamed)
    set_script_prefix(origin.script_name or "/")
    request = origin.request(sent)
    if caller:
        identity.vouch(request, caller)
    request_started.send(sender=InnerHandler, **origin.signal(request))
    response: HttpResponseBase | None = None
    try:
        with span() as current:
            response = handler(ItemHandler).get_response(request)
            tracing.note_response(current, request, response)
            return read(response)
    finally:
        finish(response)


def finish(response: HttpResponseBase | None) -> None:
    """Send `request_finished`, upon which Django gives this thread's database connections back."""
    if response is None:
        request_finished.send(sender=InnerHandler)
    else:
        response._handler_class = InnerHandler  # type: ignore[attr-defined]  # the sender of request_finished
        response.close()
