"""FastAPI with httpx: `application` streams a StreamingResponse, FastAPI's own server-sent events under /sse, and
under /made what needs no upstream."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import orjson
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel

from bench.peers.paced import Stream, pacer

URL = f"{os.environ['UPSTREAM']}/v1/chat/completions"
client = httpx.AsyncClient(timeout=None, limits=httpx.Limits(max_connections=None))  # noqa: S113  # as the others


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with client:
        yield


application = FastAPI(lifespan=lifespan)


class Ask(BaseModel):
    message: str


async def deltas(prompt: str) -> AsyncIterator[str]:
    body = {"model": "bench", "messages": [{"role": "user", "content": prompt}], "stream": True}
    async with client.stream("POST", URL, json=body) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: {") and (text := orjson.loads(line[6:])["choices"][0]["delta"].get("content")):
                yield text


async def frames(prompt: str) -> AsyncIterator[bytes]:
    async for text in deltas(prompt):
        yield token(text)


def token(text: str) -> bytes:
    return b"data: %b\n\n" % orjson.dumps({"type": "token", "content": text})


@application.post("/api/agent/chat")
async def chat(ask: Ask) -> StreamingResponse:
    return StreamingResponse(frames(ask.message), media_type="text/event-stream")


@application.post("/made")
async def made() -> StreamingResponse:
    return StreamingResponse(tokens(), media_type="text/event-stream")


async def tokens() -> AsyncIterator[bytes]:
    stream = Stream()
    while True:
        yield token(await stream.next())


@application.get("/pace/{count}")
async def pace(count: int) -> None:
    pacer.pace(count)


@application.post("/sse", response_class=EventSourceResponse)
async def sse(ask: Ask) -> AsyncIterator[ServerSentEvent]:
    async for text in deltas(ask.message):
        yield ServerSentEvent(data={"type": "token", "content": text})
