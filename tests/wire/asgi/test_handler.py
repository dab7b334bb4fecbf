"""The handler for requests that are made inside the process."""

from typing import Any

from django.test import RequestFactory

from wire.asgi.handler import handler


def test_its_middlewares_are_made_anew_where_a_test_changes_a_setting(rf: RequestFactory, settings: Any) -> None:
    def status() -> int:
        return handler().get_response(rf.get("/none")).status_code

    assert status() == 404
    assert handler() is handler()
    settings.SECURE_SSL_REDIRECT = True
    assert status() == 301
    settings.SECURE_SSL_REDIRECT = False
    assert status() == 404
