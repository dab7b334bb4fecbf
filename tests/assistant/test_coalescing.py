import asyncio

from hypothesis import given
from hypothesis import strategies as st

from assistant.coalescing import GAP_SECONDS, Coalescer


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
