"""Django's middlewares without a thread do what Django's own do, and do it in the event loop."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import SyncToAsync
from django.contrib import messages
from django.contrib.auth import alogin
from django.contrib.auth.models import User
from django.db import connections
from django.http import HttpRequest, JsonResponse
from django.middleware.csrf import get_token
from django.middleware.security import SecurityMiddleware
from django.test import AsyncClient
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

# Django's names and where they are from; ours have the same last part.
DJANGOS = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
OURS = [f"wire.asgi.middleware.{name.rpartition('.')[2]}" for name in DJANGOS]


async def nothing(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"method": request.method})


def form(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"token": bool(get_token(request)), "said": request.POST.get("said")})


def count(request: HttpRequest) -> JsonResponse:
    request.session["count"] = request.session.get("count", 0) + 1
    return JsonResponse({"count": request.session["count"], "user": str(request.user)})


def forget(request: HttpRequest) -> JsonResponse:
    request.session.flush()
    return JsonResponse({})


def say(request: HttpRequest) -> JsonResponse:
    messages.info(request, "x" * int(request.GET["length"]))
    return JsonResponse({})


def hear(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"heard": [len(str(message)) for message in messages.get_messages(request)]})


async def log_in(request: HttpRequest) -> JsonResponse:
    await alogin(request, await User.objects.aget(username="ada"))
    return JsonResponse({"user": str(await request.auser())})


def fail(request: HttpRequest) -> JsonResponse:
    request.session["count"] = 100
    raise RuntimeError("no")


urlpatterns = [
    path("nothing", nothing),
    path("exempt", csrf_exempt(nothing)),
    path("form", form),
    path("count", count),
    path("forget", forget),
    path("say", say),
    path("hear", hear),
    path("log-in", log_in),
    path("fail", fail),
]


def failed(status: int) -> Callable[..., JsonResponse]:
    return lambda request, *args, **kwargs: JsonResponse({}, status=status)


# Django's own ask for a token, in a thread that nobody closes the connection of.
handler400, handler404, handler500 = failed(400), failed(404), failed(500)

FORM = {"content_type": "application/x-www-form-urlencoded"}
# Each with what the ones before it have left: cookies, a session, messages.
REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/nothing", {}),
    ("POST", "/nothing", {}),
    ("POST", "/exempt", {}),
    ("OPTIONS", "/nothing", {}),
    ("POST", "/form", {"data": b"said=a", **FORM}),
    ("GET", "/form", {}),
    ("POST", "/form", {"data": b"said=a", **FORM}),
    ("POST", "/form", {"data": b"said=a&csrfmiddlewaretoken={token}", **FORM}),
    ("POST", "/form", {"data": b"said=a", **FORM, "headers": {"x-csrftoken": "{token}"}}),
    (
        "POST",
        "/form",
        {"data": b"said=a", **FORM, "headers": {"x-csrftoken": "{token}", "origin": "http://evil.example"}},
    ),
    ("GET", "/count", {}),
    ("GET", "/count", {}),
    ("GET", "/fail", {}),
    ("GET", "/count", {}),
    ("GET", "/log-in", {}),
    ("GET", "/count", {}),
    ("GET", "/say?length=10", {}),
    ("GET", "/say?length=9000", {}),
    ("GET", "/hear", {}),
    ("GET", "/hear", {}),
    ("GET", "/forget", {}),
    ("GET", "/count", {}),
    ("GET", "/missing", {}),
    ("GET", "/nothing", {"headers": {"host": "elsewhere.example"}}),
    ("GET", "/nothing", {"headers": {"cookie": "sessionid=unknown; csrftoken=short"}}),
    ("GET", "/count", {"headers": {"cookie": "sessionid=unknown"}}),
]


@pytest.fixture(autouse=True)
def project(settings: Any, transactional_db: None) -> Iterator[None]:
    settings.ROOT_URLCONF = __name__
    settings.DEBUG = False  # its pages show the settings
    User.objects.create_user("ada")
    yield
    SyncToAsync.single_thread_executor.submit(connections.close_all).result(5)


async def told(client: AsyncClient, method: str, where: str, options: dict[str, Any]) -> Any:
    token = client.cookies["csrftoken"].value if "csrftoken" in client.cookies else ""
    options = {**options, "data": options.get("data", b"").replace(b"{token}", token.encode())}
    headers = {name: value.replace("{token}", token) for name, value in options.pop("headers", {}).items()}
    response: Any = await client.generic(method, where, **options, headers=headers)
    cookies = {name: (bool(one.value), one["max-age"], one["httponly"]) for name, one in response.cookies.items()}
    kept = {name: value for name, value in response.items() if name not in ("Set-Cookie", "Expires")}
    body = response.content if "json" in response["Content-Type"] else None
    return method, where, response.status_code, body, kept, cookies


async def conversation(settings: Any, middleware: list[str]) -> list[Any]:
    settings.MIDDLEWARE = middleware
    client = AsyncClient(enforce_csrf_checks=True, raise_request_exception=False)
    return [await told(client, *request) for request in REQUESTS]


@pytest.mark.parametrize(
    "changes",
    [{}, {"CSRF_USE_SESSIONS": True}, {"SESSION_SAVE_EVERY_REQUEST": True}, {"APPEND_SLASH": True}],
    ids=["as they come", "tokens in sessions", "sessions saved always", "slashes appended"],
)
async def test_they_do_what_djangos_own_do(settings: Any, changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)
    djangos, ours = await conversation(settings, DJANGOS), await conversation(settings, OURS)
    assert ours == djangos
    assert {answer[2] for answer in ours} >= {200, 403, 404, 400, 500}


async def test_they_run_in_the_event_loop(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.MIDDLEWARE = OURS
    threads: list[threading.Thread] = []
    original = SecurityMiddleware.process_response

    def noting(self: Any, *args: Any) -> Any:
        threads.append(threading.current_thread())
        return original(self, *args)

    asked: list[str] = []
    call = SyncToAsync.__call__

    async def counting(self: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(self.func.__qualname__)
        return await call(self, *args, **kwargs)

    monkeypatch.setattr(SecurityMiddleware, "process_response", noting)
    monkeypatch.setattr(SyncToAsync, "__call__", counting)
    for where, method in (("/nothing", "GET"), ("/exempt", "POST")):
        assert (await AsyncClient().generic(method, where)).status_code == 200
    assert set(threads) == {threading.current_thread()}
    assert not [name for name in asked if "process_" in name]
