"""A server's errors as ours."""

import time
from email.utils import formatdate
from typing import Any

import orjson
import pytest

from assistant import errors
from assistant.providers.upstream_error import UpstreamError, parse_retry_after


def received(status: int, body: Any = b"", **headers: str) -> UpstreamError:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return UpstreamError.of_response(status, fields, content)


TOO_LONG = [
    {"error": {"code": "context_length_exceeded", "message": "no"}},
    {"error": {"type": "exceed_context_size_error", "message": "no", "code": 400}},
    {"error": {"message": "This model's maximum context length is 4096 tokens."}},
    {"object": "error", "message": "the request exceeds the available context size"},
    {"error": "prompt is longer than the context window"},
]


@pytest.mark.parametrize("body", TOO_LONG)
def test_each_servers_words_for_too_long_are_known(body: dict[str, Any]) -> None:
    assert isinstance(received(400, body).as_error(), errors.ContextTooLong)


@pytest.mark.parametrize(
    ("status", "error", "code", "retryable"),
    [
        (400, errors.ModelError, 502, False),
        (422, errors.ModelError, 502, False),
        (401, errors.ModelRefusedCredentials, 502, False),
        (403, errors.ModelRefusedCredentials, 502, False),
        (404, errors.ModelNotFound, 502, False),
        (302, errors.ModelError, 502, False),
        (429, errors.ModelBusy, 503, True),
        (500, errors.ModelError, 502, True),
        (503, errors.ModelError, 502, True),
        (529, errors.ModelError, 502, True),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>no</html>", b'{"error": "no"}', b'{"error": {}}', b"[]", b"\xff"])
def test_each_status_is_one_error(
    status: int, error: type[errors.ModelError], code: int, retryable: bool, body: bytes
) -> None:
    ours = received(status, body).as_error()
    assert type(ours) is error
    assert (ours.status, ours.retryable) == (code, retryable)


def test_busy_says_when_to_come_back() -> None:
    assert received(429, Retry_After="7").as_error().retry_after == 7
    assert received(503, Retry_After="7").as_error().retry_after == 7
    assert received(429).as_error().retry_after == errors.ModelBusy.retry_after


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("7", 7),
        ("0", 1),
        ("-5", 1),
        ("1.6", 2),
        ("99999", 3600),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("1e999", None),
    ],
)
def test_a_wait_is_within_an_hour(header: str, expected: int | None) -> None:
    assert parse_retry_after(header) == expected


def test_a_wait_may_be_a_date() -> None:
    assert parse_retry_after(formatdate(time.time() + 60, usegmt=True)) in range(58, 61)
    assert parse_retry_after(formatdate(time.time() - 60, usegmt=True)) == 1


def test_an_error_inside_a_stream_has_the_status_it_names() -> None:
    assert UpstreamError.of_event({"code": 429, "message": "slow down"}).status == 429
    assert UpstreamError.of_event({"code": "server_error"}).status == 502
    assert UpstreamError.of_event("no").status == 502


def test_the_log_has_neither_keys_nor_texts() -> None:
    error = received(400, {"error": {"message": "Bad key sk-123456789 for 'tell me a secret'", "code": "bad"}})
    assert error.excerpt(["sk-123456789", "tell me a secret", ""]) == "bad Bad key *** for '***'"


def test_the_log_has_the_beginning_only() -> None:
    assert len(received(500, b"x" * 10_000).excerpt([])) == 300


def test_the_caller_is_never_told_the_servers_words() -> None:
    for status in (400, 401, 404, 429, 500, 503):
        assert "secret" not in received(status, {"error": {"message": "secret"}}).as_error().message
