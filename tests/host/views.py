"""The host project's own views: what an item can meet, good and bad."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.utils import timezone, translation
from django.views.decorators.csrf import csrf_exempt
from rest_framework.authentication import SessionAuthentication
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import APIView

from batching.api.throttles import OneByOne
from tests.host.authentication import KeyAuthentication

# What views did, for tests to look at.
seen: list[str] = []
HEADERS = (
    *("Accept", "Accept-Language", "Authorization", "Content-Type", "Cookie", "Host", "Idempotency-Key", "If-Match"),
    "X-Forwarded-For",
)


# Longer than the bounds of stored bodies, with names that look like those of credentials.
WHOLE = {
    "text": "x" * 1_200_000,
    "time_to_first_token": 0.21,
    "logprobs": {"content": [{"token": "Hi", "logprob": -0.1}]},
    "password": "t0psecret",
    "nested": '{"password": "t0psecret"}',
}


def described(request: HttpRequest, data: Any) -> dict[str, Any]:
    """Return all that a view can see of a request."""
    return {
        "method": request.method,
        "path": request.path,
        "uri": request.build_absolute_uri(),
        "query": {name: request.GET.getlist(name) for name in request.GET},
        "data": data,
        "headers": {name: request.headers.get(name) for name in HEADERS},
        "length": request.META.get("CONTENT_LENGTH") or "",
        "client": request.META.get("REMOTE_ADDR"),
        "secure": request.is_secure(),
        "user": str(getattr(request, "user", None)),
    }


class Echo(APIView):
    permission_classes = [AllowAny]

    def get(self, request: Request, **kwargs: Any) -> Response:
        return Response({**described(request._request, request.data), **kwargs})

    post = put = patch = delete = get


@csrf_exempt
def echo_plain(request: HttpRequest) -> JsonResponse:
    return JsonResponse(described(request, request.body.decode("utf-8", "replace")))


@csrf_exempt
async def echo_async(request: HttpRequest) -> JsonResponse:
    await asyncio.sleep(0)
    return JsonResponse(described(request, request.body.decode("utf-8", "replace")))


def protected(request: HttpRequest) -> JsonResponse:
    """A plain view behind CsrfViewMiddleware."""
    return JsonResponse({"user": str(request.user)})


class Private(APIView):
    authentication_classes = [SessionAuthentication]
    permission_classes = [IsAuthenticated]

    def post(self, request: Request) -> Response:
        return Response({"user": request.user.username})

    get = post


def slow(request: HttpRequest) -> JsonResponse:
    name = request.GET.get("name", "slow")
    seen.append(f"{name} began")
    time.sleep(float(request.GET["seconds"]))
    seen.append(f"{name} ended")
    return JsonResponse({"name": name})


async def slow_async(request: HttpRequest) -> JsonResponse:
    name = request.GET.get("name", "slow_async")
    seen.append(f"{name} began")
    try:
        await asyncio.sleep(float(request.GET["seconds"]))
    except asyncio.CancelledError:
        seen.append(f"{name} cancelled")
        raise
    seen.append(f"{name} ended")
    return JsonResponse({"name": name})


async def stubborn(request: HttpRequest) -> JsonResponse:
    """Don't end when told to."""
    until = time.monotonic() + float(request.GET["seconds"])
    while time.monotonic() < until:
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            seen.append("stubborn was told")
    return JsonResponse({})


def raising(request: HttpRequest, how: str) -> Any:
    match how:
        case "error":
            raise RuntimeError("/srv/secret/key")
        case "exit":
            sys.exit(3)
        case "interrupt":
            raise KeyboardInterrupt
        case "cancelled":
            raise asyncio.CancelledError
        case "missing":
            raise Http404("/srv/secret/key")
        case "forbidden":
            raise PermissionDenied("/srv/secret/key")
        case "twice":
            Group.objects.create(name="twice")
            Group.objects.create(name="twice")
    return None


async def raising_async(request: HttpRequest, how: str) -> Any:
    return raising(request, how) if how != "twice" else None


def answering(request: HttpRequest, what: str) -> HttpResponse:
    """Answer with all kinds of content."""
    made: dict[str, Any] = {
        "html": lambda: HttpResponse("<h1>Grüße</h1>"),
        "latin": lambda: HttpResponse("Grüße".encode("latin-1"), content_type="text/plain; charset=latin-1"),
        "miscoded": lambda: HttpResponse(b"\xff\xfe", content_type="text/plain; charset=utf-8"),
        "bytes": lambda: HttpResponse(b"\x89PNG\x00\xff", content_type="image/png"),
        "empty": HttpResponse,
        "nothing": lambda: HttpResponse(status=204),
        "unchanged": lambda: HttpResponse(status=304, headers={"ETag": '"1"'}),
        "nan": lambda: HttpResponse('{"a": NaN}', content_type="application/json"),
        "huge": lambda: HttpResponse('{"a": 1e999}', content_type="application/json"),
        "long": lambda: HttpResponse('{"a": 18446744073709551616}', content_type="application/json"),
        "half": lambda: HttpResponse('{"a": "\\ud800 \\u0000"}', content_type="application/json"),
        "deep": lambda: HttpResponse("[" * 5000 + "]" * 5000, content_type="application/json"),
        "nested": lambda: HttpResponse('{"a":' * 490 + "1" + "}" * 490, content_type="application/json"),
        "broken": lambda: HttpResponse('{"a": ', content_type="application/json"),
        "problem": lambda: JsonResponse(
            {"title": "Bad", "detail": "It is bad."}, status=400, content_type="application/problem+json"
        ),
        "fields": lambda: JsonResponse({"name": ["Too long."]}, status=400),
        "house": lambda: JsonResponse({"error": "No.", "code": 409, "details": {"a": ["b"]}}, status=409),
        "list": lambda: JsonResponse(["No."], status=400, safe=False),
        "teapot": lambda: HttpResponse(status=418),
        "unheard": lambda: HttpResponse(status=499),
        "away": lambda: HttpResponseRedirect("/api/echo"),
        "later": lambda: HttpResponse(status=503, headers={"Retry-After": "7", "X-Powered-By": "secret"}),
        "file": lambda: FileResponse(open(__file__, "rb"), filename="views.py"),  # noqa: SIM115  # the response closes it
        "secrets": lambda: JsonResponse({"token": "t0psecret", "usage": {"input_tokens": 3}, "a": [{"api_key": "k"}]}),
        "whole": lambda: JsonResponse(WHOLE, headers={"Location": "/api/x?token=t0psecret"}),
        "large": lambda: JsonResponse({"text": "x" * 100_000}),
    }
    response: HttpResponse = made[what]()
    return response


def marking(request: HttpRequest) -> JsonResponse:
    """Leave traces: cookies, a session, a language, a time zone."""
    translation.activate("de")
    timezone.activate("Asia/Tokyo")
    request.session["mark"] = 1
    response = JsonResponse({})
    response.set_cookie("mark", "1")
    return response


def around(request: HttpRequest) -> JsonResponse:
    """Tell what a view finds around it."""
    return JsonResponse({"language": translation.get_language(), "zone": timezone.get_current_timezone_name()})


async def around_async(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"language": translation.get_language(), "zone": timezone.get_current_timezone_name()})


def unfinished(request: HttpRequest) -> HttpResponse:
    """Write in a transaction that it never leaves."""
    transaction.atomic().__enter__()
    Group.objects.create(name="unfinished")
    return JsonResponse({})


class Groups(APIView):
    """Write to the database; with `fail`, after that something breaks."""

    permission_classes = [AllowAny]

    def post(self, request: Request) -> Response:
        group = Group.objects.create(name=request.data["name"])
        if "fail" in request.data:
            raise RuntimeError("after the write")
        return Response({"id": group.pk}, status=201, headers={"Location": f"/api/groups/{group.pk}"})

    def get(self, request: Request) -> Response:
        return Response({"names": list(Group.objects.order_by("pk").values_list("name", flat=True))})


class ThreeAMinute(OneByOne, SimpleRateThrottle):
    scope = "host"
    rate = "3/min"

    def get_cache_key(self, request: Request, view: Any) -> str:
        return "host"


class Throttled(APIView):
    permission_classes = [AllowAny]
    throttle_classes = [ThreeAMinute]

    def get(self, request: Request) -> Response:
        return Response({})


def events(request: HttpRequest) -> StreamingHttpResponse:
    """Stream events, as chat does; `count` of them, `error` at the end if asked."""
    count = int(request.GET.get("count", 3))
    last = {"type": "error", "message": "It broke.", "code": 502} if "error" in request.GET else {"type": "end"}

    async def parts() -> AsyncIterator[str]:
        seen.append("stream began")
        try:
            for number in range(count):
                await asyncio.sleep(float(request.GET.get("pause", 0)))
                yield f'id: {number}\ndata: {{"type": "token", "content": "{number}"}}\n\n'
            yield f"data: {json.dumps(last)}\n\n"
        finally:
            seen.append("stream ended")

    return StreamingHttpResponse(parts(), content_type="text/event-stream")


def events_sync(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[str]:
        yield 'data: {"type": "token",\r\ndata: "content": "a"}\r\n\r\n'
        yield ': nothing\n\ndata: {"ty'
        yield 'pe": "end"}\n\n'

    return StreamingHttpResponse(parts(), content_type="text/event-stream")


def lines(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(iter([b"a\n", b"b\n"]), content_type="text/plain")


class Keyed(Private):
    """For those who have a key, and nobody else."""

    authentication_classes = [KeyAuthentication]


class Either(Private):
    authentication_classes = [KeyAuthentication, SessionAuthentication]


@csrf_exempt
def whoami(request: HttpRequest) -> JsonResponse:
    """A plain view that anybody may call."""
    return JsonResponse({"user": str(request.user)})


def all_headers(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"headers": dict(request.headers)})


@csrf_exempt
def failing(request: HttpRequest, status: int) -> HttpResponse:
    seen.append(request.path)
    return HttpResponse(status=status)


def failing_once(request: HttpRequest) -> HttpResponse:
    seen.append("failing once")
    return JsonResponse({}, status=503 if seen.count("failing once") == 1 else 200)


@csrf_exempt
def noting(request: HttpRequest) -> JsonResponse:
    """Note the call down outside the database, and take some time."""
    with open(os.environ["LEDGER"], "a") as ledger:
        ledger.write(f"{request.headers['Idempotency-Key']}\n")
    time.sleep(float(request.GET["seconds"]))
    return JsonResponse({})


def burning(request: HttpRequest) -> JsonResponse:
    """Keep the processor busy."""
    until = time.thread_time() + float(request.GET["seconds"])
    while time.thread_time() < until:
        pass
    return JsonResponse({})
