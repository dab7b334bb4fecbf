"""A turn on the admin's page: its tool calls, sources, outcome and statistics."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from assistant.models import Message

# The text of the search tool's result: "1. Title - text", with the address on the next line.
SOURCE = re.compile(r"^\d+\. (.+?) - .*\n\s+(https?://\S+)$", re.MULTILINE)
TONES = {
    Message.Status.RUNNING: "busy",
    Message.Status.COMPLETED: "good",
    Message.Status.FAILED: "bad",
    Message.Status.CANCELLED: "quiet",
    Message.Status.INTERRUPTED: "warning",
}
STATES = {"completed": "done", "failed": "failed"}


@dataclass(frozen=True, slots=True)
class ToolCallView:
    """A tool call; without a result if the answer ended before."""

    name: str
    state: str
    parameters: str
    result: str | None


@dataclass(frozen=True, slots=True)
class TurnTranscript:
    """One turn."""

    message: Message

    @property
    def tone(self) -> str:
        return TONES[Message.Status(self.message.status)]

    @property
    def calls(self) -> list[ToolCallView]:
        return [tool_call_view(call) for call in self.message.tool_calls]

    @property
    def sources(self) -> dict[str, str]:
        """Return the sources that searches found: titles by address."""
        results = (call.get("result", "") for call in self.message.tool_calls if call["name"] == "search")
        return {url: title for result in results for title, url in SOURCE.findall(result)}

    @property
    def numbers(self) -> list[str]:
        return list(statistics(self.message))


def tool_call_view(call: dict[str, Any]) -> ToolCallView:
    parameters = json.dumps(call["parameters"], ensure_ascii=False, indent=2)
    return ToolCallView(
        call["name"], STATES.get(call.get("status", ""), "not finished"), parameters, call.get("result")
    )


def statistics(message: Message) -> Iterator[str]:
    """Yield tokens, times and the model, as far as they are known."""
    if message.processing_time is not None:
        yield f"{message.input_tokens:,} tokens in, {message.output_tokens:,} out"
    if message.time_to_first_token is not None:
        yield f"first token after {message.time_to_first_token:.2f} s"
    if message.processing_time is not None:
        yield f"{message.processing_time:.2f} s in all"
    if speed := tokens_a_second(message):
        yield f"{speed:.1f} tokens/s"
    yield message.model


def tokens_a_second(message: Message) -> float | None:
    writing = (message.processing_time or 0) - (message.time_to_first_token or 0)
    return message.output_tokens / writing if message.output_tokens > 1 and writing > 0 else None
