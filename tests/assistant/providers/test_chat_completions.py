"""The protocol apart from the network."""

import json
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.errors import ModelError
from assistant.events import Token, ToolCall, Usage
from assistant.providers.base import Completion, ToolSpec
from assistant.providers.chat_completions import CompletionDecoder, encode
from assistant.providers.upstream_error import UpstreamError
from tests.assistant.providers.collect import asking, text
from tests.upstream import DONE, chunk, deltas, ending, event


def read(*reader: bytes) -> list[Any]:
    answer = CompletionDecoder()
    tokens = []
    for block in reader:
        if said := answer.feed(block):
            tokens.append(Token(said))
        if answer.failure:
            raise answer.failure
    return [*tokens, *answer.end()]


def body(**parameters: Any) -> dict[str, Any]:
    encoded: dict[str, Any] = json.loads(encode("m", asking(**parameters), limit="max_tokens"))
    return encoded


# What is asked.


def test_a_request_asks_for_a_stream_with_usage() -> None:
    assert body() == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_parameters_are_sent_where_they_are_given() -> None:
    sent = body(temperature=0.0, max_tokens=7)
    assert (sent["temperature"], sent["max_tokens"]) == (0.0, 7)


def test_tools_are_sent_as_functions() -> None:
    schema = MappingProxyType({"type": "object", "properties": {}})
    (tool,) = body(tools=[ToolSpec("add", "Add numbers.", schema)])["tools"]
    assert tool == {
        "type": "function",
        "function": {"name": "add", "description": "Add numbers.", "parameters": dict(schema)},
    }


def test_a_schema_becomes_the_response_format() -> None:
    schema = {"type": "object"}
    assert body(schema=schema)["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": True},
    }


def test_what_orjson_cannot_write_is_sent_all_the_same() -> None:
    assert body(content="\ud83d")["messages"][0]["content"] == "\ud83d"
    assert body(tools=[ToolSpec("t", "", {"maximum": 2**70})])


# What is answered.


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1), st.lists(st.integers(0, 5_000)))
def test_the_text_is_the_same_wherever_the_bytes_are_cut(said: list[str], places: list[int]) -> None:
    stream = b"".join([*deltas(*said), *ending()])
    cuts = sorted({0, len(stream), *(place for place in places if place < len(stream))})
    events = read(*(stream[a:b] for a, b in pairwise(cuts)))
    assert text(events) == "".join(said).replace("\0", "\ufffd")
    assert events[-1] == Completion("stop", Usage(5, 2))


@given(st.text(alphabet=st.characters(), max_size=20), st.lists(st.integers(1, 19)))
def test_a_pair_of_surrogates_split_over_deltas_is_one_character(said: str, places: list[int]) -> None:
    units = said.encode("utf-16-be", "surrogatepass")
    cuts = sorted({0, len(units), *(2 * place for place in places if 2 * place < len(units))})
    halves = [units[a:b].decode("utf-16-be", "surrogatepass") for a, b in pairwise(cuts)]
    expected = units.decode("utf-16-be", "replace").replace("\0", "\ufffd")
    assert text(read(*deltas(*halves), *ending())) == expected


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (["\ud83d", "\ude00"], "\U0001f600"),
        (["a\ud83d", "b"], "a\ufffdb"),
        (["\ude00"], "\ufffd"),
        (["a\ud83d"], "a\ufffd"),
        (["a\0b"], "a\ufffdb"),
    ],
)
def test_what_cannot_be_stored_is_replaced(said: list[str], heard: str) -> None:
    assert text(read(*deltas(*said), *ending())) == heard


def test_deltas_of_one_block_go_on_together() -> None:
    assert read(b"".join(deltas("a", "b")), b"".join([*deltas("c"), *ending()]))[:2] == [Token("ab"), Token("c")]


def test_text_before_a_fault_in_the_same_block_is_heard() -> None:
    answer = CompletionDecoder()
    assert answer.feed(b"".join([*deltas("a"), event({"error": {"message": "no"}})])) == "a"
    assert isinstance(answer.failure, UpstreamError)


@pytest.mark.parametrize("more", [chunk({"content": "b"}), event({"error": "no"}), b"data: nonsense\n\n", DONE])
def test_what_follows_the_last_line_counts_for_nothing(more: bytes) -> None:
    whole = b"".join([*deltas("a"), *ending(), more])
    assert text(read(whole)) == text(read(*deltas("a"), *ending())) == "a"


def test_thoughts_are_signs_of_life_and_not_text() -> None:
    answer = CompletionDecoder()
    assert answer.feed(chunk({"role": "assistant", "content": ""})) == ""
    assert not answer.has_activity
    assert answer.feed(chunk({"reasoning_content": "hm"})) == ""
    assert answer.has_activity


def test_a_refusal_is_text() -> None:
    assert text(read(chunk({"content": None, "refusal": "I won't."}), *ending())) == "I won't."


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("stop", "stop"), ("eos", "stop"), ("length", "length"), ("content_filter", "stop"), ("tool_calls", "stop")],
)
def test_reasons_have_our_names(theirs: str, ours: str) -> None:
    assert read(*deltas("a"), *ending(theirs))[-1].finish_reason == ours


def test_usage_may_be_missing() -> None:
    assert read(*deltas("a"), *ending(usage=None))[-1].usage == Usage(0, 0)


@pytest.mark.parametrize("usage", [{"prompt_tokens": None}, {"prompt_tokens": -1}, {"prompt_tokens": 2**63}, {}])
def test_usage_that_cannot_be_is_none(usage: dict[str, Any]) -> None:
    assert read(chunk({}, "stop", usage=usage))[-1].usage == Usage(0, 0)


def test_a_reason_without_the_last_line_is_an_end() -> None:
    assert text(read(*deltas("a"), chunk(finish="stop"))) == "a"


def test_the_last_line_without_a_reason_is_an_end() -> None:
    assert text(read(*deltas("a"), DONE)) == "a"


def test_neither_is_an_answer_that_broke_off() -> None:
    with pytest.raises(ModelError) as caught:
        read(*deltas("a"))
    assert caught.value.retryable


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense",
        b"[]",
        b"5",
        b'"x"',
        b"[" * 100_000,
        b'{"choices": 5}',
        b'{"choices": {"a": 1}}',
        b'{"choices": [5]}',
        b'{"choices": [{"delta": 5}]}',
        b'{"choices": [{"delta": {"content": 5}}]}',
        b'{"choices": [{"delta": {"content": ["a"]}}]}',
        b'{"choices": [{"delta": {"tool_calls": 5}}]}',
        b'{"choices": [{"delta": {"tool_calls": [{"id": 5}]}}]}',
        b'{"choices": [{"delta": {"tool_calls": [{"function": {"name": 5}}]}}]}',
        b'{"choices": [{"delta": {"tool_calls": [{"function": {"arguments": {}}}]}}]}',
        b'{"choices": [], "usage": 5}',
        b'{"choices": [{"delta": {"content": "\xff"}}]}',
    ],
)
def test_garbage_is_an_error_of_the_model(data: bytes) -> None:
    with pytest.raises(ModelError):
        read(b"data: " + data + b"\n\n")


# Tools.


def call(index: int | None, arguments: str, **more: Any) -> bytes:
    named = {"name": more.pop("name")} if "name" in more else {}
    piece = {"function": {"arguments": arguments, **named}, **more}
    return chunk({"tool_calls": [piece if index is None else {"index": index, **piece}]})


def calls(*chunks: bytes, finish: str = "tool_calls") -> list[Any]:
    return [event for event in read(*chunks, *ending(finish)) if not isinstance(event, Token)]


def test_calls_are_put_together_by_index() -> None:
    assert calls(
        call(0, '{"a"', id="x", name="add"),
        call(1, "{", id="y", name="sub"),
        call(0, ": 1}"),
        call(1, "}"),
    ) == [ToolCall("x", "add", {"a": 1}), ToolCall("y", "sub", {}), Completion("tool_calls", Usage(5, 2))]


def test_calls_may_all_have_the_same_index() -> None:
    both = calls(call(0, "{}", id="x", name="add"), call(0, "{}", id="y", name="sub"))
    assert [each.name for each in both[:-1]] == ["add", "sub"]


def test_calls_may_have_no_index() -> None:
    both = calls(call(None, "{", id="x", name="add"), call(None, "}"), call(None, "{}", id="y", name="sub"))
    assert both[:-1] == [ToolCall("x", "add", {}), ToolCall("y", "sub", {})]


def test_a_call_without_an_id_is_given_one() -> None:
    assert calls(call(0, "{}", name="add"))[0].tool_call_id.startswith("call_")


def test_no_arguments_are_an_empty_object() -> None:
    assert calls(call(0, "", id="x", name="now"))[0].parameters == {}


def test_calls_count_whatever_reason_the_server_gives() -> None:
    assert calls(call(0, "{}", id="x", name="now"), finish="stop")[-1].finish_reason == "tool_calls"


def test_a_call_that_the_limit_cut_is_not_made() -> None:
    assert calls(call(0, '{"a": ', id="x", name="add"), finish="length") == [Completion("length", Usage(5, 2))]


@pytest.mark.parametrize(
    "arguments", ['{"a": ', "[1]", "5", "null", '{"a": 1e999}', '{"a": "\\ud83d"}', '{"a": "\\u0000"}']
)
def test_arguments_that_are_not_a_json_object_are_an_error(arguments: str) -> None:
    with pytest.raises(ModelError):
        calls(call(0, arguments, id="x", name="add"))


@pytest.mark.parametrize("named", [{"id": "x"}, {"id": "x\0", "name": "add"}, {"id": "x", "name": "\ud83d"}])
def test_a_name_that_cannot_be_one_is_an_error(named: dict[str, str]) -> None:
    with pytest.raises(ModelError):
        calls(call(0, "{}", **named))
