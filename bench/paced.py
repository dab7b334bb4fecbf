"""A model in the service's own process, which costs little."""

from collections.abc import AsyncGenerator

from assistant.events import Token, ToolCall
from assistant.providers.base import Completion, ModelRequest
from bench.peers.paced import Stream


class Paced:
    """Says what `bench.peers.paced` has it say."""

    calls_tools = True
    context_tokens = None
    capacity = None

    def __init__(self, name: str) -> None:
        self.name = name

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Token | ToolCall | Completion]:
        tokens = Stream()
        while True:
            yield Token(await tokens.next())

    async def start(self) -> None:
        """Nothing has to be made ready."""

    async def aclose(self) -> None:
        """Nothing is held."""
