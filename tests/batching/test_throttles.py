"""Throttles of DRF's, beside requests that come at once."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, BrokenBarrierError
from typing import Any

import pytest
from django.core.cache.backends.locmem import LocMemCache
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory
from rest_framework.throttling import SimpleRateThrottle

from batching.api.throttles import OneByOne

CALLERS = 8


class Meeting(LocMemCache):
    """A cache whose readers wait for each other, so that none writes before all have read."""

    def __init__(self, seconds: float) -> None:
        super().__init__(str(seconds), {})
        self.everybody = Barrier(CALLERS, timeout=seconds)

    def get(self, *args: Any, **kwargs: Any) -> Any:
        found = super().get(*args, **kwargs)
        with suppress(BrokenBarrierError):
            self.everybody.wait()
        return found


class Three(SimpleRateThrottle):
    rate = "3/min"

    def get_cache_key(self, request: Request, view: Any) -> str:
        return "host"


class ThreeOneByOne(OneByOne, Three):
    pass


@pytest.mark.parametrize(("throttle", "seconds", "passed"), [(Three, 60, CALLERS), (ThreeOneByOne, 0.1, 3)])
def test_requests_at_once_pass_a_limit_together_unless_counted_one_by_one(
    throttle: type[Three], seconds: float, passed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Three, "cache", Meeting(seconds))
    request = Request(APIRequestFactory().get("/"))
    with ThreadPoolExecutor(CALLERS) as threads:
        allowed = list(threads.map(lambda _: throttle().allow_request(request, None), range(CALLERS)))
    assert allowed.count(True) == passed
