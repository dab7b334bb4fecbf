"""Chat over a WebSocket: many answers on one connection, each read from the Run that server-sent events read too."""

import asyncio
import json
import logging
from contextlib import aclosing, suppress
from typing import Any

from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from django.http.response import HttpResponseBase

from assistant.answers.reading import events_after
from assistant.api.views import AnswerStream
from assistant.websocket import protocol
from assistant.websocket.calls import WebSocketClient, handshake
from wire.api.parsers import StrictJSONParser
from wire.asgi import draining
from wire.asgi.threads import Pool
from wire.observe.request_id import acceptable, request_id

logger = logging.getLogger(__name__)

# What a connection is closed with: https://www.iana.org/assignments/websocket/websocket.xhtml
UNSUPPORTED_DATA, TOO_BIG, INTERNAL_ERROR, SERVICE_RESTART = 1003, 1009, 1011, 1012

# Headers of a refusal that its client needs.
TOLD = ("WWW-Authenticate", "Retry-After")

# Events after which an answer that has more of them ready gives way to the loop's other tasks.
EVENTS_AT_ONCE = 16

# Views are sync. A connection that says nothing has no thread, however many there are.
CALLS = Pool(8, "assistant-socket")


class ChatConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # channels has no types
    """One connection. Its frames are carried out in their order; the answers that it reads come side by side."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve the connection until it closes. What it reads ends with it; how it ended, a close code says."""
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        self.caller = WebSocketClient(scope, acceptable(given))
        request_id.set(self.caller.request_id)
        self.reading: dict[str, asyncio.Task[None]] = {}
        try:
            await self.serve(scope, receive, send)
        except asyncio.CancelledError:
            await self.close(SERVICE_RESTART)
            raise
        except Exception:  # the last word: the client would wait for ever
            logger.exception("socket=failed")
            await self.close(INTERNAL_ERROR)

    async def serve(self, scope: Any, receive: Any, send: Any) -> None:
        async with asyncio.TaskGroup() as self.readers:
            try:
                await super().__call__(scope, receive, send)
            finally:
                draining.started.remove_callback(self.leave)
            for reader in self.reading.values():
                reader.cancel()

    async def connect(self) -> None:
        response = await CALLS.sync_to_async(handshake)(self.caller)
        if response.status_code >= 300:
            await self.refuse(response)
        await self.accept(headers=self.named())
        draining.started.add_callback(self.leave)
        logger.info("socket=open client=%s", ":".join(map(str, self.scope.get("client") or ())))

    def named(self) -> list[tuple[bytes, bytes]]:
        return [(b"X-Request-ID", self.caller.request_id.encode())]

    async def refuse(self, response: HttpResponseBase) -> None:
        """Answer the handshake as HTTP does; a server that can't do that answers 403."""
        logger.info("socket=refused status=%s", response.status_code)
        if "websocket.http.response" in self.scope.get("extensions", {}):
            headers = [(b"Content-Type", b"application/json"), *self.named()]
            headers += [(name.encode(), response.headers[name].encode()) for name in TOLD if name in response.headers]
            start = {"type": "websocket.http.response.start", "status": response.status_code, "headers": headers}
            await self.base_send(start)
            body = json.dumps(protocol.body_of(response)).encode()
            await self.base_send({"type": "websocket.http.response.body", "body": body})
        else:
            await self.close()
        raise StopConsumer

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data is None:
            await self.end(UNSUPPORTED_DATA)
        elif len(text_data.encode(errors="surrogatepass")) > StrictJSONParser().max_bytes():
            await self.end(TOO_BIG)
        else:
            await self.take(
                await CALLS.sync_to_async(protocol.answered)(text_data, self.caller, frozenset(self.reading))
            )

    async def end(self, code: int) -> None:
        await self.close(code)
        raise StopConsumer

    async def take(self, answered: protocol.Answered) -> None:
        match answered.response:
            case AnswerStream() as stream:
                logger.info("socket=reading message=%s after=%s", stream.message_id, stream.cursor)
                self.reading[stream.message_id] = self.readers.create_task(self.read(stream, answered.ref))
            case response:
                await self.say(protocol.reply(response, answered.ref))

    async def read(self, stream: AnswerStream, ref: str | None) -> None:
        """Send an answer's events until the last one."""
        tail, sent = protocol.tail(stream.message_id, ref), False
        try:
            async with aclosing(events_after(stream.turn, stream.cursor)) as events:
                async for event in events:
                    if event is not None:  # a quiet connection is kept open by the server's pings
                        sent = True
                        await self.say(protocol.event(*event, tail))
                        if event[0] % EVENTS_AT_ONCE == 0:
                            await asyncio.sleep(0)
        finally:
            del self.reading[stream.message_id]
            stream.close()
        if not sent:
            await self.say(protocol.nothing_left(ref))

    def leave(self) -> None:
        """Let what is read come to its end, when the process is to stop, and then close."""
        self.readers.create_task(self.close_when_read())

    async def close_when_read(self) -> None:
        while self.reading:
            await asyncio.wait(self.reading.values())
        await self.close(SERVICE_RESTART)

    async def disconnect(self, code: int) -> None:
        logger.info("socket=closed code=%s", code)

    async def say(self, text: str) -> None:
        with suppress(OSError):  # how ASGI says that the client has gone, which `disconnect` says too
            await self.send(text_data=text)
