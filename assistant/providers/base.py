"""The protocol of a model: messages, tools and parameters in, events out."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from assistant.events import Token, ToolCall, ToolResult, Usage

__all__ = ["Completion", "HostedModel", "Model", "ModelEvent", "ModelRequest", "ToolSpec"]


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as a model sees it; `parameters` is a JSON Schema of type object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One call of a model.

    `messages` have the shape of OpenAI's chat completions: role system, user, assistant (with `tool_calls`) or tool
    (with `tool_call_id`). With a `schema` (JSON Schema) the answer's text is JSON of that shape.
    """

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[ToolSpec] = ()
    temperature: float | None = None
    max_tokens: int | None = None
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """The last event of a call: why it ended and its usage."""

    finish_reason: Literal["stop", "length", "tool_calls"]
    usage: Usage = field(default_factory=Usage)


# An event of a model's call, and of an agent's turn.
ModelEvent = Token | ToolCall | Completion
"""What a call of a model yields."""
Step = ModelEvent | ToolResult


class Model(Protocol):
    """A language model. One instance serves the process; `stream` may be called from any event loop.

    `calls_tools`: False if the model is too small to call tools by itself.
    `context_tokens`: the context window, None if it isn't known.
    `capacity`: how many calls this process may have open at once, None if the server limits itself.
    """

    calls_tools: bool
    context_tokens: int | None
    capacity: int | None

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        """Yield the answer as it arrives, ended by exactly one `Completion`.

        Closing the iterator closes the call. Raises only `ModelError` and `ContextTooLong`.
        """
        ...

    async def start(self) -> None:
        """Prepare for the first call; may be called again at any time."""
        ...

    async def aclose(self) -> None:
        """Release what the calls of the running event loop share (connections, a server of this process)."""
        ...


@runtime_checkable
class HostedModel(Protocol):
    """A model on a server that lists its models. `lacks_key`: no call can succeed because the key is missing."""

    name: str

    @property
    def lacks_key(self) -> bool: ...

    async def list_models(self) -> frozenset[str]:
        """Return the names of the server's models, empty if it has no list. Raises `ModelError`."""
        ...
