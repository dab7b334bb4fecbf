"""What a batch is, and what is refused, as docs and contract say."""

import json
from typing import Any

import pytest
from django.test import Client

from batching.models import Batch, BatchItem
from tests.batching.conftest import Send, answer, answers, item
from tests.host import views


def test_the_seeds_request_works_to_the_letter(send: Send) -> None:
    response = send(
        "POST",
        "/api/batch",
        {
            "requests": [
                {"id": "req_1", "method": "POST", "path": "/api/echo", "body": {"message": "What is Python?"}},
                {"id": "req_2", "method": "POST", "path": "/api/answering/house", "body": {}},
            ]
        },
    )
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"
    body = response.json()
    first, second = body["responses"]
    assert first["body"]["data"] == {"message": "What is Python?"}
    assert (first["id"], first["status"]) == ("req_1", 200)
    assert (second["id"], second["status"]) == ("req_2", 403)
    assert body["batch_id"].startswith("batch_")
    assert body["counts"] == {"total": 2, "succeeded": 1, "failed": 1}
    assert 0 < first["processing_time"] < body["total_processing_time"] < 5


def test_answers_come_in_the_order_of_the_requests(send: Send) -> None:
    requests = [item(f"/api/slow?seconds={0.05 * (3 - n)}&name={n}", id=str(n)) for n in range(3)]
    assert [
        (one["id"], one["body"]["name"]) for one in answers(send("POST", "/api/batch", {"requests": requests}))
    ] == [
        ("0", "0"),
        ("1", "1"),
        ("2", "2"),
    ]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ([], "The body has to be a JSON object."),
        ("x", "The body has to be a JSON object."),
        (None, "The body has to be a JSON object."),
        ({}, "at least one item"),
        ({"requests": []}, "at least one item"),
        ({"requests": {}}, "at least one item"),
        ({"requests": "x"}, "at least one item"),
        (
            {"requests": [item("/api/echo", id=str(n)) for n in range(11)]},
            "A batch may have 10 items; this one has 11.",
        ),
        ({"requests": [item("/api/echo", id="a"), item("/api/echo", id="a")]}, "Two items have the id a."),
        ({"requests": [item("/api/echo", id="a", depends_on=["b"])]}, "Item a depends on b, which isn't in the batch."),
        ({"requests": [item("/api/echo", id="a", depends_on=["a"])]}, "Item a depends on itself."),
        (
            {"requests": [item("/api/echo", id="a", body="{{b.body}}")]},
            "Item a depends on b, which isn't in the batch.",
        ),
        (
            {
                "requests": [
                    item("/api/echo", id="a", depends_on=["b"]),
                    item("/api/echo/{{a.body.x}}", id="b"),
                    item("/api/slow?seconds=0", id="c"),
                ]
            },
            "depend on each other in a circle",
        ),
        ({"requests": [item("/api/echo")], "stream": True}, "stream: This field isn't known."),
    ],
)
def test_a_bad_batch_is_refused_before_anything_runs(send: Send, body: Any, error: str) -> None:
    response = send("POST", "/api/batch", json.dumps(body))
    assert response.status_code == 400
    assert error in response.json()["error"]
    assert response.json()["code"] == 400
    assert views.seen == []
    assert not Batch.objects.exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"requests": [NaN]}',
        '{"requests": [1e999]}',
        '{"requests": [], "requests": []}',
        '{"requests": ["\\ud800"]}',
        '{"requests": ["\\u0000"]}',
        "[" * 5000,
    ],
)
def test_what_is_no_strict_json_is_refused(send: Send, text: str) -> None:
    assert send("POST", "/api/batch", text).status_code == 400


def test_a_body_over_the_limit_is_refused(send: Send, settings: Any) -> None:
    settings.BATCH_MAX_BYTES = 200
    body = {"requests": [item("/api/echo", "POST", body="")]}
    room = 200 - len(json.dumps(body))
    body["requests"][0]["body"] = "x" * room
    assert send("POST", "/api/batch", body).status_code == 200
    body["requests"][0]["body"] += "x"
    response = send("POST", "/api/batch", body)
    assert (response.status_code, response.json()["error"]) == (413, "The body is larger than 200 bytes.")


@pytest.mark.parametrize("accept", ["application/json", "text/html", "*/*", "nonsense"])
def test_other_content_types_are_refused(send: Send, accept: str) -> None:
    response = send("POST", "/api/batch", "a=1", content_type="text/plain", headers={"accept": accept})
    assert response.status_code == 415


def test_a_batch_can_be_switched_off(send: Send, settings: Any) -> None:
    settings.BATCH_ENABLED = False
    response = send("POST", "/api/batch", {"requests": [item("/api/echo")]})
    assert response.status_code == 403
    assert "BATCH_ENABLED=false" in response.json()["error"]


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        (5, "An item has to be a JSON object."),
        (None, "An item has to be a JSON object."),
        ([], "An item has to be a JSON object."),
        ({"method": "GET", "path": "/api/echo"}, "id: "),
        ({"id": 5, "method": "GET", "path": "/api/echo"}, "id: "),
        ({"id": "", "method": "GET", "path": "/api/echo"}, "id: "),
        ({"id": "x" * 256, "method": "GET", "path": "/api/echo"}, "id: "),
        ({"id": "x", "path": "/api/echo"}, "method: "),
        (item("/api/echo", "HEAD", id="x"), "method: "),
        (item("/api/echo", "OPTIONS", id="x"), "method: "),
        (item("/api/echo", "TRACE", id="x"), "method: "),
        (item("/api/echo", "GET\r\nX: y", id="x"), "method: "),
        ({"id": "x", "method": 1, "path": "/api/echo"}, "method: "),
        ({"id": "x", "method": "GET"}, "path: "),
        (item("http://evil/api/echo", id="x"), "path: "),
        (item("//evil/api/echo", id="x"), "path: "),
        (item("/other/echo", id="x"), "path: "),
        (item("/api/../other/echo", id="x"), "path: "),
        (item("/api/%2e%2e/other/echo", id="x"), "path: "),
        (item("/api/{{x.body}}/../y", id="x"), "path: "),
        (item("/api/echo", id="x", headers=[]), "headers: "),
        (item("/api/echo", id="x", headers={"Authorization": "Bearer x"}), "headers: "),
        (item("/api/echo", id="x", headers={"Cookie": "a=b"}), "headers: "),
        (item("/api/echo", id="x", headers={"Host": "evil"}), "headers: "),
        (item("/api/echo", id="x", headers={"X-Forwarded-For": "1.2.3.4"}), "headers: "),
        (item("/api/echo", id="x", headers={"X_Forwarded_For": "1.2.3.4"}), "headers: "),
        (item("/api/echo", id="x", headers={"Content-Length": "5"}), "headers: "),
        (item("/api/echo", id="x", headers={"X-CSRFToken": "5"}), "headers: "),
        (item("/api/echo", id="x", headers={"Accept": "a\r\nHost: evil"}), "headers: "),
        (item("/api/echo", id="x", headers={"Accept\r\nHost": "evil"}), "headers: "),
        (item("/api/echo", id="x", headers={"Accept": 5}), "headers: "),
        (item("/api/echo", id="x", headers={"Accept": "a", "accept": "b"}), "headers: "),
        (item("/api/echo", id="x", headers={"Accept": "\u20ac"}), "headers: "),
        (item("/api/echo", id="x", depends_on="a"), "depends_on: "),
        (item("/api/echo", id="x", depends_on=[5]), "depends_on: "),
        (item("/api/echo", id="x", dependson=[]), "dependson: This field isn't known."),
        (item("/api/echo", "POST", id="x", headers={"Content-Type": "text/plain"}, body={}), "body: "),
    ],
)
def test_a_broken_item_gets_its_own_400_in_its_own_place(send: Send, broken: Any, error: str) -> None:
    requests = [item("/api/echo", id="before"), broken, item("/api/echo", id="after", depends_on=["before"])]
    before, own, after = answers(send("POST", "/api/batch", {"requests": requests}))
    assert (before["id"], before["status"], after["id"], after["status"]) == ("before", 200, "after", 200)
    assert own["status"] == 400
    assert own["error"].startswith(error)
    assert own["id"] == (broken.get("id") if isinstance(broken, dict) else None)
    assert own["processing_time"] == 0
    assert BatchItem.objects.get(position=1).state == "failed"


def test_methods_may_be_written_small_as_in_fetch(send: Send) -> None:
    assert answer(send, "/api/echo", "post", body=1)["body"]["method"] == "POST"


@pytest.mark.parametrize(
    "path",
    [
        *("/api/batch", "/api/batch?stream=true", "/api/%62atch", "/api/batch/batch_1", "/api/again/batch"),
        "/api/again/b%61tch",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_batch_is_no_item_however_it_is_spelt(send: Send, path: str, method: str) -> None:
    given = answer(send, path, method, body={"requests": [item("/api/echo")]})
    assert given["status"] in (400, 405)
    assert given["status"] == 405 or given["error"] == "A batch can't be an item of a batch."
    assert Batch.objects.count() == 1


def test_a_translated_path_to_a_batch_is_no_item_either(send: Send, settings: Any) -> None:
    settings.BATCH_ALLOWED_PATHS = ["/"]
    assert answer(send, "/en/translated/batch", "POST", body={})["error"] == "A batch can't be an item of a batch."


def test_allowed_paths_are_the_projects_to_name(send: Send, settings: Any) -> None:
    settings.BATCH_ALLOWED_PATHS = ["/other"]
    assert answer(send, "/other/echo")["status"] == 200
    assert answer(send, "/api/echo")["error"] == "path: The path has to be under one of these: /other."


def test_a_projects_prefix_is_kept(committed: None) -> None:
    client = Client()
    for path in ("/sub/api/echo", "/api/echo"):
        response = client.post(
            "/api/batch", {"requests": [item(path)]}, content_type="application/json", SCRIPT_NAME="/sub"
        )
        assert answers(response)[0]["body"]["uri"] == "http://testserver/sub/api/echo"


@pytest.mark.parametrize(
    ("body", "content_type", "data"),
    [
        ({"a": 1}, None, {"a": 1}),
        ("text", None, "text"),
        (None, None, None),
        (False, "application/json", False),
        ([], "application/vnd.x+json", None),
        ("a=1&b=2", "application/x-www-form-urlencoded", {"a": "1", "b": "2"}),
    ],
)
def test_a_body_travels_as_its_content_type_says(send: Send, body: Any, content_type: str | None, data: Any) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    given = answer(send, "/api/echo", "POST", body=body, headers=headers)
    if content_type == "application/vnd.x+json":
        assert given["status"] == 415
        return
    assert given["body"]["data"] == data
    assert given["body"]["headers"]["Content-Type"] == (content_type or "application/json")


def test_an_item_without_a_body_has_none(send: Send) -> None:
    given = answer(send, "/api/echo-plain", "POST")["body"]
    assert (given["data"], given["length"], given["headers"]["Content-Type"]) == ("", "", None)


def test_an_item_may_set_some_headers(send: Send) -> None:
    headers = {"Accept": "application/json", "Accept-Language": "de", "if-match": '"1"', "X-Request-ID": "mine"}
    given = answer(send, "/api/echo", headers=headers)["body"]["headers"]
    assert (given["Accept"], given["Accept-Language"], given["If-Match"]) == ("application/json", "de", '"1"')


def test_what_belongs_to_the_caller_goes_along_and_what_belongs_to_the_call_does_not(send: Send) -> None:
    headers = {
        "authorization": "Token x",
        "x-forwarded-for": "9.9.9.9",
        "accept-language": "fr",
        "if-match": '"0"',
        "accept": "application/json",
    }
    response = send("POST", "/api/batch", {"requests": [item("/api/echo-plain")]}, headers=headers)
    given = answers(response)[0]["body"]
    assert given["headers"] == {
        "Accept": None,
        "Accept-Language": "fr",
        "Authorization": "Token x",
        "Content-Type": None,
        "Cookie": given["headers"]["Cookie"],
        "Host": given["headers"]["Host"],
        "Idempotency-Key": None,
        "If-Match": None,
        "X-Forwarded-For": "9.9.9.9",
    }
    assert given["uri"] == "http://testserver/api/echo-plain"
    assert given["client"] == "127.0.0.1"


def test_an_item_can_be_secure_as_its_batch_was(send: Send) -> None:
    response = send("POST", "/api/batch", {"requests": [item("/api/echo")]}, secure=True)
    assert answers(response)[0]["body"]["secure"] is True


def test_each_item_counts_against_the_callers_rate(send: Send) -> None:
    given = answers(send("POST", "/api/batch", {"requests": [item("/api/throttled", id=str(n)) for n in range(5)]}))
    assert sorted(one["status"] for one in given) == [200, 200, 200, 429, 429]
    assert {one["headers"]["Retry-After"] for one in given if one["status"] == 429} <= {"60", "59"}
    assert send("GET", "/api/throttled").status_code == 429
