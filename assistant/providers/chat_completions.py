"""OpenAI's chat-completions protocol apart from the network: the body of a request, the events of an answer.

https://platform.openai.com/docs/api-reference/chat-streaming, and what vLLM, Ollama, llama.cpp, LM Studio and
OpenRouter make of it.
"""

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from assistant.errors import ModelError
from assistant.events import Token, ToolCall, Usage
from assistant.providers.base import Completion, ModelEvent, ModelRequest, ToolSpec
from assistant.providers.upstream_error import Fault, failed
from assistant.providers.sse import Events, LineTooLong
from wire.api.json import UNSTORABLE, NotJSON, loads

REPLACEMENT = "\ufffd"
# What no answer costs: a larger number is a mistake, and may not fit where it is stored.
MAX_COUNT = 2**31
UNREADABLE = "The model's server sent what can't be read."
BAD_CALL = "The model asked for a tool in a way that can't be read."


def encode(model: str, request: ModelRequest, *, limit: str) -> bytes:
    """Return the body of a request; `limit` is the server's name for the most tokens an answer may have."""
    body: dict[str, Any] = {
        "model": model,
        "messages": list(request.messages),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.tools:
        body["tools"] = [described(tool) for tool in request.tools]
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.max_tokens is not None:
        body[limit] = request.max_tokens
    if request.schema is not None:
        shape = {"name": "answer", "schema": request.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": shape}
    return dumps(body)


def described(tool: ToolSpec) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def dumps(body: Any) -> bytes:
    try:
        return orjson.dumps(body, default=dict)
    except orjson.JSONEncodeError:  # half of a surrogate pair, a number beyond 64 bits
        return json.dumps(body, default=dict).encode()


class CompletionDecoder:
    """Reads one answer's blocks of bytes; `stirred` is set whenever the model has said or thought something."""

    def __init__(self) -> None:
        self.stirred = False
        self.done = False
        self.failure: Exception | None = None
        self.finish_reason = ""
        self._usage = Usage()
        self._events = Events()
        self._mender = Mender()
        self._calls = Calls()

    def feed(self, block: bytes) -> str:
        """Return the text in a block: what came together goes on together.

        Afterwards `failure` is a `Fault` for an error of the server, a `ModelError` for garbage, or None.
        """
        texts = []
        try:
            for data in self._events.feed(block):
                if text := self._read(data):
                    texts.append(text)
                elif self.done:
                    break  # what follows the last line is heard or not as the network cuts it
        except LineTooLong:
            self.failure = ModelError(UNREADABLE)
        except (Fault, ModelError) as error:
            self.failure = error
        return "".join(texts)

    def end(self) -> Iterator[ModelEvent]:
        """Yield what comes after the last block. Raises `ModelError` where the answer broke off."""
        if not (self.done or self.finish_reason):
            raise failed("The model's answer broke off.", retryable=True)
        if text := self._mender.end():
            yield Token(text)
        # A call that the limit cut isn't one.
        calls = [] if self._reason == "length" else self._calls.parsed()
        yield from calls
        yield Completion("tool_calls" if calls else self._reason, self._usage)

    @property
    def _reason(self) -> Literal["stop", "length"]:
        return "length" if self.finish_reason == "length" else "stop"

    def _read(self, data: bytes) -> str:
        try:
            return self._take(orjson.loads(data))
        except orjson.JSONDecodeError:
            return self._read_otherwise(data.strip())
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise ModelError(UNREADABLE) from error

    def _read_otherwise(self, data: bytes) -> str:
        """Read what is rare and orjson refuses: the end, and half of a surrogate pair."""
        if not data or data == b"[DONE]":
            self.done = bool(data)
            return ""
        try:
            return self._take(json.loads(data))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise ModelError(UNREADABLE) from error

    def _take(self, chunk: Any) -> str:
        """Return a chunk's text. Most hold that and nothing else, and take the short way."""
        choices = chunk.get("choices")
        if not choices:
            self._take_rest(chunk, {})
            return ""
        choice = choices[0]
        delta = choice.get("delta") or {}
        text = delta.get("content") or delta.get("refusal")
        if not text or choice.get("finish_reason") or "tool_calls" in delta:
            self._take_rest(chunk, choice)
        if text:
            self.stirred = True
            return self._mender.mend(text)
        return ""

    def _take_rest(self, chunk: dict[str, Any], choice: dict[str, Any]) -> None:
        if error := chunk.get("error") or (chunk.get("object") == "error" and chunk):
            raise Fault.of_event(error)
        if usage := chunk.get("usage"):
            self._usage = Usage(count(usage, "prompt_tokens"), count(usage, "completion_tokens"))
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        delta = choice.get("delta") or {}
        for call in delta.get("tool_calls") or ():
            self._calls.add(call)
        if any(delta.get(name) for name in ("tool_calls", "reasoning_content", "reasoning")):
            self.stirred = True


def count(usage: dict[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) and 0 < value < MAX_COUNT else 0


def text_of(value: Any) -> str:
    """Return what may be missing but has to be a string otherwise."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(type(value))
    return value


class Mender:
    """Makes text that can be stored: surrogates become the character that they are halves of, or U+FFFD; NUL too."""

    def __init__(self) -> None:
        self._half = ""

    def mend(self, text: str) -> str:
        """Return the text so far; the first half of a pair waits for the second, which is in the next piece."""
        if text.isascii() and not self._half and "\0" not in text:
            return text
        text = self._half + text
        self._half = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
        whole = text[:-1] if self._half else text
        paired = whole.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return paired.replace("\0", REPLACEMENT)

    def end(self) -> str:
        return REPLACEMENT if self._half else ""


@dataclass(slots=True)
class PartialCall:
    """A tool call as far as it has come."""

    tool_call_id: str
    name: str = ""
    arguments: str = ""

    def parsed(self) -> ToolCall:
        try:
            parameters = loads(self.arguments.encode() or b"{}")
        except (NotJSON, UnicodeEncodeError) as error:
            raise ModelError(BAD_CALL) from error
        if not (isinstance(parameters, dict) and self.name) or UNSTORABLE.search(self.tool_call_id + self.name):
            raise ModelError(BAD_CALL)
        return ToolCall(self.tool_call_id or f"call_{secrets.token_hex(12)}", self.name, parameters)


class Calls:
    """The tool calls of an answer, which come in pieces and may be interleaved."""

    def __init__(self) -> None:
        self._calls: list[PartialCall] = []
        self._at: dict[int, PartialCall] = {}

    def add(self, piece: dict[str, Any]) -> None:
        function = piece.get("function") or {}
        call = self._find(piece.get("index"), text_of(piece.get("id")))
        call.name = call.name or text_of(function.get("name"))
        call.arguments += text_of(function.get("arguments"))

    def _find(self, index: int | None, tool_call_id: str) -> PartialCall:
        """Return the call that a piece belongs to. Some servers leave the index out, or give each call a 0."""
        position = max(self._at, default=0) if index is None else index
        call = self._at.get(position)
        if call is None or (tool_call_id and tool_call_id != call.tool_call_id):
            call = self._at[position] = PartialCall(tool_call_id)
            self._calls.append(call)
        return call

    def parsed(self) -> list[ToolCall]:
        return [call.parsed() for call in self._calls]
