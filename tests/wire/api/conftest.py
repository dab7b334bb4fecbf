import pytest
from django.test import Client


@pytest.fixture
def client() -> Client:
    """A client of `tests.wire.api.api`; an error in a view is a response."""
    return Client(raise_request_exception=False)
