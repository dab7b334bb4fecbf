"""Chat over a WebSocket: many answers on one connection, each read as server-sent events read it."""

import asyncio
import json
import logging
from contextlib import aclosing, suppress
from typing import Any

from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from django.http.response import HttpResponseBase

from assistant.api.streams import AnswerStream
from assistant.websocket import protocol
from assistant.websocket.internal_requests import WebSocketClient, handshake
from wire.api.parsers import StrictJSONParser
from wire.asgi import draining
from wire.asgi.threads import Pool
from wire.observe.request_id import acceptable, request_id

logger = logging.getLogger(__name__)

# Close codes: https://www.iana.org/assignments/websocket/websocket.xhtml
UNSUPPORTED_DATA, TOO_BIG, INTERNAL_ERROR, SERVICE_RESTART = 1003, 1009, 1011, 1012

# Headers of a refusal that its client needs.
REFUSAL_HEADERS = ("WWW-Authenticate", "Retry-After")

# Views are sync. A quiet connection has no thread, however many there are.
THREADS = Pool(8, "assistant-socket")


class ChatConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # channels has no types
    """One connection. Its frames are executed in their order; the answers that it reads come side by side."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve the connection until it closes. What it reads ends with it, and a close code tells how it ended."""
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        self.client = WebSocketClient(scope, acceptable(given))
        request_id.set(self.client.request_id)
        self.reading: dict[str, asyncio.Task[None]] = {}
        try:
            await self.serve(scope, receive, send)
        except asyncio.CancelledError:
            await self.close(SERVICE_RESTART)
            raise
        except Exception:  # the client would otherwise wait for ever
            logger.exception("socket=failed")
            await self.close(INTERNAL_ERROR)

    async def serve(self, scope: Any, receive: Any, send: Any) -> None:
        async with asyncio.TaskGroup() as self.tasks:
            try:
                await super().__call__(scope, receive, send)
            finally:
                draining.started.remove_callback(self.drain)
            for reader in self.reading.values():
                reader.cancel()

    async def connect(self) -> None:
        response = await THREADS.sync_to_async(handshake)(self.client)
        if response.status_code >= 300:
            await self.refuse(response)
        await self.accept(headers=self.id_headers())
        draining.started.add_callback(self.drain)
        logger.info("socket=open client=%s", ":".join(map(str, self.scope.get("client") or ())))

    def id_headers(self) -> list[tuple[bytes, bytes]]:
        return [(b"X-Request-ID", self.client.request_id.encode())]

    async def refuse(self, response: HttpResponseBase) -> None:
        """Answer the handshake as HTTP does; a server that can't do that answers 403."""
        logger.info("socket=refused status=%s", response.status_code)
        if "websocket.http.response" in self.scope.get("extensions", {}):
            headers = [(b"Content-Type", b"application/json"), *self.id_headers()]
            sent = [name for name in REFUSAL_HEADERS if name in response.headers]
            headers += [(name.encode(), response.headers[name].encode()) for name in sent]
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
            respond = THREADS.sync_to_async(protocol.respond)
            await self.send_response(await respond(text_data, self.client, frozenset(self.reading)))

    async def end(self, code: int) -> None:
        await self.close(code)
        raise StopConsumer

    async def send_response(self, to_frame: protocol.FrameResponse) -> None:
        match to_frame.response:
            case AnswerStream() as stream:
                logger.info("socket=reading message=%s after=%s", stream.message_id, stream.cursor)
                self.reading[stream.message_id] = self.tasks.create_task(self.send_events(stream, to_frame.ref))
            case response:
                await self.send_frame(protocol.reply(response, to_frame.ref))

    async def send_events(self, stream: AnswerStream, ref: str | None) -> None:
        """Send an answer's events until the last one."""
        tail, has_sent = protocol.tail(stream.message_id, ref), False
        try:
            async with aclosing(stream.events()) as events:
                async for event in events:
                    if event is not None:  # a quiet connection is kept open by the server's pings
                        has_sent = True
                        await self.send_frame(protocol.event(*event, tail))
        finally:
            del self.reading[stream.message_id]
            stream.close()
        if not has_sent:
            await self.send_frame(protocol.nothing_left(ref))

    def drain(self) -> None:
        """Close once the answers that are read have ended: the process is to stop."""
        self.tasks.create_task(self.close_when_read())

    async def close_when_read(self) -> None:
        while self.reading:
            await asyncio.wait(self.reading.values())
        await self.close(SERVICE_RESTART)

    async def disconnect(self, code: int) -> None:
        logger.info("socket=closed code=%s", code)

    async def send_frame(self, text: str) -> None:
        with suppress(OSError):  # how ASGI tells that the client has gone, which `disconnect` tells too
            await self.send(text_data=text)
