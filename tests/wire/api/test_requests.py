"""The client's address."""

from typing import Any

import pytest
from rest_framework.request import Request

from wire.api.requests import client_address


@pytest.mark.parametrize(("proxies", "address"), [(None, "192.0.2.1"), (0, "192.0.2.1"), (1, "c"), (2, "b"), (9, "a")])
def test_an_address_is_believed_as_far_as_there_are_proxies(
    settings: Any, rf: Any, proxies: int | None, address: str
) -> None:
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": proxies}
    request = rf.get("/", REMOTE_ADDR="192.0.2.1", headers={"x-forwarded-for": "a, b, c"})
    assert client_address(Request(request)) == address
