import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from assistant.answers.coalescing import GAP_SECONDS, Coalescer


@given(st.lists(st.text(min_size=1)), st.integers(1, 7))
def test_the_text_is_the_same_for_every_chunk_size(pieces: list[str], chunk_size: int) -> None:
    async def coalesced() -> list[str]:
        tokens: list[str] = []
        coalescer = Coalescer(chunk_size=chunk_size, emit=tokens.append)
        for piece in pieces:
            coalescer.add(piece)
        coalescer.flush()
        return tokens

    tokens = asyncio.run(coalesced())
    assert "".join(tokens) == "".join(pieces)
    assert all(1 <= len(token) <= chunk_size for token in tokens)


async def test_to_split_a_long_text_reads_each_part_of_it_once() -> None:
    read: list[int] = []

    class Text(str):
        __slots__ = ()

        def __getitem__(self, key: Any) -> "Text":
            part = Text(super().__getitem__(key))
            read.append(len(part))
            return part

    tokens: list[str] = []
    Coalescer(chunk_size=1, emit=tokens.append).add(Text("a" * 1_000))
    assert len(tokens) == sum(read) == 1_000


async def test_the_first_token_leaves_at_once_and_the_next_ones_together() -> None:
    tokens: list[str] = []
    coalescer = Coalescer(chunk_size=100, emit=tokens.append)
    coalescer.add("a")
    assert tokens == ["a"]
    coalescer.add("b")
    coalescer.add("c")
    assert tokens == ["a"]
    async with asyncio.timeout(5):
        while len(tokens) < 2:
            await asyncio.sleep(GAP_SECONDS / 5)
    assert tokens == ["a", "bc"]


async def test_after_a_pause_a_token_leaves_at_once() -> None:
    tokens: list[str] = []
    coalescer = Coalescer(chunk_size=100, emit=tokens.append)
    coalescer.add("a")
    await asyncio.sleep(GAP_SECONDS * 1.5)
    coalescer.add("b")
    assert tokens == ["a", "b"]
