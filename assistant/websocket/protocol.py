"""The frames of a WebSocket: those that a client sends, as requests, and those that it gets."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from django.http import JsonResponse
from django.http.response import HttpResponseBase
from rest_framework.exceptions import ValidationError
from rest_framework.response import Response

from assistant.api.base import validate
from assistant.api.serializers import ChatFrameSerializer, ResumeFrameSerializer, StopFrameSerializer
from assistant.api.streams import AnswerStream
from assistant.errors import AssistantError, Conflict
from assistant.websocket.internal_requests import InternalRequest, WebSocketClient, call_api
from wire.api.json import loads
from wire.api.views import exception_handler
from wire.errors import envelope

# Answers that one connection may read at a time.
MAX_ANSWERS = 32

SERIALIZERS = {"chat": ChatFrameSerializer, "resume": ResumeFrameSerializer, "stop": StopFrameSerializer}


class TooManyReads(AssistantError):
    """The connection reads as many answers as it may at a time."""

    status = 429
    message = f"This connection reads {MAX_ANSWERS} answers already; another may begin when one of them has ended."
    retry_after = 1


class AlreadyRead(Conflict):
    message = "This connection reads this answer already."


@dataclass(frozen=True, slots=True)
class FrameResponse:
    """HTTP's response to a frame. `ref` is the client's own mark of it, if there is one."""

    response: HttpResponseBase
    ref: str | None = None


def respond(text: str, client: WebSocketClient, reading: Collection[str]) -> FrameResponse:
    """Return the response to a frame; `reading` are the messages whose answers its connection reads already."""
    ref = None
    try:
        data = loads(text.encode(errors="surrogatepass"))
        ref = ref_of(data)
        response = call_api(request_of(data, reading), client)
        if isinstance(response, AnswerStream) and response.message_id in reading:
            raise AlreadyRead
    except Exception as error:  # rendered as a view's; raised again where it isn't meant for the client
        refusal = exception_handler(error, {})
        if refusal is None:
            raise
        return FrameResponse(refusal, ref)
    return FrameResponse(response, ref)


def ref_of(data: Any) -> str | None:
    """Return the client's mark, also of a frame that is refused."""
    ref = data.get("ref") if isinstance(data, dict) else None
    return ref if isinstance(ref, str) else None


def request_of(data: Any, reading: Collection[str]) -> InternalRequest:
    """Return the request that a frame stands for. Raises `ValidationError`, `TooManyReads` and `AlreadyRead`."""
    frame = validate(serializer_for(data), data)
    if frame["type"] == "stop":
        return InternalRequest("POST", "message-stop", frame["message_id"])
    if len(reading) >= MAX_ANSWERS:
        raise TooManyReads
    if frame["type"] == "chat":
        return chat_request(frame)
    if frame["message_id"] in reading:
        raise AlreadyRead
    return InternalRequest("GET", "message-stream", frame["message_id"], query={"after": frame["after"]})


def serializer_for(data: Any) -> Any:
    kind = data.get("type") if isinstance(data, dict) else None
    if not isinstance(kind, str) or kind not in SERIALIZERS:
        raise ValidationError({"type": [f"This has to be one of {', '.join(SERIALIZERS)}."]})
    return SERIALIZERS[kind]


def chat_request(frame: Mapping[str, Any]) -> InternalRequest:
    key = frame.get("idempotency_key")
    return InternalRequest(
        "POST",
        "chat",
        query={"stream": "true", "on_disconnect": frame.get("on_disconnect", "grace")},
        headers={} if key is None else {"idempotency-key": key},
        body={name: frame[name] for name in ("message", "agent_id", "conversation_id") if name in frame},
    )


def event(number: int, payload: str, tail: str) -> str:
    """Return an event's frame; `tail` names its answer, and `payload` is its JSON."""
    return f'{{"type": "event", "id": {number}, {tail}, "event": {payload}}}'


def tail(message_id: str, ref: str | None) -> str:
    """Return the fields that all events of an answer have in common, as the inside of a JSON object."""
    return json.dumps({"message_id": message_id} | ref_field(ref))[1:-1]


def reply(response: HttpResponseBase, ref: str | None) -> str:
    """Return the frame for a response that has no events: to a stop, or a refusal."""
    body = body_of(response)
    if response.status_code == 200:
        return json.dumps(
            {"type": "stopped", "message_id": body["message_id"], "status": body["status"]} | ref_field(ref)
        )
    wait = response.headers.get("Retry-After", "")
    later = {"retry_after": int(wait)} if wait.isdigit() else {}
    return json.dumps({"type": "refused", **body} | later | ref_field(ref))


def nothing_left(ref: str | None) -> str:
    """Return the frame for an answer that has no event after the one where it was to be resumed."""
    details = {"after": ["This answer has ended, and has no event after this one."]}
    body = envelope(400, "after: This answer has ended, and has no event after this one.", details)
    return json.dumps({"type": "refused", **body} | ref_field(ref))


def ref_field(ref: str | None) -> dict[str, str]:
    return {} if ref is None else {"ref": ref}


def body_of(response: HttpResponseBase) -> dict[str, Any]:
    """Return a response's JSON; an error that only has the status where it isn't JSON."""
    match response:
        case Response(data=dict(body)):
            return body
        case JsonResponse(content=content):
            return dict(json.loads(content))
        case _:
            return envelope(response.status_code)
