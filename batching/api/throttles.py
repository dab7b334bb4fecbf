"""A throttle of DRF's that holds for requests that come at once, as a batch's items do."""

from threading import Lock
from typing import Any

from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

__all__ = ["OneByOne"]


class OneByOne(BaseThrottle):
    """Stands before a throttle of DRF's, and has it count this process's requests one after the other.

    Alone it reads its list of requests, adds one and writes it back, and requests at once can pass a limit together:
    https://www.django-rest-framework.org/api-guide/throttling/#a-note-on-concurrency.
    """

    counting = Lock()

    def allow_request(self, request: Request, view: Any) -> bool:
        with self.counting:
            return super().allow_request(request, view)
