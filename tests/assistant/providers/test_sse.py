"""Events out of blocks that are cut anywhere."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.providers.sse import MAX_LINE, LineTooLong, SSEParser


def read(*reader: bytes) -> list[bytes]:
    events = SSEParser()
    return [data for block in reader for data in events.feed(block)]


def test_each_line_of_data_is_an_event() -> None:
    assert read(b"data: a\n\ndata:b\n\n") == [b" a", b"b"]


def test_lines_may_end_in_crlf() -> None:
    assert [data.strip() for data in read(b"data: a\r\n\r\ndata: b\r\n")] == [b"a", b"b"]


def test_comments_and_other_fields_are_skipped() -> None:
    assert read(b": OPENROUTER PROCESSING\n\nevent: x\nid: 1\nretry: 5\ndata: a\n\n") == [b" a"]


def test_an_unfinished_line_is_not_an_event() -> None:
    assert read(b"data: a") == []


@given(st.lists(st.binary(max_size=20).filter(lambda b: b"\n" not in b)), st.lists(st.integers(0, 300)))
def test_where_the_stream_is_cut_changes_nothing(payloads: list[bytes], places: list[int]) -> None:
    stream = b"".join(b"data:" + payload + b"\n\n" for payload in payloads)
    cuts = sorted({0, len(stream), *(place for place in places if place < len(stream))})
    assert read(*(stream[a:b] for a, b in pairwise(cuts))) == payloads


def test_an_endless_line_is_given_up() -> None:
    events = SSEParser()
    assert events.feed(b"data: a\n" + b"x" * MAX_LINE) == [b" a"]
    events.feed(b"x")
    with pytest.raises(LineTooLong):
        events.feed(b"x")
