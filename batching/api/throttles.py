"""Makes a DRF throttle exact for concurrent requests, such as the items of a batch."""

from threading import Lock
from typing import Any

from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

__all__ = ["OneByOne"]


class OneByOne(BaseThrottle):
    """Mixin before a DRF throttle: counts this process's requests one after another.

    Alone, a throttle reads its list of requests, adds one and writes it back, so that concurrent requests can exceed
    a limit:
    https://www.django-rest-framework.org/api-guide/throttling/#a-note-on-concurrency.
    """

    counting = Lock()

    def allow_request(self, request: Request, view: Any) -> bool:
        with self.counting:
            return super().allow_request(request, view)
