"""Models behind one small protocol: messages, tools and parameters in, events out.

A model is named `provider:name`. ASSISTANT_PROVIDERS has a project's own; `openai:` is any server with OpenAI's
protocol of chat completions, `local:` llama.cpp on this machine; others go to pydantic-ai, where it is installed.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from assistant.conf import get_settings
from assistant.events import Token, ToolCall, Usage
from wire.once import once


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


class Model(Protocol):
    """What answers. One instance serves the process; `stream` may be called from any event loop.

    `calls_tools`: False where the model is too small to call tools by itself.
    `context_tokens`: the window of the model, None where it isn't known.
    `capacity`: how many calls this process may have open at once, None where the server bounds itself.
    """

    calls_tools: bool
    context_tokens: int | None
    capacity: int | None

    def stream(self, request: ModelRequest) -> AsyncGenerator[Token | ToolCall | Completion]:
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


def get_model(name: str) -> Model:
    """Return the process's one instance of a model.

    Raises `ImproperlyConfigured` with a sentence for a name that can't be used.
    """
    provider, separator, rest = name.partition(":")
    if not (separator and provider and rest):
        raise ImproperlyConfigured(f"The model {name!r} is not of the form provider:name, such as local:smollm2.")
    return load(provider, rest)


@once
def load(provider: str, name: str) -> Model:
    """Import only what the model needs: llama.cpp or another provider's client may not be installed."""
    if own := get_settings().ASSISTANT_PROVIDERS.get(provider):
        return made(own, name)
    match provider:
        case "local":
            from assistant.providers.local import LocalModel

            return LocalModel(name)
        case "openai":
            from assistant.providers.openai import OpenAIModel

            return OpenAIModel.from_settings(name)
        case _:
            from assistant.providers.pydantic_ai import PydanticAIModel

            return PydanticAIModel(provider, name)


def made(path: str, name: str) -> Model:
    """Return the model that a project's own class or function makes of a name."""
    try:
        make = import_string(path)
    except ImportError as error:
        raise ImproperlyConfigured(f"ASSISTANT_PROVIDERS can't name {path}: {error}.") from None
    model: Model = make(name)
    return model
