"""The service with the Content-Security-Policy that its pages have to live under."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from tests.settings import *  # noqa: F403
from tests.settings import MIDDLEWARE

POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


def policy_middleware(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], HttpResponseBase]:
    def with_policy(request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = get_response(request)
        response.headers["Content-Security-Policy"] = POLICY
        return response

    return with_policy


MIDDLEWARE = ["tests.csp_settings.policy_middleware", *MIDDLEWARE]
