"""What travels over a WebSocket: the frames that a client sends, as calls, and the frames that it gets."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from django.http import JsonResponse
from django.http.response import HttpResponseBase
from rest_framework.exceptions import ValidationError
from rest_framework.response import Response

from assistant.api.serializers import ChatFrameSerializer, ResumeFrameSerializer, StopFrameSerializer
from assistant.api.views import AnswerStream, valid
from assistant.errors import AssistantError, Conflict
from assistant.websocket.internal_requests import APICall, WebSocketClient, carried_out
from wire.api.json import loads
from wire.api.views import exception_handler
from wire.errors import envelope

# Answers that one connection may read at a time.
MAX_ANSWERS = 32

SERIALIZERS = {"chat": ChatFrameSerializer, "resume": ResumeFrameSerializer, "stop": StopFrameSerializer}


class TooManyReads(AssistantError):
    """The connection reads as many answers as it may."""

    status = 429
    message = f"This connection reads {MAX_ANSWERS} answers already; another may begin when one of them has ended."
    retry_after = 1


class AlreadyRead(Conflict):
    message = "This connection reads this answer already."


@dataclass(frozen=True, slots=True)
class Answered:
    """How HTTP answers a frame. `ref` is the caller's own mark, if there is one."""

    response: HttpResponseBase
    ref: str | None = None


def answered(text: str, caller: WebSocketClient, reading: Collection[str]) -> Answered:
    """Do what a frame asks for; `reading` are the messages that its connection reads already."""
    ref = None
    try:
        data = loads(text.encode(errors="surrogatepass"))
        ref = ref_of(data)
        response = carried_out(read(data, reading), caller)
        if isinstance(response, AnswerStream) and response.message_id in reading:
            raise AlreadyRead
    except Exception as error:  # rendered as a view's; what isn't for the caller is raised again
        refusal = exception_handler(error, {})
        if refusal is None:
            raise
        return Answered(refusal, ref)
    return Answered(response, ref)


def ref_of(data: Any) -> str | None:
    """Return the caller's mark, also of a frame that is refused."""
    ref = data.get("ref") if isinstance(data, dict) else None
    return ref if isinstance(ref, str) else None


def read(data: Any, reading: Collection[str]) -> APICall:
    """Return the call that a frame stands for. Raises `ValidationError`, `TooManyReads` and `AlreadyRead`."""
    frame = valid(serializer_for(data), data)
    if frame["type"] == "stop":
        return APICall("POST", "message-stop", frame["message_id"])
    if len(reading) >= MAX_ANSWERS:
        raise TooManyReads
    if frame["type"] == "chat":
        return chat(frame)
    if frame["message_id"] in reading:
        raise AlreadyRead
    return APICall("GET", "message-stream", frame["message_id"], query={"after": frame["after"]})


def serializer_for(data: Any) -> Any:
    kind = data.get("type") if isinstance(data, dict) else None
    if not isinstance(kind, str) or kind not in SERIALIZERS:
        raise ValidationError({"type": [f"This has to be one of {', '.join(SERIALIZERS)}."]})
    return SERIALIZERS[kind]


def chat(frame: Mapping[str, Any]) -> APICall:
    key = frame.get("idempotency_key")
    return APICall(
        "POST",
        "chat",
        query={"stream": "true", "on_disconnect": frame.get("on_disconnect", "grace")},
        headers={} if key is None else {"idempotency-key": key},
        body={name: frame[name] for name in ("message", "agent_id", "conversation_id") if name in frame},
    )


def event(number: int, payload: str, tail: str) -> str:
    """Return an event's frame; `tail` names its answer, and `payload` is its JSON as every transport has it."""
    return f'{{"type": "event", "id": {number}, {tail}, "event": {payload}}}'


def tail(message_id: str, ref: str | None) -> str:
    """Return what all events of an answer have in common."""
    return json.dumps({"message_id": message_id} | marked(ref))[1:-1]


def reply(response: HttpResponseBase, ref: str | None) -> str:
    """Return the frame for a call that has no events: a stop, or what was refused."""
    body = body_of(response)
    if response.status_code == 200:
        return json.dumps({"type": "stopped", "message_id": body["message_id"], "status": body["status"]} | marked(ref))
    wait = response.headers.get("Retry-After", "")
    later = {"retry_after": int(wait)} if wait.isdigit() else {}
    return json.dumps({"type": "refused", **body} | later | marked(ref))


def nothing_left(ref: str | None) -> str:
    """Return the frame for an answer that had ended where it was to be resumed."""
    details = {"after": ["This answer has ended, and has no event after this one."]}
    body = envelope(400, "after: This answer has ended, and has no event after this one.", details)
    return json.dumps({"type": "refused", **body} | marked(ref))


def marked(ref: str | None) -> dict[str, str]:
    return {} if ref is None else {"ref": ref}


def body_of(response: HttpResponseBase) -> dict[str, Any]:
    """Return a response's JSON; of one that isn't an error's or a view's of ours, an error's that says no more."""
    match response:
        case Response(data=dict(body)):
            return body
        case JsonResponse(content=content):
            return dict(json.loads(content))
        case _:
            return envelope(response.status_code)
