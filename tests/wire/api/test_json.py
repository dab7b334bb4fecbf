import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.api.json import MAX_DEPTH, NotJSON, loads

storable_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
storable = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | storable_text,
    lambda inner: st.lists(inner) | st.dictionaries(storable_text, inner),
    max_leaves=20,
)


@given(storable)
def test_what_can_be_stored_is_read_as_it_was_written(value: Any) -> None:
    assert loads(json.dumps(value).encode()) == value
    assert loads(json.dumps(value, ensure_ascii=False).encode()) == value


@given(st.binary())
def test_no_bytes_bring_anything_but_a_value_or_the_refusal(data: bytes) -> None:
    with suppress(NotJSON):
        loads(data)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "nul",
        "NaN",
        "[Infinity]",
        "-Infinity",
        "1e999",
        "-1e999",
        str(2**63),
        str(-(2**63) - 1),
        "1" * 100_000,
        r'"\ud800"',
        r'"\udc00\ud800"',
        r'{"\udfff": 1}',
        r'"a\u0000b"',
        r'{"\u0000": 1}',
        '"a\0b"',
        '{"a": 1, "a": 2}',
        '[{"b": {"a": 1, "\\u0061": 2}}]',
        "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
        "[" * 100_000,
        '{"a":' * 5_000 + "1" + "}" * 5_000,
        "'a'",
        '{"a": 1,}',
        "1 2",
        "\ufeff1",
    ],
)
def test_what_readers_disagree_on_is_refused(text: str) -> None:
    with pytest.raises(NotJSON):
        loads(text.encode())


@pytest.mark.parametrize("data", [b"\xff", b'"\xed\xa0\x80"', b"\xfe\xff\x001", b'"\xc0\x80"'])
def test_what_is_not_utf_8_is_refused(data: bytes) -> None:
    with pytest.raises(NotJSON):
        loads(data)


def test_the_deepest_nesting_that_is_read_is_64() -> None:
    assert loads(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)


def test_a_surrogate_pair_is_one_character() -> None:
    assert loads(rb'"\ud83d\ude00"') == "\U0001f600"


def test_the_refusal_says_where() -> None:
    with pytest.raises(NotJSON, match="line 2, column 6"):
        loads(b'{\n"a": nul}')
