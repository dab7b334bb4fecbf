"""The events of an answer as plain values; every transport (SSE, rows, WebSocket) is made from these."""

import json
from dataclasses import asdict, dataclass, field
from json.encoder import encode_basestring_ascii
from typing import Any, Literal

__all__ = ["Event", "Failed", "FinishReason", "Finished", "Start", "Token", "ToolCall", "ToolResult", "Usage"]

FinishReason = Literal["stop", "length", "cancelled"]
"""Why an answer ended that is complete, or was stopped."""
ToolStatus = Literal["completed", "failed"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that an answer used, over all calls of the model."""

    input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.input_tokens + other.input_tokens, self.output_tokens + other.output_tokens)


@dataclass(frozen=True, slots=True)
class Start:
    """The answer exists; the model has written nothing yet."""

    message_id: str
    conversation_id: str
    agent_id: str


@dataclass(frozen=True, slots=True)
class Token:
    """A part of the answer's text, never empty."""

    content: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model calls a tool; `parameters` is the object that it passes."""

    tool_call_id: str
    name: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The tool's result, as text for the model and the reader."""

    tool_call_id: str
    name: str
    result: str
    status: ToolStatus = "completed"


@dataclass(frozen=True, slots=True)
class Failed:
    """The answer failed. `code` is the HTTP status it would have had; `retryable`: a new call may succeed, at the
    earliest after `retry_after` seconds where those are known."""

    message: str
    code: int
    retryable: bool = False
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is complete. `processing_time` is in seconds, from the request to here."""

    message_id: str
    finish_reason: FinishReason
    usage: Usage = field(default_factory=Usage)
    processing_time: float = 0.0


Event = Start | Token | ToolCall | ToolResult | Failed | Finished
"""An event of an answer's stream."""

NAMES: dict[type, str] = {
    Start: "start",
    Token: "token",
    ToolCall: "tool_call",
    ToolResult: "tool_result",
    Failed: "error",
    Finished: "end",
}


def payload(event: Event) -> dict[str, Any]:
    """Return the event as the contract's JSON object."""
    fields = {name: value for name, value in asdict(event).items() if value is not None}
    return {"type": NAMES[type(event)], **fields}


def encode(event: Event) -> str:
    """Return the event as one line of ASCII JSON."""
    return encode_token(event.content) if isinstance(event, Token) else json.dumps(payload(event))


def encode_token(content: str) -> str:
    """Return a token's `encode`; nearly all events are tokens."""
    return f'{{"type": "token", "content": {encode_basestring_ascii(content)}}}'
