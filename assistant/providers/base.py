"""Models behind one small protocol: messages, tools and parameters in, events out."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from assistant.events import Token, ToolCall, ToolResult, Usage

__all__ = ["Completion", "Listing", "Model", "ModelEvent", "ModelRequest", "ToolSpec"]


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
    """The last thing a call yields: why it ended and what it cost."""

    finish_reason: Literal["stop", "length", "tool_calls"]
    usage: Usage = field(default_factory=Usage)


ModelEvent = Token | ToolCall | Completion
"""What a call of a model yields."""
Step = ModelEvent | ToolResult


class Model(Protocol):
    """What answers. One instance serves the process; `stream` may be called from any event loop.

    `calls_tools`: False where the model is too small to call tools by itself.
    `context_tokens`: the window of the model, None where it isn't known.
    `capacity`: how many calls this process may have open at once, None where the server bounds itself.
    """

    calls_tools: bool
    context_tokens: int | None
    capacity: int | None

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        """Yield the answer as it comes, ended by exactly one Completion.

        Closing the iterator closes the call. Raises `ModelError` or `ContextTooLong` and nothing else.
        """
        ...

    async def start(self) -> None:
        """Make ready what can be made ready before the first call; may be called again at any time."""
        ...

    async def aclose(self) -> None:
        """Let go of what the running event loop's calls share (connections, a server in this process)."""
        ...


@runtime_checkable
class Listing(Protocol):
    """A model whose server says which ones it has. `lacks_key`: that no call can succeed without a key."""

    name: str

    @property
    def lacks_key(self) -> bool: ...

    async def listed(self) -> frozenset[str]:
        """Return the names of models that the server lists, none where it doesn't say. Raises `ModelError`."""
        ...
