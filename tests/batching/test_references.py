import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batching.errors import FailedDependency
from batching.items.references import TooLong, Values, find

BODIES = {
    "a": {
        "text": "one/two?three#..&é",
        "results": [{"title": "T"}, {"title": "U"}],
        "n": 3,
        "flag": True,
        "none": None,
        "0": "zero",
        "braces": "{{a.body.text}}",
        "object": {"k": ["v"]},
    },
    "b.c": "whole",
    "list": [10, 11],
}


def values(max_chars: int = 10_000) -> Values:
    return Values(BODIES, max_chars)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{a.body}}", BODIES["a"]),
        ("{{a.body.text}}", "one/two?three#..&é"),
        ("{{ a.body.text }}", "one/two?three#..&é"),
        ("{{a.body.results.1.title}}", "U"),
        ("{{a.body.n}}", 3),
        ("{{a.body.flag}}", True),
        ("{{a.body.none}}", None),
        ("{{a.body.0}}", "zero"),
        ("{{a.body.object}}", {"k": ["v"]}),
        ("{{b.c.body}}", "whole"),
        ("{{list.body.1}}", 11),
    ],
)
def test_a_reference_alone_keeps_the_values_type(text: str, value: Any) -> None:
    assert values().fill(text) == value
    assert values().fill({"x": [text]}) == {"x": [value]}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("n={{a.body.n}}.", "n=3."),
        ("{{a.body.n}}{{a.body.flag}}", "3true"),
        ("<{{a.body.object}}>", '<{"k": ["v"]}>'),
        ("<{{a.body.none}}>", "<null>"),
        ("<{{a.body.text}}>", "<one/two?three#..&é>"),
    ],
)
def test_a_reference_among_text_becomes_text(text: str, filled: str) -> None:
    assert values().fill(text) == filled


@pytest.mark.parametrize(
    "text", ["{{a.body.text", "{{}}", "{{a}}", "{{a.bodyguard}}", "{{.body.x}}", "{a.body.text}", "}}{{"]
)
def test_what_is_no_reference_stays_as_it_is(text: str) -> None:
    assert values().fill(text) == text
    assert list(find(text)) == []


def test_three_braces_are_a_reference_in_braces() -> None:
    assert values().fill("{{{a.body.n}}}") == "{3}"


def test_a_value_is_never_searched_for_references() -> None:
    assert values().fill("{{a.body.braces}}") == "{{a.body.text}}"
    assert values().fill("-{{a.body.braces}}-") == "-{{a.body.text}}-"


def test_keys_of_objects_are_not_references() -> None:
    assert values().fill({"{{a.body.n}}": 1}) == {"{{a.body.n}}": 1}


@pytest.mark.parametrize(
    "text",
    [
        "a.body.nothing",
        "a.body.results.2",
        "a.body.results.-1",
        "a.body.results.title",
        "a.body.text.0",
        "a.body.n.x",
        "a.body.",
        "a.body.results.1_0",
        "a.body.__class__",
        "list.body.99999999999",
    ],
)
def test_a_missing_value_is_named(text: str) -> None:
    with pytest.raises(FailedDependency, match=text.replace(".", r"\.")):
        values().fill(f"{{{{{text}}}}}")


@pytest.mark.parametrize(
    ("path", "filled"),
    [
        ("/x/{{a.body.text}}", "/x/one%2Ftwo%3Fthree%23..%26%C3%A9"),
        ("/x?q={{a.body.braces}}", "/x?q=%7B%7Ba.body.text%7D%7D"),
        ("/x/{{a.body.n}}/{{a.body.flag}}", "/x/3/true"),
    ],
)
def test_a_value_in_a_path_is_percent_encoded(path: str, filled: str) -> None:
    assert values().fill_path(path) == filled


def test_what_references_stand_for_is_bounded() -> None:
    big = Values({"a": "x" * 1000}, max_chars=3500)
    with pytest.raises(TooLong):
        big.fill(["{{a.body}}"] * 1_000_000)
    assert Values({"a": "x" * 1000}, max_chars=3000).fill(["{{a.body}}"] * 3) == ["x" * 1000] * 3


def test_references_name_their_items() -> None:
    found = find(["/x/{{a.body.n}}", {"k": ["{{b.c.body}} {{a.body}}"]}])
    assert sorted(reference.item for reference in found) == ["a", "a", "b.c"]


def test_a_million_braces_take_no_time() -> None:
    assert list(find("{{" * 500_000)) == []
    assert list(find("{{a" * 300_000 + "}}")) == []


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(JSON)
def test_any_value_arrives_as_it_is(value: Any) -> None:
    assert Values({"a": {"v": value}}, 10**6).fill("{{a.body.v}}") == value


@given(JSON)
def test_a_body_without_references_is_left_alone(value: Any) -> None:
    if not list(find(value)):
        assert Values({}, 0).fill(value) == value


@given(JSON)
def test_a_value_in_a_path_has_no_character_with_a_meaning(value: Any) -> None:
    filled = Values({"a": value}, 10**6).fill_path("{{a.body}}")
    assert filled.isascii()
    assert not set(filled) & set("/?#\\{}&= ")


@given(st.text(alphabet="{}a.body0 "))
def test_no_text_breaks_it(text: str) -> None:
    try:
        json.dumps(Values({"a": {"0": [1]}}, 1000).fill(text))
    except (FailedDependency, KeyError):
        assert list(find(text))
