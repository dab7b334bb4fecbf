"""Streams at full speed beside other requests, with the real server."""

import asyncio
import json
import sys
from collections.abc import Iterator

import aiohttp
import pytest

from tests.processes import Served, running, serving
from tests.streams import check, parse

pytestmark = pytest.mark.server

STREAMS = 4
DELTAS = 15_000
# While these are relayed: about seventy, on a busy machine as on a quiet one; under twenty where no stream gives way.
ANSWERS = 30


@pytest.fixture
def service() -> Iterator[Served]:
    upstream = [sys.executable, "-m", "tests.fast_upstream", str(DELTAS), "500", "0"]
    with (
        running(upstream, r"on http://\S+:(\d+)") as model,
        serving(ASSISTANT_MODEL="openai:test", OPENAI_BASE_URL=f"{model.url}/v1", LOG_LEVEL="WARNING") as it,
    ):
        yield it


async def test_health_answers_beside_streams_at_full_speed(service: Served) -> None:
    async with aiohttp.ClientSession(service.url) as client:

        async def read() -> bytes:
            async with client.post("/api/agent/chat?stream=true", json={"message": "Go on"}) as response:
                return await response.read()

        readers = [asyncio.create_task(read()) for _ in range(STREAMS)]
        answers = 0
        while not all(reader.done() for reader in readers):
            async with client.get("/healthz") as response:
                assert json.loads(await response.read()) == {"status": "ok"}
            answers += 1
        for reader in readers:
            assert check(parse(await reader))[-1]["finish_reason"] == "stop"
    assert answers > ANSWERS
