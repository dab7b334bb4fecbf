"""Under the API's paths, errors of Django itself are JSON."""

from typing import Any

import pytest
from django.test import Client

pytestmark = pytest.mark.urls("tests.wire.api.api")


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
