"""The app in a project that has nothing else: what it imports, what it checks, who may call."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import connections
from django.test import Client

import batching
from tests.batching.conftest import answers, item
from wire.server.body_limit import view_max_body_bytes

PACKAGE = Path(batching.__file__).parent


def imported(path: Path) -> set[str]:
    """Return the modules that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_the_app_knows_nothing_of_assistants() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert not {name.partition(".")[0] for name in imported(path)} & {"assistant", "config", "tests"}, path
    with pytest.raises(ModuleNotFoundError):
        __import__("assistant")


RECEIVERS = """
import json, sys
import django
django.setup()
MODULES
from django.core.signals import request_finished, request_started
from django.db.backends.signals import connection_created
signals = [request_started, request_finished, connection_created]
receivers = {each[1]().__module__ for signal in signals for each in signal.receivers}
print(json.dumps([sorted(receivers), sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def imported_by(modules: str) -> tuple[set[str], set[str]]:
    """Return the modules of the receivers that each request has, and the packages, in a process that ran `modules`."""
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.host.settings"}
    command = [sys.executable, "-c", RECEIVERS.replace("MODULES", modules)]
    ended = subprocess.run(command, cwd=PACKAGE.parent, env=env, capture_output=True, check=True)
    receivers, packages = json.loads(ended.stdout)
    return set(receivers), set(packages)


def test_a_project_that_imports_the_app_has_no_receiver_more_for_each_request() -> None:
    receivers, packages = imported_by("import batching.urls")
    assert {name.partition(".")[0] for name in receivers} == {"django"}
    assert not packages & {"aiohttp", "celery", "channels", "daphne", "opentelemetry", "prometheus_client", "twisted"}


def test_requests_have_them_where_threads_are_reused() -> None:
    reused = "from wire.asgi.detached import DetachedStreams; DetachedStreams(None)"
    assert "wire.asgi.threads" in imported_by(reused)[0]


@pytest.mark.parametrize("target", [b"/api/batch", b"/api/again/batch", b"/de/translated/batch?stream=true"])
def test_the_server_lets_a_body_be_as_large_as_a_batch_wherever_it_is_mounted(settings: Any, target: bytes) -> None:
    settings.BATCH_ASYNC_MAX_BYTES = 5_000_000
    assert view_max_body_bytes(target, "") == 5_000_000
    assert view_max_body_bytes(target.replace(b"batch", b"batch/batch_1"), "") == 2 * 1024 * 1024


def test_the_migrations_are_complete(committed: None) -> None:
    call_command("makemigrations", "batching", check=True, dry_run=True, verbosity=0)


def test_the_project_has_nothing_to_be_told(settings: Any) -> None:
    assert run_checks(tags=["batching"]) == []


def ids() -> set[str]:
    return {message.id or "" for message in run_checks(tags=["batching"])}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BATCH_MAX_SIZE", 0),
        ("BATCH_MAX_SIZE", "10"),
        ("BATCH_TIMEOUT", -1),
        ("BATCH_TIMEOUT", float("nan")),
        ("BATCH_CONCURRENCY", 0),
        ("BATCH_ALLOWED_PATHS", []),
        ("BATCH_ALLOWED_PATHS", ["api"]),
        ("BATCH_ALLOWED_PATHS", "/api/"),
        ("BATCH_ENABLED", "yes"),
    ],
)
def test_a_setting_that_can_not_be_used_is_named(settings: Any, name: str, value: Any) -> None:
    setattr(settings, name, value)
    [message] = run_checks(tags=["batching"])
    assert message.id == "batching.E001"
    assert name in message.msg


def test_a_missing_app_is_named(settings: Any) -> None:
    with apps._lock:
        installed = [name for name in settings.INSTALLED_APPS if name != "rest_framework"]
    settings.INSTALLED_APPS = installed
    assert "batching.E002" in ids()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}, {"batching.W001"}),
        ({"ENGINE": "django.db.backends.sqlite3", "NAME": "file:x?mode=memory"}, {"batching.W001"}),
        ({"ENGINE": "django.db.backends.sqlite3", "NAME": "x", "OPTIONS": {}}, {"batching.W002"}),
        ({"ENGINE": "django.db.backends.sqlite3", "NAME": "x", "ATOMIC_REQUESTS": True}, {"batching.W003"}),
        ({"ENGINE": "django.db.backends.postgresql", "ATOMIC_REQUESTS": True}, set()),
        ({"ENGINE": "django.db.backends.postgresql", "OPTIONS": {"pool": True}}, {"batching.W004"}),
        ({"ENGINE": "django.db.backends.postgresql", "OPTIONS": {"pool": {"max_size": 10}}}, {"batching.W004"}),
        ({"ENGINE": "django.db.backends.postgresql", "OPTIONS": {"pool": {"max_size": 20}}}, set()),
        ({"ENGINE": "django.db.backends.postgresql", "CONN_MAX_AGE": 60}, {"batching.W005"}),
    ],
)
def test_a_database_that_does_not_suit_is_named(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], expected: set[str]
) -> None:
    database = connections["default"].settings_dict
    immediate = {"OPTIONS": {"transaction_mode": "IMMEDIATE"}} if "sqlite" in changes["ENGINE"] else {"OPTIONS": {}}
    for name, value in {"ATOMIC_REQUESTS": False, "CONN_MAX_AGE": 0, **immediate, **changes}.items():
        monkeypatch.setitem(database, name, value)
    assert ids() == expected


@pytest.mark.parametrize(("size", "expected"), [(13, {"batching.W004"}), (14, set())])
def test_a_pool_has_room_for_what_runs_in_the_background_too(
    monkeypatch: pytest.MonkeyPatch, settings: Any, size: int, expected: set[str]
) -> None:
    """Ten items that somebody waits for, two in the background, and one connection for the rows of each kind."""
    settings.BATCH_RUN_IN_SERVER = True
    database = connections["default"].settings_dict
    for name, value in {"ENGINE": "django.db.backends.postgresql", "OPTIONS": {"pool": {"max_size": size}}}.items():
        monkeypatch.setitem(database, name, value)
    monkeypatch.setitem(database, "CONN_MAX_AGE", 0)
    assert ids() == expected


def test_who_may_call_is_the_projects_to_say(committed: None) -> None:
    """Session callers need their CSRF token, for the batch and so for each item."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_user("ada"))
    client.cookies["csrftoken"] = "a" * 32
    body = json.dumps({"requests": [item("/api/private", "POST", id="a"), item("/api/protected", "POST", id="b")]})
    without = client.post("/api/batch", body, content_type="application/json")
    assert without.status_code == 403
    token = {"x-csrftoken": "a" * 32}
    response = client.post("/api/batch", body, content_type="application/json", headers=token)
    assert [one["body"] for one in answers(response)] == [{"user": "ada"}, {"user": "ada"}]


def test_an_item_without_the_callers_token_is_refused_as_it_would_be_alone(committed: None) -> None:
    client = Client(enforce_csrf_checks=True)
    body = {"requests": [item("/api/protected", "POST", id="a"), item("/api/private", "POST", id="b")]}
    response = client.post("/api/batch", body, content_type="application/json")
    assert [one["status"] for one in answers(response)] == [403, 403]


def test_a_caller_who_may_not_is_refused_before_anything_runs(committed: None, settings: Any) -> None:
    from rest_framework.permissions import IsAuthenticated

    from batching.api.views import BatchesView

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BatchesView, "permission_classes", [IsAuthenticated])
        response = Client().post("/api/batch", {"requests": [item("/api/echo")]}, content_type="application/json")
    assert (response.status_code, response.json()["code"]) == (403, 403)
