"""Each response has a request id."""

import pytest
from django.test import Client

pytestmark = pytest.mark.urls("tests.wire.api.api")


def test_each_response_has_a_request_id(client: Client) -> None:
    first, second = client.get("/api/nothing"), client.get("/api/nothing")
    assert len(first["X-Request-ID"]) == 32
    assert first["X-Request-ID"] != second["X-Request-ID"]


@pytest.mark.parametrize(("given", "kept"), [("abc-1.2:3", True), ("a b", False), ("é", False), ("x" * 129, False)])
def test_a_plain_request_id_is_the_callers_own(client: Client, given: str, kept: bool) -> None:
    assert (client.get("/api/nothing", headers={"x-request-id": given})["X-Request-ID"] == given) is kept
