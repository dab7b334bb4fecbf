"""The verifier knows a legal stream, and each way to break one."""

import json
import subprocess
import sys
from typing import Any

import pytest

from assistant.api.verifier import IllegalStream, verify
from tests.processes import ROOT

START = {"type": "start", "message_id": "msg_1", "conversation_id": "conv_1", "agent_id": "default"}
TOKEN = {"type": "token", "content": "Well"}
CALL = {"type": "tool_call", "tool_call_id": "a", "name": "add", "parameters": {}}
RESULT = {"type": "tool_result", "tool_call_id": "a", "name": "add", "result": "2", "status": "completed"}
END: dict[str, Any] = {
    "type": "end",
    "message_id": "msg_1",
    "finish_reason": "stop",
    "usage": {},
    "processing_time": 0.1,
}
ERROR = {"type": "error", "message": "The model failed.", "code": 502, "retryable": True}


def stream(*events: dict[str, Any], first: int = 1) -> bytes:
    frames = (f"id: {number}\ndata: {json.dumps(event)}\n\n" for number, event in enumerate(events, first))
    return "".join(frames).encode()


@pytest.mark.parametrize(
    "events",
    [
        [START, END],
        [START, ERROR],
        [START, ERROR | {"retry_after": 3}],
        [START, TOKEN, TOKEN, END],
        [START, TOKEN, CALL, RESULT, CALL, RESULT, TOKEN, END],
        [START, CALL, CALL | {"tool_call_id": "b"}, RESULT | {"tool_call_id": "b"}, RESULT, END],
        [START, CALL, ERROR],
    ],
)
def test_a_legal_stream_is_returned_as_its_events(events: list[dict[str, Any]]) -> None:
    assert verify(b": keep-alive\n\n" + stream(*events), chunk_size=4) == events


@pytest.mark.parametrize("events", [[], [TOKEN, END], [RESULT, END], [ERROR]])
def test_a_resumed_stream_begins_anywhere(events: list[dict[str, Any]]) -> None:
    assert verify(stream(*events, first=6), after=5) == events


@pytest.mark.parametrize(
    ("events", "complaint"),
    [
        ([], "the stream was cut after event 0"),
        ([START], "the stream was cut after event 1"),
        ([START, TOKEN], "the stream was cut after event 2"),
        ([TOKEN, END], "event 1 is of type token"),
        ([END], "event 1 is of type end"),
        ([START, START, END], "event 2 is of type start"),
        ([START, END, END], "event 3 comes after the last one"),
        ([START, ERROR, END], "event 3 comes after the last one"),
        ([START, END, TOKEN], "event 3 comes after the last one"),
        ([START, RESULT, END], "event 2 answers a, which isn't open"),
        ([START, CALL, RESULT, RESULT, END], "event 4 answers a, which isn't open"),
        ([START, CALL, CALL, END], "event 3 calls a again"),
        ([START, CALL, RESULT | {"name": "sub"}, END], "event 3 answers a as sub"),
        ([START, TOKEN | {"content": ""}, END], "event 2 is an empty token"),
        ([START, TOKEN | {"content": "12345"}, END], "event 2 is a token of 5 characters"),
        ([START, {"type": "pause"}, END], "no event of type 'pause'"),
        ([START, {"content": "x"}, END], "no event of type None"),
        ([START, {"type": "token"}, END], "a token has the fields []"),
        ([START, TOKEN | {"x": 1}, END], "a token has the fields ['content', 'x']"),
        ([START, END | {"finish_reason": "tired"}], "finished as tired"),
        ([START, END | {"message_id": "msg_2"}], "start and end name different messages"),
    ],
)
def test_an_illegal_order_is_named(events: list[dict[str, Any]], complaint: str) -> None:
    with pytest.raises(IllegalStream) as caught:
        verify(stream(*events), chunk_size=4)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("numbers", [(2, 3), (1, 1), (1, 3), (1, 2, 2), (1, 3, 2)])
def test_a_gap_and_a_repeated_number_are_named(numbers: tuple[int, ...]) -> None:
    events = [START, *[TOKEN] * (len(numbers) - 2), END]
    broken = b"".join(stream(event, first=number) for number, event in zip(numbers, events, strict=True))
    with pytest.raises(IllegalStream, match="event"):
        verify(broken)


@pytest.mark.parametrize(
    "broken",
    [
        "id: 1\ndata: {}",
        "data: {}\n\n",
        "id: 1\n\n",
        "id: 1\nid: 1\ndata: {}\n\n",
        "id: 1\ndata: {}\ndata: {}\n\n",
        "id: 01\ndata: {}\n\n",
        "id: 1\r\ndata: {}\r\n\r\n",
        "event: token\nid: 1\ndata: {}\n\n",
        "id: 1\ndata: {\u2028}\n\n",
        ": comment\nid: 1\ndata: {}\n\n",
    ],
)
def test_a_frame_is_one_id_line_and_one_data_line_in_ascii(broken: str) -> None:
    with pytest.raises(IllegalStream):
        verify(broken.encode())


def test_clients_need_no_django_to_use_it() -> None:
    program = "import sys, assistant.api.verifier; sys.exit('django' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0
