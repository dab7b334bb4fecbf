"""What an item's own response becomes in the envelope."""

from typing import Any

import pytest

from tests.batching.conftest import Send, answer, answers, item

SECRET = "/srv/secret"


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("html", {"status": 200, "body": "<h1>Grüße</h1>"}),
        ("latin", {"status": 200, "body": "Grüße"}),
        ("miscoded", {"status": 200, "body": "//4=", "encoding": "base64"}),
        ("bytes", {"status": 200, "body": "iVBORwD/", "encoding": "base64"}),
        ("empty", {"status": 200, "body": None}),
        ("nothing", {"status": 204, "body": None}),
        ("unchanged", {"status": 304, "body": None, "headers": {"ETag": '"1"'}}),
        ("nan", {"status": 200, "body": '{"a": NaN}'}),
        ("huge", {"status": 200, "body": '{"a": 1e999}'}),
        ("long", {"status": 200, "body": {"a": 18446744073709551616}}),
        ("half", {"status": 200, "body": {"a": "\ud800 \x00"}}),
        ("broken", {"status": 200, "body": '{"a": '}),
        ("problem", {"status": 400, "error": "It is bad."}),
        ("fields", {"status": 400, "error": "The request can't be understood.", "details": {"name": ["Too long."]}}),
        ("house", {"status": 409, "error": "No.", "details": {"a": ["b"]}}),
        ("list", {"status": 400, "error": "The request can't be understood.", "details": ["No."]}),
        ("teapot", {"status": 418, "error": "I'm a Teapot."}),
        ("unheard", {"status": 499, "error": "Status 499."}),
        ("away", {"status": 302, "body": None, "headers": {"Location": "/api/echo"}}),
        ("later", {"status": 503, "headers": {"Retry-After": "7"}}),
        ("file", {"status": 406}),
        ("large", {"status": 200, "body": {"text": "x" * 100_000}}),
    ],
)
def test_a_response_becomes_an_answer(send: Send, what: str, expected: dict[str, Any]) -> None:
    given = answer(send, f"/api/answering/{what}")
    headers = {name: value for name, value in given.get("headers", {}).items() if name not in ("Content-Language",)}
    headers.pop("Content-Type", None)
    assert {**given, "headers": headers} | expected == {**given, "headers": headers}
    assert headers == expected.get("headers", {})
    assert ("body" in given) == (given["status"] < 400)
    assert ("error" in given) == (given["status"] >= 400)


def test_a_body_nested_too_deep_for_the_envelope_is_text(send: Send) -> None:
    body = answer(send, "/api/answering/deep")["body"]
    assert isinstance(body, str | list)


@pytest.mark.parametrize("what", ["html", "latin", "bytes", "broken"])
def test_what_is_no_json_says_what_it_is(send: Send, what: str) -> None:
    assert answer(send, f"/api/answering/{what}")["headers"]["Content-Type"]


@pytest.mark.parametrize("kind", ["raising", "raising-async"])
@pytest.mark.parametrize(
    ("how", "status"),
    [
        ("error", 500),
        ("exit", 500),
        ("interrupt", 500),
        ("cancelled", 500),
        ("missing", 404),
        ("forbidden", 403),
        ("none", 500),
    ],
)
def test_whatever_a_view_raises_ends_with_its_item(send: Send, kind: str, how: str, status: int) -> None:
    requests = [item("/api/echo", id="a"), item(f"/api/{kind}/{how}", id="b"), item("/api/echo", id="c")]
    first, second, third = answers(send("POST", "/api/batch", {"requests": requests}))
    assert (first["status"], second["status"], third["status"]) == (200, status, 200)
    assert SECRET not in str(second)
    assert send("GET", "/api/echo").status_code == 200


def test_a_broken_constraint_is_its_items_own(send: Send) -> None:
    requests = [item("/api/groups", "POST", id="a", body={"name": "a"}), item("/api/raising/twice", id="b")]
    assert [one["status"] for one in answers(send("POST", "/api/batch", {"requests": requests}))] == [201, 500]
    assert set(send("GET", "/api/groups").json()["names"]) == {"a", "twice"}


def test_each_item_has_a_transaction_of_its_own(send: Send, atomic: None) -> None:
    requests = [
        item("/api/groups", "POST", id="a", body={"name": "a"}),
        item("/api/groups", "POST", id="b", body={"name": "b", "fail": True}),
        item("/api/groups", "POST", id="c", body={"name": "c"}),
    ]
    assert [one["status"] for one in answers(send("POST", "/api/batch", {"requests": requests}))] == [201, 500, 201]
    assert set(send("GET", "/api/groups").json()["names"]) == {"a", "c"}


def test_a_transaction_that_a_view_never_leaves_ends_with_its_item(send: Send) -> None:
    requests = [item("/api/unfinished"), item("/api/groups", depends_on=["/api/unfinished"])]
    responses = answers(send("POST", "/api/batch", {"requests": requests}))
    assert responses[0]["status"] == 200
    assert responses[1]["body"] == {"names": []}
    assert send("GET", "/api/groups").json()["names"] == []


def test_a_view_that_exits_rolls_back(send: Send, atomic: None) -> None:
    assert answer(send, "/api/raising/twice")["status"] == 500
    assert send("GET", "/api/groups").json()["names"] == []


@pytest.mark.parametrize("path", ["/api/events", "/api/events-sync", "/api/lines", "/api/answering/file"])
def test_an_item_that_asks_for_a_stream_gets_406(send: Send, path: str) -> None:
    assert answer(send, path)["status"] == 406


def test_traces_of_one_item_stay_with_it(send: Send) -> None:
    around = [item(f"/api/around{kind}", id=f"{kind}{n}") for n in range(4) for kind in ("", "-async")]
    response = send("POST", "/api/batch", {"requests": [item("/api/marking", id="m"), *around]})
    assert response.cookies.keys() <= {"csrftoken"}
    marking, *rest = answers(response)
    assert "Set-Cookie" not in marking["headers"]
    assert {(one["body"]["language"], one["body"]["zone"]) for one in rest} == {("en", "America/Chicago")}
    assert response.get("Content-Language", "en") == "en"


def test_an_item_speaks_its_own_language(send: Send) -> None:
    requests = [item("/api/around", id=code, headers={"Accept-Language": code}) for code in ("de", "fr", "ja")]
    response = send("POST", "/api/batch", {"requests": requests}, headers={"accept-language": "es"})
    assert [one["body"]["language"] for one in answers(response)] == ["de", "fr", "ja"]
    assert response["Content-Language"] == "es"
