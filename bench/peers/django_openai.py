"""The openai SDK in an async Django view on daphne."""

import os
from collections.abc import AsyncIterator

import orjson
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, StreamingHttpResponse
from django.urls import path
from openai import AsyncOpenAI

client = AsyncOpenAI(base_url=f"{os.environ['UPSTREAM']}/v1", api_key="none", max_retries=0)


async def chat(request: HttpRequest) -> StreamingHttpResponse:
    frames = relay(orjson.loads(request.body)["message"])
    return StreamingHttpResponse(frames, content_type="text/event-stream")


async def relay(prompt: str) -> AsyncIterator[bytes]:
    stream = await client.chat.completions.create(
        model="bench", messages=[{"role": "user", "content": prompt}], stream=True
    )
    async for chunk in stream:
        if text := chunk.choices[0].delta.content:
            yield b"data: %b\n\n" % orjson.dumps({"type": "token", "content": text})


settings.configure(ALLOWED_HOSTS=["localhost"], ROOT_URLCONF=__name__, SECRET_KEY="bench")  # noqa: S106  # no secret
urlpatterns = [path("api/agent/chat", chat)]
application = get_asgi_application()
