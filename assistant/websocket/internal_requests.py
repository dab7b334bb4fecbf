"""Requests to this app's HTTP API that are made inside the process for a WebSocket's client.

They go through Django's own handler: the project's middleware, authentication, permissions and throttles apply to them,
and a key or a session that was revoked meanwhile is refused.
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

from assistant.api.streams import AnswerStream
from assistant.errors import NotFound
from wire.asgi import draining
from wire.asgi.handler import handler
from wire.asgi.origins import may_connect
from wire.errors import json_error

# Headers of the handshake or of one request. All others (credentials, cookies, a proxy's) go with each request of the
# client.
DROPPED = {
    *(b"accept", b"connection", b"content-length", b"content-type", b"expect", b"idempotency-key", b"last-event-id"),
    *(b"sec-websocket-extensions", b"sec-websocket-key", b"sec-websocket-protocol", b"sec-websocket-version"),
    *(b"transfer-encoding", b"upgrade", b"x-request-id"),
}


@dataclass(frozen=True, slots=True)
class WebSocketClient:
    """A client that has connected: the handshake's scope, and the id under which the connection is logged."""

    scope: Mapping[str, Any]
    request_id: str


@dataclass(frozen=True, slots=True)
class InternalRequest:
    """A request to an endpoint; `name` is its URL's."""

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
        except NoReverseMatch:  # an id that fits no path
            raise NotFound("There is no such message.") from None


def handshake(client: WebSocketClient) -> HttpResponseBase:
    """Return HTTP's response to a client that connects: a status below 300 accepts it.

    A page of another site is refused: a browser would send the user's cookies for it, and let it read.
    """
    if draining.started.is_set:
        return json_error(503, draining.Stopping.message)
    request = build_request(InternalRequest("GET", "agents"), client)
    if not may_connect(request):
        return json_error(403, "A page of this origin may not connect here.")
    return get_response(request)


def call_api(call: InternalRequest, client: WebSocketClient) -> HttpResponseBase:
    """Return HTTP's response to a request."""
    request = build_request(call, client)
    # A frame has no CSRF token: the handshake has refused other sites' pages by their origin.
    request._dont_enforce_csrf_checks = True  # type: ignore[attr-defined]  # Django's own, for its test client
    return get_response(request)


def build_request(call: InternalRequest, client: WebSocketClient) -> ASGIRequest:
    """Return the request that the client would have sent over HTTP."""
    set_script_prefix(get_script_prefix(client.scope) or "/")
    content = b"" if call.body is None else json.dumps(call.body).encode()
    own = {
        "content-type": "application/json",
        "content-length": str(len(content)),
        "x-request-id": client.request_id,
        **call.headers,
    }
    kept = [pair for pair in client.scope["headers"] if pair[0] not in DROPPED]
    scope = {
        **client.scope,
        "type": "http",
        "scheme": "https" if client.scope.get("scheme") == "wss" else "http",
        "method": call.method,
        "path": call.path,
        "query_string": urlencode(call.query).encode(),
        "headers": kept + [(name.encode(), value.encode()) for name, value in own.items()],
    }
    return ASGIRequest(scope, BytesIO(content))


def get_response(request: HttpRequest) -> HttpResponseBase:
    """Return Django's response, closed unless it is a stream of events that the caller is to read and close."""
    response: HttpResponseBase = handler().get_response(request)
    if not isinstance(response, AnswerStream):
        response.close()
    return response
