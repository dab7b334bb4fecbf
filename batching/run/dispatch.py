"""Executes an item's request with Django's own handler, in a thread and a context of its own."""

import logging
from asyncio import CancelledError
from collections.abc import Callable
from contextvars import Context, ContextVar
from typing import Any, cast

from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import WSGIRequest
from django.core.signals import request_finished, request_started
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import ResolverMatch, set_script_prefix

from batching.items import response as responses
from batching.items.item import ItemResponse
from batching.run import identity
from batching.run.identity import BackgroundCaller
from wire.api.sse import can_stream
from wire.asgi.handler import InnerHandler, handler
from wire.asgi.threads import drop_open_transactions
from wire.observe import tracing

logger = logging.getLogger(__name__)

inside_item: ContextVar[bool] = ContextVar("batching_inside_item", default=False)
# The caller that a background item is executed as. Set here alone, for one item.
background_caller: ContextVar[BackgroundCaller | None] = ContextVar("batching_background_caller", default=None)

# Reads a response while its connection to the view is still open: `responses.read`, or a stream's relay.
ResponseReader = Callable[[HttpResponseBase], ItemResponse]
# Makes an item's span.
SpanFactory = Callable[[], tracing.Span]


class ItemHandler(InnerHandler):
    """Django's handler, which authenticates the caller of a background item."""

    def resolve_request(self, request: HttpRequest) -> ResolverMatch:
        match: ResolverMatch = super().resolve_request(request)
        if caller := background_caller.get():
            identity.authenticate_in_view(match.func, request, caller)
        return match


def execute(
    request: HttpRequest,
    read: ResponseReader,
    *,
    streamed: bool,
    span: SpanFactory,
    caller: BackgroundCaller | None = None,
) -> ItemResponse:
    """Return Django's response to an item's request, whatever its view raises. Runs in a thread of its own.

    `streamed` tells whether the response may be an event stream; `caller` is the one to authenticate where the batch's
    own request is gone.
    """
    try:
        return Context().run(handle, request, read, streamed, span, caller)
    except CancelledError:
        return responses.CRASHED
    except BaseException:  # SystemExit too: a view is foreign code, and its exit is not the process's
        logger.exception("path=%s state=crashed", request.path_info)
        return responses.CRASHED


def handle(
    request: HttpRequest, read: ResponseReader, streamed: bool, span: SpanFactory, caller: BackgroundCaller | None
) -> ItemResponse:
    inside_item.set(True)
    background_caller.set(caller)
    can_stream.set(streamed)
    set_script_prefix(request.META["SCRIPT_NAME"] or "/")
    if caller:
        identity.authenticate(request, caller)
    request_started.send(sender=InnerHandler, **signal_arguments(request))
    response: HttpResponseBase | None = None
    try:
        with span() as current:
            response = handler(ItemHandler).get_response(request)
            tracing.note_response(current, request, response)
            return read(response)
    finally:
        finish(response)


def signal_arguments(request: HttpRequest) -> dict[str, Any]:
    """Return what Django's `request_started` carries for a request."""
    if isinstance(request, ASGIRequest):
        return {"scope": request.scope}
    return {"environ": cast(WSGIRequest, request).environ}


def finish(response: HttpResponseBase | None) -> None:
    """Send `request_finished`, upon which Django gives this thread's database connections back.

    A transaction that the view left open ends here: the thread's next item would be in it.
    """
    if response is None:
        request_finished.send(sender=InnerHandler)
    else:
        response._handler_class = InnerHandler  # type: ignore[attr-defined]  # the sender of request_finished
        response.close()
    drop_open_transactions()
