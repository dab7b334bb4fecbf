"""A view sends JSON for any `Accept`."""

import pytest
from django.test import Client

pytestmark = pytest.mark.urls("tests.wire.api.api")


def test_json_is_the_answer_whatever_is_accepted(client: Client) -> None:
    for accept in ("text/event-stream", "text/html", "image/png", "nonsense"):
        response = client.get("/api/echo", {"raise": "wire"}, headers={"accept": accept})
        assert response["Content-Type"] == "application/json"
