"""Bare Django views on daphne, without authentication, rows and resuming: one that reads blocks with aiohttp, one that
needs no upstream."""

import os
from collections.abc import AsyncIterator

import aiohttp
import orjson
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

from bench.peers.paced import Stream, pacer

URL = f"{os.environ['UPSTREAM']}/v1/chat/completions"
sessions: list[aiohttp.ClientSession] = []


async def chat(request: HttpRequest) -> StreamingHttpResponse:
    if not sessions:
        sessions.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout()))
    frames = relay(orjson.loads(request.body)["message"])
    return StreamingHttpResponse(frames, content_type="text/event-stream")


async def relay(prompt: str) -> AsyncIterator[bytes]:
    body = {"model": "bench", "messages": [{"role": "user", "content": prompt}], "stream": True}
    rest = b""
    async with sessions[0].post(URL, json=body) as answer:
        async for block in answer.content.iter_any():
            *lines, rest = (rest + block).split(b"\n")
            if frames := b"".join(map(frame, lines)):
                yield frames


def frame(line: bytes) -> bytes:
    if not line.startswith(b"data: {"):
        return b""
    text = orjson.loads(line[6:])["choices"][0]["delta"].get("content")
    return token(text) if text else b""


def token(text: str) -> bytes:
    return b"data: %b\n\n" % orjson.dumps({"type": "token", "content": text})


async def made(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(tokens(), content_type="text/event-stream")


async def tokens() -> AsyncIterator[bytes]:
    stream = Stream()
    while True:
        yield token(await stream.next())


async def pace(request: HttpRequest, count: int) -> HttpResponse:
    pacer.pace(count)
    return HttpResponse()


settings.configure(ALLOWED_HOSTS=["localhost"], ROOT_URLCONF=__name__, SECRET_KEY="bench")  # noqa: S106  # no secret
urlpatterns = [path("api/agent/chat", chat), path("made", made), path("pace/<int:count>", pace)]
application = get_asgi_application()
