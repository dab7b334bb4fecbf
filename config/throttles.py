"""Rate limits of API keys, users and addresses, counted in Redis where it is used.

Redis counts in one script, so that simultaneous calls can't exceed a limit together, in any process. While Redis
doesn't respond, each process counts for itself, one call after the other.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from threading import Lock
from typing import Any, cast

from django.conf import settings
from django.contrib.auth.forms import UsernameField
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from limits import RateLimitItem, parse_many
from limits.errors import StorageError
from limits.storage import MemoryStorage, storage_from_string
from limits.strategies import SlidingWindowCounterRateLimiter
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from assistant.conf import get_settings
from assistant.models import APIKey, Message
from assistant.signals import answer_ended
from wire.api.callers import caller_name
from wire.api.requests import client_address
from wire.once import once

logger = logging.getLogger(__name__)

# The longest time that a slow Redis may delay a call.
SOCKET_SECONDS = 1.0
# The storage of `limits` in a process's own memory fails, or counts too little, when two threads use it at once.
COUNTING = Lock()
# How often each address may try a name that was tried too often in all.
SLOW_LOGIN = "1/minute"
# The thread that counts tokens; at its end, the interpreter waits for it.
CHARGING = ThreadPoolExecutor(max_workers=1, thread_name_prefix="throttle")


@once
def own() -> SlidingWindowCounterRateLimiter:
    """Return the counts of this process."""
    return SlidingWindowCounterRateLimiter(MemoryStorage())


@once
def shared(url: str) -> SlidingWindowCounterRateLimiter:
    """Return the counts that all processes share."""
    scheme = "redis+" if url.startswith("unix:") else ""
    seconds = {"socket_timeout": SOCKET_SECONDS, "socket_connect_timeout": SOCKET_SECONDS}
    storage: Any = storage_from_string(f"{scheme}{url}", key_prefix="throttle", wrap_exceptions=True, **seconds)
    return SlidingWindowCounterRateLimiter(storage)


def counted(ask: Callable[[SlidingWindowCounterRateLimiter], float | None]) -> float | None:
    """Use the shared counts, or this process's own while Redis can't be reached."""
    if redis_url := get_settings().REDIS_URL:
        try:
            return ask(shared(redis_url))
        except StorageError:
            logger.exception("throttle=shared state=unreachable")
    with COUNTING:
        return ask(own())


def wait(limits: str, *who: str) -> float | None:
    """Count a call; return None if it is within all limits (`600/minute; 5000/hour`), otherwise the seconds to wait."""
    return counted(lambda limiter: hit(limiter, parse_many(limits), who)) if limits else None


def hit(limiter: SlidingWindowCounterRateLimiter, items: list[RateLimitItem], who: tuple[str, ...]) -> float | None:
    for item in items:
        if not limiter.hit(item, *who):
            return max(1.0, limiter.get_window_stats(item, *who).reset_time - time.time())
    return None


class Throttle(BaseThrottle):
    """Refuses calls over a limit. A subclass names the caller that it counts and the setting with the limit."""

    setting: str

    def who(self, request: Request) -> tuple[str, ...] | None:
        raise NotImplementedError

    def limits(self, request: Request) -> str:
        limits: str = getattr(settings, self.setting)
        return limits

    def allow_request(self, request: Request, view: Any) -> bool:
        who = self.who(request)
        self.seconds = wait(self.limits(request), *who) if who else None
        return self.seconds is None

    def wait(self) -> float | None:
        return self.seconds


class KeyThrottle(Throttle):
    """Limits the calls of each API key, by the key's own limit if it has one."""

    setting = "THROTTLE_KEY"

    def who(self, request: Request) -> tuple[str, ...] | None:
        return ("key", str(request.auth.pk)) if isinstance(request.auth, APIKey) else None

    def limits(self, request: Request) -> str:
        own = cast(APIKey, request.auth).requests_per_minute
        return f"{own}/minute" if own else super().limits(request)


class UserThrottle(Throttle):
    """Limits the calls of each user over all keys and sessions, and of each address without a user."""

    setting = "THROTTLE_USER"

    def who(self, request: Request) -> tuple[str, ...]:
        if request.user and request.user.is_authenticated:
            return "user", str(request.user.pk)
        return "address", client_address(request)


class TokenThrottle(BaseThrottle):
    """Refuses calls of views that cost tokens (`costs_tokens = True`) once the caller's or the key's are used up."""

    def allow_request(self, request: Request, view: Any) -> bool:
        self.seconds = None
        if request.method == "POST" and getattr(view, "costs_tokens", False):
            key = request.auth if isinstance(request.auth, APIKey) else None
            waits = [spent(*purse) for purse in purses(caller_name(request.user), key)]
            self.seconds = max((seconds for seconds in waits if seconds), default=None)
        return self.seconds is None

    def wait(self) -> float | None:
        return self.seconds


def purses(caller: str, key: APIKey | None) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the limits of an answer's tokens, each with the caller or key that it belongs to."""
    if settings.THROTTLE_TOKENS:
        yield settings.THROTTLE_TOKENS, ("tokens", caller)
    if key and key.tokens_per_minute:
        yield f"{key.tokens_per_minute}/minute", ("tokens of key", str(key.pk))


def spent(limits: str, who: tuple[str, ...]) -> float | None:
    """Return None if tokens are left, otherwise the seconds until there are."""
    items = parse_many(limits)
    return counted(lambda limiter: left(limiter.storage, items, who))


def left(storage: Any, items: list[RateLimitItem], who: tuple[str, ...]) -> float | None:
    over = [item.key_for(*who) for item in items if storage.get(item.key_for(*who)) >= item.amount]
    return max((max(1.0, storage.get_expiry(key) - time.time()) for key in over), default=None)


def spend(tokens: int, limits: str, who: tuple[str, ...]) -> None:
    """Count the tokens of an answer, even over the limit: their number is known only at its end."""
    for item in parse_many(limits):
        key, seconds = item.key_for(*who), item.get_expiry()
        counted(lambda limiter, key=key, seconds=seconds: limiter.storage.incr(key, seconds, tokens))  # type: ignore[misc]


@receiver(answer_ended)
def charge(message: Message, **kwargs: Any) -> None:
    """Count an answer's tokens in a thread: the event loop, which runs this, may not wait for Redis."""
    tokens = message.billed_usage.input_tokens + message.billed_usage.output_tokens
    for purse in purses(message.caller, message.api_key) if tokens else ():
        CHARGING.submit(spend, tokens, *purse)


def login_throttled(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Refuse a log-in that was tried too often from one address, or for one name.

    A name that strangers have tried too often still has an attempt a minute from each address, so that they can't lock
    its owner out.
    """

    def throttled(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.method == "POST" and (seconds := login_wait(request)):
            sentence = f"Too many attempts to log in. Try again in {math.ceil(seconds)} seconds."
            headers = {"Retry-After": str(math.ceil(seconds))}
            return HttpResponse(sentence, "text/plain", status=429, headers=headers)
        return view(request, *args, **kwargs)

    return throttled


def login_wait(request: HttpRequest) -> float | None:
    """Count an attempt to log in; return None where it may be made, else the seconds to wait."""
    address, name = client_address(cast(Request, request)), login_name(request)
    if seconds := wait(settings.THROTTLE_LOGIN, "login from", address):
        return seconds
    return wait(SLOW_LOGIN, "login as", name, address) if wait(settings.THROTTLE_LOGIN, "login as", name) else None


def login_name(request: HttpRequest) -> str:
    """Return what a name counts under: a digest, so that Redis holds no names.

    The name counts as Django looks it up, in any case: its form strips and normalizes what was typed.
    """
    name = UsernameField().to_python(request.POST.get("username", ""))
    return sha256(str(name).casefold().encode("utf-8", "replace")).hexdigest()
