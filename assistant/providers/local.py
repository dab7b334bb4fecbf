"""A model on this machine: llama.cpp, shared by all processes of the service and called like an OpenAI server."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from assistant.conf import get_settings
from assistant.errors import ModelUnreachable
from assistant.providers.assets import SMOLLM2
from assistant.providers.base import ModelEvent, ModelRequest
from assistant.providers.llama import CONTEXT_TOKENS, SLOTS
from assistant.providers.openai import OpenAIModel
from assistant.providers.shared_llama import Address, SharedLlama
from wire.extras import advice, is_installed

STARTER = "smollm2"
# llama.cpp's own queue is unbounded, and at a second or two an answer the tenth caller gives up.
QUEUE_LENGTH = 8


class LocalModel:
    """`smollm2`, or the path of a .gguf file. Raises `ImproperlyConfigured` for another name."""

    context_tokens: int | None = CONTEXT_TOKENS
    capacity: int | None = SLOTS + QUEUE_LENGTH

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls_tools = name != STARTER
        self._llama = SharedLlama(weights_path(name))
        self._model: OpenAIModel | None = None

    async def start(self) -> None:
        """Load the weights, unless another process of this machine has done so. Raises `ModelError`."""
        await self._connect()

    async def aclose(self) -> None:
        """Close the connections, and end the server if this process started it."""
        if model := self._model:
            self._model = None
            await model.aclose()
        await self._llama.aclose()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        model = await self._connect()
        try:
            async with aclosing(model.stream(request)) as events:
                async for event in events:
                    yield event
            return
        except ModelUnreachable:
            # The process that held the model has ended: another one holds it now, or this one starts it.
            await self._disconnect(model)
        async with aclosing((await self._connect()).stream(request)) as events:
            async for event in events:
                yield event

    async def _connect(self) -> OpenAIModel:
        if self._model is None:
            address = await self._llama.afind()
            # Concurrent calls found the same address; they share the first one's connections.
            self._model = self._model or openai_client(self.name, address)
        return self._model

    async def _disconnect(self, model: OpenAIModel) -> None:
        if self._model is model:
            self._model = None
        await model.aclose()


def openai_client(name: str, address: Address) -> OpenAIModel:
    settings = get_settings()
    return OpenAIModel(
        name,
        base_url=f"{address.url}/v1",
        api_key=address.key,
        connect_timeout=settings.MODEL_CONNECT_TIMEOUT,
        first_token_timeout=settings.MODEL_FIRST_TOKEN_TIMEOUT,
        idle_timeout=settings.MODEL_IDLE_TIMEOUT,
    )


def weights_path(name: str) -> Path:
    """Return the path of the weights, which may not exist yet."""
    if not is_installed("xllamacpp"):
        raise ImproperlyConfigured(f"The model local:{name} {advice('local')}.")
    return SMOLLM2.path if name == STARTER else gguf_path(name)


def gguf_path(name: str) -> Path:
    path = Path(name).expanduser()
    if path.suffix != ".gguf":
        raise ImproperlyConfigured(f"The model local:{name} is neither {STARTER} nor the path of a .gguf file.")
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise ImproperlyConfigured(f"The file of the model local:{name} can't be read: {error.strerror}.") from None
    if magic != b"GGUF":
        raise ImproperlyConfigured(f"The file of the model local:{name} isn't in GGUF format.")
    return path.absolute()
