"""One text: of the stream, of the stored answer, and of the answer without a stream, however it is cut."""

from itertools import pairwise
from typing import Any

import pytest
from django.test import AsyncClient, override_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assistant.models import Message
from tests import streams
from tests.upstream import Script, Step, Upstream, chunk, deltas, ending, reply

pytestmark = pytest.mark.usefixtures("db")

CHUNK_SIZES = [1, 2, 3, 100, 10_000]
# An e with two accents, a family joined by ZWJ, a flag of two letters, a skin tone, Hindi, Hangul in parts, right to
# left, what ends a line somewhere, and what JSON escapes.
TELLING = (
    "e\u0301\u0323 👩\u200d👩\u200d👧\u200d👦 🇫🇷 👋🏽"
    ' नमस्ते \u1112\u1161\u11ab \u202eabc \u2028\u2029\x85\r\n\t"\\/\x7f\ufeff\uffff'
)
SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


async def post(client: AsyncClient, query: str = "") -> Any:
    return await client.post(f"/api/agent/chat{query}", {"message": "Hi"}, content_type="application/json")


async def check(client: AsyncClient, upstream: Upstream, script: Script, expected: str) -> None:
    """Check that every way to the answer has the same text."""
    upstream.script = script
    events = await streams.read(await post(client, "?stream=true"))
    assert events[-1]["type"] == "end"
    assert streams.text(events) == expected
    assert (await Message.objects.aget(pk=events[0]["message_id"])).text == expected
    replayed = await client.get(f"/api/agent/messages/{events[0]['message_id']}/stream")
    assert await streams.read(replayed) == events
    assert (await post(client)).json()["response"] == expected


def units(text: str) -> list[str]:
    """Return the text's UTF-16 code units: halves of pairs are strings of their own."""
    data = text.encode("utf-16-be")
    return [data[at : at + 2].decode("utf-16-be", "surrogatepass") for at in range(0, len(data), 2)]


@pytest.mark.parametrize("size", CHUNK_SIZES)
async def test_for_every_chunk_size(async_client: AsyncClient, upstream: Upstream, settings: Any, size: int) -> None:
    settings.STREAM_CHUNK_SIZE = size
    await check(async_client, upstream, reply(TELLING * 3), TELLING * 3)


async def test_for_every_code_unit_as_a_delta(async_client: AsyncClient, upstream: Upstream) -> None:
    await check(async_client, upstream, reply(*units(TELLING)), TELLING)


@pytest.mark.parametrize("part", [range(0x80000), range(0x80000, 0x110000)], ids=["lower", "upper"])
async def test_for_every_character(async_client: AsyncClient, upstream: Upstream, settings: Any, part: range) -> None:
    settings.STREAM_CHUNK_SIZE = 10_000
    said = "".join(chr(code) for code in part if not 0xD800 <= code <= 0xDFFF)
    pieces = [said[at : at + 1_000] for at in range(0, len(said), 1_000)]
    await check(async_client, upstream, reply(*pieces), said.replace("\0", "\ufffd"))


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["\ud83d", "\ude00"], "😀"),
        (["a\ud83d", "", "\ude00b"], "a😀b"),
        (["\ud83d", "\ud83d", "\ude00"], "\ufffd😀"),
        (["\ud83d", "a"], "\ufffda"),
        (["a\ude00"], "a\ufffd"),
        (["a", "\ud83d"], "a\ufffd"),
        (["a\0", "\0b"], "a\ufffd\ufffdb"),
    ],
)
async def test_halves_find_each_other_and_what_cannot_be_stored_is_replaced(
    async_client: AsyncClient, upstream: Upstream, pieces: list[str], expected: str
) -> None:
    await check(async_client, upstream, Script([*map(content, pieces), *ending()]), expected)


def content(text: str) -> bytes:
    return chunk({"content": text})


@settings(max_examples=20, deadline=None, suppress_health_check=SLOW)
@given(
    st.text(st.characters(codec="utf-8") | st.sampled_from(TELLING), min_size=1, max_size=60),
    st.lists(st.tuples(st.integers(1, 119), st.sampled_from([0, 0, 0.002, 0.03]))),
    st.sampled_from(CHUNK_SIZES),
)
async def test_for_every_way_to_split_it_into_deltas(
    async_client: AsyncClient, upstream: Upstream, said: str, cuts: list[tuple[int, float]], size: int
) -> None:
    whole = units(said)
    pauses = dict(cuts)
    steps: list[Step] = []
    for begin, end in pairwise(sorted({0, len(whole), *(at for at in pauses if at < len(whole))})):
        steps += [chunk({"content": "".join(whole[begin:end])}), pauses.get(end, 0)]
    with override_settings(STREAM_CHUNK_SIZE=size):
        await check(async_client, upstream, Script([*steps, *ending()]), said.replace("\0", "\ufffd"))


@settings(max_examples=15, deadline=None, suppress_health_check=SLOW)
@given(st.lists(st.integers(1, 1_500), max_size=30))
async def test_for_every_way_the_network_cuts_it(
    async_client: AsyncClient, upstream: Upstream, places: list[int]
) -> None:
    said = "gr\u00fc\u00df 😀"
    body = [event.replace(b"\\u00fc", "\u00fc".encode()) for event in [*deltas(*said), *ending()]]
    head = Script([]).head
    sent = head + b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in body) + b"0\r\n\r\n"
    cuts = sorted({0, len(sent), *(place for place in places if place < len(sent))})
    # A pause lets each piece arrive on its own.
    steps = [step for begin, end in pairwise(cuts) for step in (sent[begin:end], 0.001)]
    await check(async_client, upstream, Script(steps, raw=True), said)


async def test_each_frame_is_ascii_whole_and_written_in_one_piece(
    async_client: AsyncClient, upstream: Upstream
) -> None:
    upstream.script = reply(*TELLING, pause=0.001)
    response = await post(async_client, "?stream=true")
    parts = [part async for part in response]
    assert len(parts) > 3
    for part in parts:
        assert len(streams.parse(part)) == 1
        assert part.count(b"\n") == 3


async def test_a_stream_is_told_apart_from_what_is_compressed_or_kept(
    async_client: AsyncClient, upstream: Upstream, settings: Any
) -> None:
    settings.MIDDLEWARE = ["django.middleware.gzip.GZipMiddleware", *settings.MIDDLEWARE]
    upstream.script = reply("x" * 1_000)
    response = await async_client.post(
        "/api/agent/chat?stream=true", {"message": "Hi"}, "application/json", headers={"accept-encoding": "gzip"}
    )
    assert response["Content-Encoding"] == "identity"
    assert response["Cache-Control"] == "no-cache, no-transform"
    assert response["X-Accel-Buffering"] == "no"
    assert streams.text(await streams.read(response)) == "x" * 1_000
