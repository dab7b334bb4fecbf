"""A four-line API behind the service's middleware and DRF settings."""

import json
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import InterfaceError, OperationalError, ProgrammingError
from django.http import Http404, HttpRequest, HttpResponse
from django.test import Client
from django.urls import path
from rest_framework import serializers
from rest_framework.exceptions import Throttled
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from assistant.api.fields import StrictBooleanField, StrictCharField
from wire.api.requests import client_address
from wire.errors import WireError

SECRET = "/srv/secret/key"
RAISED: dict[str, Exception] = {
    "crash": RuntimeError(SECRET),
    "wire": WireError("It is full.", details={"box": ["No room."]}, retry_after=3),
    "missing": Http404(SECRET),
    "forbidden": PermissionDenied(SECRET),
    "throttled": Throttled(wait=1.2),
    "unreachable": OperationalError(SECRET),
    "lost": InterfaceError(SECRET),
    "mistaken": ProgrammingError(SECRET),
    "suspicious": SuspiciousOperation(SECRET),
}


class Echo(APIView):
    permission_classes = [AllowAny]

    def post(self, request: Request) -> Response:
        return Response(request.data)

    def get(self, request: Request) -> Response:
        raise RAISED[request.query_params["raise"]]


class Body(serializers.Serializer[Any]):
    text = StrictCharField()
    flag = StrictBooleanField(required=False)
    inner = serializers.ListField(child=serializers.DictField(child=StrictCharField()), required=False)


class Checked(APIView):
    permission_classes = [AllowAny]

    def post(self, request: Request) -> Response:
        body = Body(data=request.data)
        body.is_valid(raise_exception=True)
        return Response(body.validated_data)


def plain(request: HttpRequest) -> HttpResponse:
    raise RuntimeError(SECRET)


urlpatterns = [
    path("api/echo", Echo.as_view()),
    path("api/checked", Checked.as_view()),
    path("api/plain", plain),
    path("page", plain),
]

pytestmark = pytest.mark.urls(__name__)


@pytest.fixture
def client() -> Client:
    return Client(raise_request_exception=False)


def post(client: Client, where: str, body: str | bytes, content_type: str = "application/json") -> Any:
    data = body.encode() if isinstance(body, str) else body
    return client.generic("POST", where, data, content_type=content_type)


@pytest.mark.parametrize(
    ("what", "status", "error"),
    [
        ("crash", 500, "Something went wrong in the service."),
        ("wire", 500, "It is full."),
        ("missing", 404, "Not found."),
        ("forbidden", 403, "You may not do this."),
        ("throttled", 429, "Request was throttled. Expected available in 2 seconds."),
        ("suspicious", 400, "The request can't be understood."),
        ("unreachable", 503, "The database can't be reached right now."),
        ("lost", 503, "The database can't be reached right now."),
        ("mistaken", 500, "Something went wrong in the service."),
    ],
)
def test_every_error_has_one_shape_and_tells_no_secret(client: Client, what: str, status: int, error: str) -> None:
    response = client.get("/api/echo", {"raise": what})
    assert response.status_code == status
    assert response.json() | {"details": None} == {"error": error, "code": status, "details": None}
    assert SECRET not in response.content.decode()


def test_an_error_says_when_to_come_back(client: Client) -> None:
    assert client.get("/api/echo", {"raise": "wire"})["Retry-After"] == "3"
    assert client.get("/api/echo", {"raise": "throttled"})["Retry-After"] == "2"
    assert client.get("/api/echo", {"raise": "unreachable"})["Retry-After"] == "5"


@pytest.mark.parametrize("debug", [True, False])
def test_what_django_itself_answers_under_the_api_is_json(client: Client, settings: Any, debug: bool) -> None:
    settings.DEBUG = debug
    assert client.get("/api/nothing").json() == {"error": "Not found.", "code": 404}
    assert client.put("/api/echo").json()["code"] == 405
    assert client.put("/api/echo")["Allow"] == "GET, POST, HEAD, OPTIONS"
    assert client.get("/api/plain").json() == {"error": "Something went wrong in the service.", "code": 500}
    assert client.get("/api/echo", headers={"host": "evil.example"}).json()["code"] == 400


def test_a_page_outside_the_api_stays_a_page(client: Client) -> None:
    assert client.get("/page")["Content-Type"].startswith("text/html")


def test_json_is_the_answer_whatever_is_accepted(client: Client) -> None:
    for accept in ("text/event-stream", "text/html", "image/png", "nonsense"):
        response = client.get("/api/echo", {"raise": "wire"}, headers={"accept": accept})
        assert response["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{}", "application/json", 200),
        (b"{}", "application/json; charset=utf-8", 200),
        (b"{}", 'application/json; charset="UTF-8"', 200),
        ("{}".encode("utf-16"), "application/json; charset=utf-16", 415),
        (b"{}", "text/plain", 415),
        (b"a=1", "application/x-www-form-urlencoded", 415),
        (b"{}", "multipart/form-data; boundary=x", 415),
        (b"{}", "", 415),
        (b"1e999", "application/json", 400),
        (b'{"a": 1, "a": 1}', "application/json", 400),
    ],
)
def test_a_body_is_json_in_utf_8(client: Client, body: bytes, content_type: str, status: int) -> None:
    response = post(client, "/api/echo", body, content_type)
    assert response.status_code == status
    assert status == 200 or response.json()["code"] == status


def test_a_body_over_the_limit_is_refused(client: Client, settings: Any) -> None:
    settings.BODY_MAX_BYTES = 10
    assert post(client, "/api/echo", b'"23456789"').status_code == 200
    response = post(client, "/api/echo", b'"234567890"')
    assert (response.status_code, response.json()["error"]) == (413, "The body is larger than 10 bytes.")


@pytest.mark.parametrize("body", [{"text": 1}, {"text": True}, {"text": None}, {"text": []}, {"text": ""}, {}])
def test_only_a_string_is_a_string(client: Client, body: Any) -> None:
    response = post(client, "/api/checked", json.dumps(body))
    assert response.status_code == 400
    assert list(response.json()["details"]) == ["text"]


@pytest.mark.parametrize("flag", ["true", "yes", 1, 0, "", None, []])
def test_only_true_and_false_are_booleans(client: Client, flag: Any) -> None:
    response = post(client, "/api/checked", json.dumps({"text": "a", "flag": flag}))
    assert (response.status_code, list(response.json()["details"])) == (400, ["flag"])


def test_a_string_is_kept_to_the_letter(client: Client) -> None:
    assert post(client, "/api/checked", b'{"text": " a\\n"}').json() == {"text": " a\n"}


def test_details_name_the_inner_field(client: Client) -> None:
    response = post(client, "/api/checked", b'{"text": "a", "inner": [{"b": "c"}, {"d": 1}]}')
    assert response.json() == {
        "error": "inner.1.d: Not a valid string.",
        "code": 400,
        "details": {"inner.1.d": ["Not a valid string."]},
    }


def test_each_response_has_a_request_id(client: Client) -> None:
    first, second = client.get("/api/nothing"), client.get("/api/nothing")
    assert len(first["X-Request-ID"]) == 32
    assert first["X-Request-ID"] != second["X-Request-ID"]


@pytest.mark.parametrize(("given", "kept"), [("abc-1.2:3", True), ("a b", False), ("é", False), ("x" * 129, False)])
def test_a_plain_request_id_is_the_callers_own(client: Client, given: str, kept: bool) -> None:
    assert (client.get("/api/nothing", headers={"x-request-id": given})["X-Request-ID"] == given) is kept


@pytest.mark.parametrize(("proxies", "address"), [(None, "192.0.2.1"), (0, "192.0.2.1"), (1, "c"), (2, "b"), (9, "a")])
def test_an_address_is_believed_as_far_as_there_are_proxies(
    settings: Any, rf: Any, proxies: int | None, address: str
) -> None:
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": proxies}
    request = rf.get("/", REMOTE_ADDR="192.0.2.1", headers={"x-forwarded-for": "a, b, c"})
    assert client_address(Request(request)) == address
