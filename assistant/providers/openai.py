"""Any server that speaks OpenAI's chat-completions protocol: OpenAI, vLLM, Ollama, llama.cpp, LM Studio, OpenRouter.

What passes here is what the project exists for, so it is written to cost little a delta: blocks instead of lines, no
task and no timer a delta.
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
from assistant.providers.response_reader import Blocks
from assistant.providers.chat_completions import UNREADABLE, CompletionDecoder, encode
from assistant.providers.upstream_error import Fault
from wire.asgi.per_loop import PerLoop
from wire.observe import tracing

# Newer models of OpenAI's refuse `max_tokens`; other servers know nothing else.
OPENAI_ITSELF = re.compile(r"https://(\w+\.)?api\.openai\.com(?=[:/]|$)")
READ_BYTES = 16_384
ERROR_BYTES = 16_384
ERROR_SECONDS = 5
LIST_SECONDS = 3


class OpenAIModel:
    """A model behind a URL. The timeouts are in seconds: to connect, to the first sign of the model, between signs."""

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
        self._pools = PerLoop(lambda: pool(connect_timeout))
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
        """Tell whether no call can succeed; a server other than OpenAI's own may want no key."""
        return not self._key and bool(OPENAI_ITSELF.match(self._base))

    async def listed(self) -> frozenset[str]:
        """Return the names of models that the server lists, none where it doesn't say. Raises `ModelError`."""
        connections = await self._pools.get()
        try:
            async with (
                asyncio.timeout(LIST_SECONDS),
                connections.get(f"{self._base}/models", headers=self._headers, allow_redirects=False) as response,
            ):
                if response.status in (401, 403):
                    raise ModelRefusedCredentials
                return named(await response.read())
        except (ClientError, OSError, ValueError) as error:
            raise ModelUnreachable from error

    async def start(self) -> None:
        """Do nothing: connections are made by the calls that need them."""

    async def aclose(self) -> None:
        await self._pools.aclose()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        answer = CompletionDecoder()
        try:
            async with self._open(request) as blocks:
                while not answer.done and (block := await next_block(blocks, answer)):
                    if text := answer.feed(block):
                        yield Token(text)
                    if answer.failure:
                        raise answer.failure
                    if answer.stirred:
                        answer.stirred = False
                        blocks.heard()
                await blocks.drain()
        except Fault as fault:
            raise fault.told(model=self.name, request=request, key=self._key) from None
        for event in answer.end():
            yield event

    @asynccontextmanager
    async def _open(self, request: ModelRequest) -> AsyncGenerator[Blocks]:
        """Make the call; its connection is closed with the block, or free for another call if read to the end."""
        deadline = asyncio.get_running_loop().time() + self._first_token_timeout
        response = await self._post(encode(self.name, request, limit=self._limit), deadline)
        blocks = Blocks(response, deadline=deadline, idle_timeout=self._idle_timeout)
        try:
            await check(response)
            yield blocks
        finally:
            blocks.close()

    async def _post(self, body: bytes, deadline: float) -> ClientResponse:
        """Return the response once its headers are there. A connection that died in the pool is given a second try."""
        use = SimpleNamespace(reused=False)
        try:
            async with asyncio.timeout_at(deadline):
                try:
                    return await self._send(body, use)
                except (ServerDisconnectedError, ClientOSError) as error:
                    if not use.reused or isinstance(error, ClientConnectorError):
                        raise
                    return await self._send(body, use)
        except (ConnectionTimeoutError, ValueError) as error:  # ValueError: no such URL or header
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
        # A compressed stream would wait until a block is worth compressing.
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream", "Accept-Encoding": "identity"}
        headers |= tracing.headers()
        return {**headers, "Authorization": f"Bearer {self._key}"} if self._key else headers


def pool(connect_timeout: float) -> ClientSession:
    """Return a pool of connections that leaves time limits and their number to its user."""
    reuse = TraceConfig()
    reuse.on_connection_reuseconn.append(note_reuse)
    return ClientSession(
        # Answers may be many and long: a limit would make one wait for another's end.
        connector=TCPConnector(limit=0),
        cookie_jar=DummyCookieJar(),
        timeout=ClientTimeout(total=None, connect=connect_timeout),
        # Of a buffer this small most chunks are taken without a look at whether to read on: a fifth more a second.
        read_bufsize=READ_BYTES,
        trace_configs=[reuse],
    )


async def note_reuse(_: ClientSession, context: SimpleNamespace, params: TraceConnectionReuseconnParams) -> None:
    """Set `reused` on what the request gave as `trace_request_ctx`."""
    context.trace_request_ctx.reused = True


async def next_block(blocks: Blocks, answer: CompletionDecoder) -> bytes:
    """Return the next block; whatever goes wrong once the model has finished doesn't matter any more."""
    try:
        return await blocks.next()
    except ModelError:
        if not answer.finish_reason:
            raise
        return b""


async def check(response: ClientResponse) -> None:
    """Raise `Fault` unless what follows is a stream of events."""
    if response.status == 200 and response.content_type == "text/event-stream":
        return
    raise Fault.of_response(response.status, response.headers, await error_body(response))


def named(listing: bytes) -> frozenset[str]:
    """Return the ids in a list of models; no server has to have one."""
    try:
        match orjson.loads(listing):
            case {"data": [*models]}:
                return frozenset(str(model["id"]) for model in models)
    except (ValueError, TypeError, KeyError):
        pass
    return frozenset()


async def error_body(response: ClientResponse) -> bytes:
    """Return the beginning of an error's body, or as much of it as comes in time."""
    body = b""
    with suppress(ClientError, OSError):
        async with asyncio.timeout(ERROR_SECONDS):
            while len(body) < ERROR_BYTES and (block := await response.content.readany()):
                body += block
    return body[:ERROR_BYTES]
