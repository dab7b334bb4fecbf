"""An open stream holds a little memory and nothing else. `python -m bench.open_streams` has more of them."""

import asyncio
import statistics
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import requests

from tests.open_streams import PATIENT, SAYS_LITTLE, Streams, footprint
from tests.processes import Served, serving, serving_with_uvicorn
from tests.streams import parse
from tests.upstream import Upstream

pytestmark = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


@pytest.mark.parametrize(("server", "count"), [(serving, 300), (serving_with_uvicorn, 40)])
async def test_streams_hold_neither_threads_nor_connections(
    server: Callable[..., AbstractContextManager[Served]], count: int
) -> None:
    with (
        Upstream(SAYS_LITTLE).in_thread() as upstream,
        server(**PATIENT, ASSISTANT_MODEL="openai:test", OPENAI_BASE_URL=upstream.url) as it,
    ):
        streams = Streams(it)
        try:
            await streams.open(20)
            before = footprint(it)
            await streams.open(count)
            async with asyncio.timeout(10):
                # Four threads store, and those of requests are kept for a moment.
                while (after := footprint(it)).threads > before.threads + 4 or after.database > 4:
                    await asyncio.sleep(0.05)
            assert (after.memory - before.memory) / count < 100
            assert await streams.all_open()
            assert statistics.median([await streams.healthz() for _ in range(20)]) < 100
            assert statistics.median([await streams.first_token() for _ in range(20)]) < 500
        finally:
            await streams.close()


def test_who_resumes_a_quiet_stream_has_its_headers_at_once() -> None:
    with (
        Upstream(SAYS_LITTLE).in_thread() as upstream,
        serving(**PATIENT, ASSISTANT_MODEL="openai:test", OPENAI_BASE_URL=upstream.url) as it,
        requests.post(f"{it.url}/api/agent/chat?stream=true", json={"message": "Hi"}, stream=True, timeout=10) as first,
    ):
        ((_, start),) = parse(next(first.iter_content(None)))
        # Sooner than the first comment line, which comes after 15 s.
        resumed = requests.get(
            f"{it.url}/api/agent/messages/{start['message_id']}/stream?after=2", stream=True, timeout=10
        )
        with resumed:
            assert resumed.headers["Content-Type"] == "text/event-stream"
