"""Any server with OpenAI's chat-completions protocol: OpenAI, vLLM, Ollama, llama.cpp, LM Studio, OpenRouter.

This is the hot path, so a delta costs little: blocks are read instead of lines, and no task or timer is made for each
delta.
"""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Self

import orjson
from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientOSError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    DummyCookieJar,
    ServerDisconnectedError,
    TCPConnector,
    TraceConfig,
    TraceConnectionReuseconnParams,
)

from assistant.conf import get_settings
from assistant.errors import ModelError, ModelRefusedCredentials, ModelTimeout, ModelUnreachable
from assistant.events import Token
from assistant.providers.base import ModelEvent, ModelRequest
from assistant.providers.chat_completions import UNREADABLE, CompletionDecoder, encode
from assistant.providers.response_reader import ResponseReader
from assistant.providers.upstream_error import UpstreamError
from wire.asgi.per_loop import PerLoop
from wire.observe import tracing

# Newer OpenAI models refuse `max_tokens`; other servers know only that.
OPENAI_ITSELF = re.compile(r"https://(\w+\.)?api\.openai\.com(?=[:/]|$)")
READ_BYTES = 16_384
ERROR_BYTES = 16_384
ERROR_SECONDS = 5
LIST_SECONDS = 3


class OpenAIModel:
    """A model behind a URL. Timeouts are in seconds: to connect, to the first activity, between activities."""

    calls_tools = True
    context_tokens: int | None = None
    capacity: int | None = None

    def __init__(
        self,
        name: str,
        *,
        base_url: str,
        api_key: str = "",
        connect_timeout: float = 5,
        first_token_timeout: float = 120,
        idle_timeout: float = 30,
    ) -> None:
        self.name = name
        self._base = base_url.rstrip("/")
        self._url = f"{self._base}/chat/completions"
        self._key = api_key.strip()
        self._limit = "max_completion_tokens" if OPENAI_ITSELF.match(base_url) else "max_tokens"
        self._pools = PerLoop(lambda: open_session(connect_timeout))
        self._first_token_timeout = first_token_timeout
        self._idle_timeout = idle_timeout

    @classmethod
    def from_settings(cls, name: str) -> Self:
        settings = get_settings()
        return cls(
            name,
            base_url=settings.OPENAI_BASE_URL,
            api_key=settings.OPENAI_API_KEY,
            connect_timeout=settings.MODEL_CONNECT_TIMEOUT,
            first_token_timeout=settings.MODEL_FIRST_TOKEN_TIMEOUT,
            idle_timeout=settings.MODEL_IDLE_TIMEOUT,
        )

    @property
    def lacks_key(self) -> bool:
        """Tell whether no call can succeed; a server other than OpenAI's may need no key."""
        return not self._key and bool(OPENAI_ITSELF.match(self._base))

    async def list_models(self) -> frozenset[str]:
        """Return the names of the server's models, empty if it has no list. Raises `ModelError`."""
        connections = await self._pools.get()
        try:
            async with (
                asyncio.timeout(LIST_SECONDS),
                connections.get(f"{self._base}/models", headers=self._headers, allow_redirects=False) as response,
            ):
                if response.status in (401, 403):
                    raise ModelRefusedCredentials
                return parse_model_list(await response.read())
        except (ClientError, OSError, ValueError) as error:
            raise ModelUnreachable from error

    async def start(self) -> None:
        """Do nothing: each call opens the connection that it needs."""

    async def aclose(self) -> None:
        await self._pools.aclose()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        answer = CompletionDecoder()
        try:
            async with self._open(request) as reader:
                while not answer.done and (block := await next_block(reader, answer)):
                    if text := answer.feed(block):
                        yield Token(text)
                    if answer.failure:
                        raise answer.failure
                    if answer.has_activity:
                        answer.has_activity = False
                        reader.note_activity()
                await reader.drain()
        except UpstreamError as error:
            raise error.report(model=self.name, request=request, key=self._key) from None
        for event in answer.end():
            yield event

    @asynccontextmanager
    async def _open(self, request: ModelRequest) -> AsyncGenerator[ResponseReader]:
        """Make the call; on exit its connection is closed, or reusable if the response was read to its end."""
        deadline = asyncio.get_running_loop().time() + self._first_token_timeout
        response = await self._post(encode(self.name, request, limit=self._limit), deadline)
        reader = ResponseReader(response, deadline=deadline, idle_timeout=self._idle_timeout)
        try:
            await raise_for_error(response)
            yield reader
        finally:
            reader.close()

    async def _post(self, body: bytes, deadline: float) -> ClientResponse:
        """Return the response after its headers. A pooled connection that the server has closed is retried once."""
        use = SimpleNamespace(reused=False)
        try:
            async with asyncio.timeout_at(deadline):
                try:
                    return await self._send(body, use)
                except (ServerDisconnectedError, ClientOSError) as error:
                    if not use.reused or isinstance(error, ClientConnectorError):
                        raise
                    return await self._send(body, use)
        except (ConnectionTimeoutError, ValueError) as error:  # ValueError: an invalid URL or header
            raise ModelUnreachable from error
        except TimeoutError:
            raise ModelTimeout from None
        except (ServerDisconnectedError, OSError) as error:
            raise ModelUnreachable from error
        except ClientError as error:
            raise ModelError(UNREADABLE) from error

    async def _send(self, body: bytes, use: SimpleNamespace) -> ClientResponse:
        connections = await self._pools.get()
        return await connections.post(
            self._url, data=body, headers=self._headers, allow_redirects=False, trace_request_ctx=use
        )

    @property
    def _headers(self) -> dict[str, str]:
        # A compressed stream is buffered until a block is worth compressing.
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream", "Accept-Encoding": "identity"}
        headers |= tracing.headers()
        return {**headers, "Authorization": f"Bearer {self._key}"} if self._key else headers


def open_session(connect_timeout: float) -> ClientSession:
    """Return a pool of connections without limits of number and total time."""
    reuse = TraceConfig()
    reuse.on_connection_reuseconn.append(note_reuse)
    return ClientSession(
        # With a limit, an answer would wait for the end of another.
        connector=TCPConnector(limit=0),
        cookie_jar=DummyCookieJar(),
        timeout=ClientTimeout(total=None, connect=connect_timeout),
        # With a small buffer most chunks skip aiohttp's flow control: a fifth more throughput.
        read_bufsize=READ_BYTES,
        trace_configs=[reuse],
    )


async def note_reuse(_: ClientSession, context: SimpleNamespace, params: TraceConnectionReuseconnParams) -> None:
    """Set `reused` on the request's `trace_request_ctx`."""
    context.trace_request_ctx.reused = True


async def next_block(reader: ResponseReader, answer: CompletionDecoder) -> bytes:
    """Return the next block; errors after the model has finished are ignored."""
    try:
        return await reader.next()
    except ModelError:
        if not answer.finish_reason:
            raise
        return b""


async def raise_for_error(response: ClientResponse) -> None:
    """Raise `UpstreamError` unless the body is an event stream."""
    if response.status == 200 and response.content_type == "text/event-stream":
        return
    raise UpstreamError.of_response(response.status, response.headers, await error_body(response))


def parse_model_list(listing: bytes) -> frozenset[str]:
    """Return the ids in a list of models, empty for anything else."""
    try:
        match orjson.loads(listing):
            case {"data": [*models]}:
                return frozenset(str(model["id"]) for model in models)
    except (ValueError, TypeError, KeyError):
        pass
    return frozenset()


async def error_body(response: ClientResponse) -> bytes:
    """Return the beginning of an error's body, as much as arrives in time."""
    body = b""
    with suppress(ClientError, OSError):
        async with asyncio.timeout(ERROR_SECONDS):
            while len(body) < ERROR_BYTES and (block := await response.content.readany()):
                body += block
    return body[:ERROR_BYTES]
