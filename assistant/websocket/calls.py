"""A call of this app's HTTP API, made inside the process by whoever connected over a WebSocket.

It goes through Django's own handler, so that the project's middleware, authentication, permissions and throttles hold
for it, and a key or a session that was revoked meanwhile is refused.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any
from urllib.parse import unquote, urlencode

from django.core.handlers.asgi import ASGIRequest, get_script_prefix
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import NoReverseMatch, reverse, set_script_prefix

from assistant.api.views import AnswerStream
from assistant.errors import NotFound
from wire.asgi import draining
from wire.asgi.handler import handler
from wire.asgi.origins import may_connect
from wire.errors import json_error

# What belongs to the handshake or to one call, and not to the caller. Everything else (credentials, cookies, proxies'
# headers) goes along.
DROPPED = {
    *(b"accept", b"connection", b"content-length", b"content-type", b"expect", b"idempotency-key", b"last-event-id"),
    *(b"sec-websocket-extensions", b"sec-websocket-key", b"sec-websocket-protocol", b"sec-websocket-version"),
    *(b"transfer-encoding", b"upgrade", b"x-request-id"),
}


@dataclass(frozen=True, slots=True)
class WebSocketClient:
    """Who connected: the handshake's scope, and the id under which the connection is logged."""

    scope: Mapping[str, Any]
    request_id: str


@dataclass(frozen=True, slots=True)
class APICall:
    """What is called; `name` is the URL's."""

    method: str
    name: str
    message_id: str | None = None
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None

    @property
    def path(self) -> str:
        arguments = [] if self.message_id is None else [self.message_id]
        try:
            return unquote(reverse(f"assistant:{self.name}", args=arguments))
        except NoReverseMatch:  # an id that no path can hold
            raise NotFound("There is no such message.") from None


def handshake(caller: WebSocketClient) -> HttpResponseBase:
    """Return how HTTP answers whoever connects: a status below 300 lets them in.

    A browser sends its cookies along whatever page connects, and lets that page read, so another site's is refused.
    """
    if draining.started.is_set:
        return json_error(503, draining.Stopping.message)
    request = built(APICall("GET", "agents"), caller)
    if not may_connect(request):
        return json_error(403, "A page of this origin may not connect here.")
    return responded(request)


def carried_out(call: APICall, caller: WebSocketClient) -> HttpResponseBase:
    """Return how HTTP answers a call."""
    request = built(call, caller)
    # A frame carries no token of a form: what it protects from was refused at the handshake, by its origin.
    request._dont_enforce_csrf_checks = True  # type: ignore[attr-defined]  # Django's own, for its test client
    return responded(request)


def built(call: APICall, caller: WebSocketClient) -> ASGIRequest:
    """Return the call as the request that the caller would have sent."""
    set_script_prefix(get_script_prefix(caller.scope) or "/")
    content = b"" if call.body is None else json.dumps(call.body).encode()
    own = {
        "content-type": "application/json",
        "content-length": str(len(content)),
        "x-request-id": caller.request_id,
        **call.headers,
    }
    kept = [pair for pair in caller.scope["headers"] if pair[0] not in DROPPED]
    scope = {
        **caller.scope,
        "type": "http",
        "scheme": "https" if caller.scope.get("scheme") == "wss" else "http",
        "method": call.method,
        "path": call.path,
        "query_string": urlencode(call.query).encode(),
        "headers": kept + [(name.encode(), value.encode()) for name, value in own.items()],
    }
    return ASGIRequest(scope, BytesIO(content))


def responded(request: HttpRequest) -> HttpResponseBase:
    """Return Django's response; the events of an answer are still to be read."""
    response: HttpResponseBase = handler().get_response(request)
    if not isinstance(response, AnswerStream):
        response.close()
    return response
