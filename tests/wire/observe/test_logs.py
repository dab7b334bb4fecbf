"""Log lines as JSON."""

import json
import logging
import sys
from typing import Any

import pytest

from wire.observe.logs import JSONFormatter


def told(message: str, *args: Any, **fields: Any) -> dict[str, Any]:
    record = logging.LogRecord("mine", logging.INFO, "mine.py", 1, message, args, fields.pop("exc_info", None))
    vars(record).update(fields)
    line = JSONFormatter().format(record)
    assert "\n" not in line
    found: dict[str, Any] = json.loads(line)
    return found


def test_what_a_line_names_is_a_field_with_its_type() -> None:
    line = told("batch=%s state=done seconds=%.1f message=%s", "b", 1.25, "msg_1", request_id="r", message_id="-")
    assert {name: line[name] for name in ("level", "logger", "batch", "state", "seconds")} == {
        **{"level": "INFO", "logger": "mine", "batch": "b", "state": "done", "seconds": 1.25},
    }
    assert (line["message"], line["message_id"]) == ("batch=b state=done seconds=1.2 message=msg_1", "msg_1")
    assert (line["request_id"], "trace_id" in line) == ("r", False)


@pytest.mark.parametrize(("message", "args"), [("%s and x=%s", ("a", "b")), ("x=%(x)s", ({"x": 1},)), ("x=1", ())])
def test_a_line_that_names_nothing_or_not_all_is_its_text(message: str, args: tuple[Any, ...]) -> None:
    assert "x" not in told(message, *args)


def test_a_line_cannot_pretend_to_be_another() -> None:
    line = told("level=%s time=%s text=%s", "ERROR", "now", 'a\n{"level": "ERROR"}')
    assert (line["level"], line["time"][:2]) == ("INFO", "20")


def test_what_is_no_json_is_told_as_text() -> None:
    assert told("error=%s", ValueError("no"))["error"] == "no"


def test_a_traceback_is_there() -> None:
    try:
        raise ValueError("no")
    except ValueError:
        line = told("state=failed", exc_info=sys.exc_info())
    assert line["exception"].endswith("ValueError: no")


@pytest.mark.parametrize(
    ("said", "masked"),
    [
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("key sk_4711-x and sk-proj-9", "key sk_*** and sk-***"),
        ("redis://:hidden@host:6379/0", "redis://:***@host:6379/0"),
        ("postgres://ada:hid/den@host/name", "postgres://ada:***@host/name"),
        ("http://localhost:8000/a?b=task_1", "http://localhost:8000/a?b=task_1"),
    ],
)
def test_credentials_are_masked(said: str, masked: str) -> None:
    assert told("said=%s", said)["said"] == masked
