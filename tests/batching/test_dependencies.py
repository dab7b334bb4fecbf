import pytest
from hypothesis import given
from hypothesis import strategies as st

from batching.items.dependencies import BadDependencies, check


def test_items_in_any_order_are_fine() -> None:
    check({"a": ["b"], "b": ["c"], "c": [], "d": ["a", "c"]})
    check({str(number): [str(number + 1)] for number in range(2000)} | {"2000": []})


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        ({"a": ["x"]}, "Item a depends on x, which isn't in the batch."),
        ({"a": ["a"]}, "Item a depends on itself."),
        ({"a": ["b"], "b": ["a"]}, "in a circle"),
        ({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}, "in a circle"),
    ],
)
def test_items_that_can_not_start_are_refused(graph: dict[str, list[str]], message: str) -> None:
    with pytest.raises(BadDependencies, match=message):
        check(graph)


@given(st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdef"), max_size=3), min_size=1))
def test_items_are_accepted_exactly_when_all_can_run(graph: dict[str, list[str]]) -> None:
    done: set[str] = set()
    while ready := {name for name in graph.keys() - done if set(graph[name]) <= done}:
        done |= ready
    try:
        check(graph)
    except BadDependencies:
        assert done != graph.keys()
    else:
        assert done == graph.keys()
