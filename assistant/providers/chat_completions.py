"""OpenAI's chat-completions protocol without the network: encode a request, decode an answer.

https://platform.openai.com/docs/api-reference/chat-streaming, and the variants of vLLM, Ollama, llama.cpp, LM
Studio and OpenRouter.
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
from assistant.providers.sse import LineTooLong, SSEParser
from assistant.providers.upstream_error import UpstreamError, model_error
from wire.api.json import UNSTORABLE, NotJSON, loads

REPLACEMENT = "\ufffd"
# No answer has so many tokens: a larger number is a mistake, and may not fit into the column.
MAX_COUNT = 2**31
UNREADABLE = "The model's server sent a response that can't be parsed."
BAD_CALL = "The model sent a tool call that can't be parsed."


def encode(model: str, request: ModelRequest, *, limit: str) -> bytes:
    """Return the body of a request; `limit` is the server's parameter for the maximum of output tokens."""
    body: dict[str, Any] = {
        "model": model,
        "messages": list(request.messages),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.tools:
        body["tools"] = [encode_tool(tool) for tool in request.tools]
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.max_tokens is not None:
        body[limit] = request.max_tokens
    if request.schema is not None:
        shape = {"name": "answer", "schema": request.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": shape}
    return dumps(body)


def encode_tool(tool: ToolSpec) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def dumps(body: Any) -> bytes:
    try:
        return orjson.dumps(body, default=dict)
    except orjson.JSONEncodeError:  # half of a surrogate pair, a number beyond 64 bits
        return json.dumps(body, default=dict).encode()


class CompletionDecoder:
    """Decodes the blocks of one answer; `has_activity` is set whenever the model has sent text, thoughts or calls."""

    def __init__(self) -> None:
        self.has_activity = False
        self.done = False
        self.failure: Exception | None = None
        self.finish_reason = ""
        self._usage = Usage()
        self._sse = SSEParser()
        self._sanitizer = TextSanitizer()
        self._calls = ToolCallAssembler()

    def feed(self, block: bytes) -> str:
        """Return the text in a block as one string.

        Afterwards `failure` is an `UpstreamError` for an error of the server, a `ModelError` for garbage, or None.
        """
        texts = []
        try:
            for data in self._sse.feed(block):
                if text := self._parse(data):
                    texts.append(text)
                elif self.done:
                    break  # whether later lines are in this block depends on the network
        except LineTooLong:
            self.failure = ModelError(UNREADABLE)
        except (UpstreamError, ModelError) as error:
            self.failure = error
        return "".join(texts)

    def end(self) -> Iterator[ModelEvent]:
        """Yield the events after the last block. Raises `ModelError` if the answer broke off."""
        if not (self.done or self.finish_reason):
            raise model_error("The model's answer broke off.", retryable=True)
        if text := self._sanitizer.end():
            yield Token(text)
        # The token limit may have cut a call.
        calls = [] if self._reason == "length" else self._calls.parse()
        yield from calls
        yield Completion("tool_calls" if calls else self._reason, self._usage)

    @property
    def _reason(self) -> Literal["stop", "length"]:
        return "length" if self.finish_reason == "length" else "stop"

    def _parse(self, data: bytes) -> str:
        try:
            return self._apply(orjson.loads(data))
        except orjson.JSONDecodeError:
            return self._parse_rare(data.strip())
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise ModelError(UNREADABLE) from error

    def _parse_rare(self, data: bytes) -> str:
        """Parse the rare data that orjson refuses: the end marker, and half of a surrogate pair."""
        if not data or data == b"[DONE]":
            self.done = bool(data)
            return ""
        try:
            return self._apply(json.loads(data))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise ModelError(UNREADABLE) from error

    def _apply(self, chunk: Any) -> str:
        """Return a chunk's text. Most chunks hold nothing else and take the short path."""
        choices = chunk.get("choices")
        if not choices:
            self._apply_rest(chunk, {})
            return ""
        choice = choices[0]
        delta = choice.get("delta") or {}
        text = delta.get("content") or delta.get("refusal")
        if not text or choice.get("finish_reason") or "tool_calls" in delta:
            self._apply_rest(chunk, choice)
        if text:
            self.has_activity = True
            return self._sanitizer.sanitize(text)
        return ""

    def _apply_rest(self, chunk: dict[str, Any], choice: dict[str, Any]) -> None:
        if error := chunk.get("error") or (chunk.get("object") == "error" and chunk):
            raise UpstreamError.of_event(error)
        if usage := chunk.get("usage"):
            self._usage = Usage(token_count(usage, "prompt_tokens"), token_count(usage, "completion_tokens"))
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        delta = choice.get("delta") or {}
        for call in delta.get("tool_calls") or ():
            self._calls.add(call)
        if any(delta.get(name) for name in ("tool_calls", "reasoning_content", "reasoning")):
            self.has_activity = True


def token_count(usage: dict[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) and 0 < value < MAX_COUNT else 0


def optional_text(value: Any) -> str:
    """Return a string that may be missing. Raises `TypeError` for another type."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(type(value))
    return value


class TextSanitizer:
    """Makes text storable: joins surrogate pairs, replaces lone surrogates and NUL by U+FFFD."""

    def __init__(self) -> None:
        self._half = ""

    def sanitize(self, text: str) -> str:
        """Return the text so far; the first half of a pair waits for the second in the next piece."""
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
class PartialToolCall:
    """A tool call that isn't complete yet."""

    tool_call_id: str
    name: str = ""
    arguments: str = ""

    def parse(self) -> ToolCall:
        try:
            parameters = loads(self.arguments.encode() or b"{}")
        except (NotJSON, UnicodeEncodeError) as error:
            raise ModelError(BAD_CALL) from error
        if not (isinstance(parameters, dict) and self.name) or UNSTORABLE.search(self.tool_call_id + self.name):
            raise ModelError(BAD_CALL)
        return ToolCall(self.tool_call_id or f"call_{secrets.token_hex(12)}", self.name, parameters)


class ToolCallAssembler:
    """Joins the deltas of an answer's tool calls, which may be interleaved."""

    def __init__(self) -> None:
        self._calls: list[PartialToolCall] = []
        self._at: dict[int, PartialToolCall] = {}

    def add(self, delta: dict[str, Any]) -> None:
        function = delta.get("function") or {}
        call = self._call_for(delta.get("index"), optional_text(delta.get("id")))
        call.name = call.name or optional_text(function.get("name"))
        call.arguments += optional_text(function.get("arguments"))

    def _call_for(self, index: int | None, tool_call_id: str) -> PartialToolCall:
        """Return the call that a delta belongs to. Some servers omit the index, or send 0 for each call."""
        position = max(self._at, default=0) if index is None else index
        call = self._at.get(position)
        if call is None or (tool_call_id and tool_call_id != call.tool_call_id):
            call = self._at[position] = PartialToolCall(tool_call_id)
            self._calls.append(call)
        return call

    def parse(self) -> list[ToolCall]:
        return [call.parse() for call in self._calls]
