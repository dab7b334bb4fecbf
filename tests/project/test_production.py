"""Production refuses to start with a weakness, whoever starts it; development serves its own machine alone."""

import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import requests
from django.conf import global_settings
from django.test import Client

from config.production import weaknesses
from tests.processes import CLEAN, DEVELOPMENT, PATIENCE, ROOT, data_directory, manage, running

STRONG = {
    "SECRET_KEY": "for the tests only, and long enough for its purpose here",
    "ALLOWED_HOSTS": "assistant.example",
    "DATABASE_URL": "postgres://assistant@127.0.0.1/assistant",
    "REDIS_URL": "redis://127.0.0.1:6379/0",
    "NUM_PROXIES": "1",
}
Change = Callable[[Any], object]


def put(name: str, value: object) -> Change:
    return lambda settings: setattr(settings, name, value)


def rest(name: str, value: object) -> Change:
    return lambda settings: settings.REST_FRAMEWORK.update({name: value})


def without(middleware: str) -> Change:
    return lambda settings: settings.MIDDLEWARE.remove(f"wire.asgi.middleware.{middleware}")


def cache(**values: Any) -> Change:
    return lambda settings: settings.CACHES["default"].update(values)


# What weakens the service, by what its refusal names: variables of the environment, and what only code can change.
BY_ENVIRONMENT = [
    ("DEBUG", {"DEBUG": "true"}),
    ("HOST", {"DEBUG": "true", "SECRET_KEY": "django-insecure-x", "HOST": "0.0.0.0"}),  # noqa: S104  # what is refused
    ("ALLOWED_HOSTS", {"DEBUG": "true", "SECRET_KEY": "django-insecure-x", "ALLOWED_HOSTS": "*"}),
    ("SECRET_KEY", {"SECRET_KEY": "short"}),
    ("SECRET_KEY", {"SECRET_KEY": "a" * 60}),
    ("SECRET_KEY", {"SECRET_KEY": f"django-insecure-{STRONG['SECRET_KEY']}"}),
    ("SECRET_KEY_FALLBACKS", {"SECRET_KEY_FALLBACKS": "short"}),
    ("ALLOWED_HOSTS", {"ALLOWED_HOSTS": ""}),
    ("ALLOWED_HOSTS", {"ALLOWED_HOSTS": "assistant.example,*"}),
    ("CSRF_TRUSTED_ORIGINS", {"CSRF_TRUSTED_ORIGINS": "http://assistant.example"}),
    ("CSRF_TRUSTED_ORIGINS", {"CSRF_TRUSTED_ORIGINS": "https://*"}),
    ("DATABASE_URL", {"DATABASE_URL": ""}),
    ("DATABASE_URL", {"DATABASE_URL": "", "WEB_CONCURRENCY": "1", "BATCH_RUN_IN_SERVER": "false"}),
    ("REDIS_URL", {"REDIS_URL": ""}),
    ("BODY_MAX_BYTES", {"BODY_MAX_BYTES": "0"}),
    ("BODY_MAX_BYTES", {"BODY_MAX_BYTES": str(2**40)}),
    ("BATCH_MAX_BYTES", {"BATCH_MAX_BYTES": "-1"}),
    ("BATCH_ASYNC_MAX_BYTES", {"BATCH_ASYNC_MAX_BYTES": "0"}),
    ("NUM_PROXIES", {"NUM_PROXIES": ""}),
    ("SECURE_HSTS_SECONDS", {"SECURE_HSTS_SECONDS": "0"}),
    ("METRICS_TOKEN", {"METRICS_TOKEN": "short"}),
]
BY_CODE: list[tuple[str, Change]] = [
    ("DEBUG_PROPAGATE_EXCEPTIONS", put("DEBUG_PROPAGATE_EXCEPTIONS", True)),
    ("TEMPLATES", lambda settings: settings.TEMPLATES[0]["OPTIONS"].update(debug=True)),
    ("CACHES", cache(BACKEND="django.core.cache.backends.locmem.LocMemCache")),
    ("CHANNEL_LAYERS", put("CHANNEL_LAYERS", {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}})),
    ("CELERY_BROKER_URL", put("CELERY_BROKER_URL", "memory://")),
    ("DATA_UPLOAD_MAX_MEMORY_SIZE", put("DATA_UPLOAD_MAX_MEMORY_SIZE", None)),
    ("DEFAULT_PERMISSION_CLASSES", rest("DEFAULT_PERMISSION_CLASSES", [])),
    ("DEFAULT_PERMISSION_CLASSES", rest("DEFAULT_PERMISSION_CLASSES", ["rest_framework.permissions.AllowAny"])),
    ("DEFAULT_PERMISSION_CLASSES", rest("DEFAULT_PERMISSION_CLASSES", ["rest_framework.permissions.IsAuthenticated"])),
    (
        "DEFAULT_PERMISSION_CLASSES",
        rest("DEFAULT_PERMISSION_CLASSES", ["rest_framework.permissions.IsAuthenticatedOrReadOnly"]),
    ),
    ("DEFAULT_AUTHENTICATION_CLASSES", rest("DEFAULT_AUTHENTICATION_CLASSES", [])),
    ("DEFAULT_THROTTLE_CLASSES", rest("DEFAULT_THROTTLE_CLASSES", [])),
    ("DEFAULT_THROTTLE_CLASSES", rest("DEFAULT_THROTTLE_CLASSES", ["rest_framework.throttling.UserRateThrottle"])),
    ("THROTTLE_KEY", put("THROTTLE_KEY", "")),
    ("THROTTLE_USER", put("THROTTLE_USER", "")),
    ("THROTTLE_LOGIN", put("THROTTLE_LOGIN", "")),
    ("SECURE_PROXY_SSL_HEADER", rest("NUM_PROXIES", 0)),
    ("SESSION_COOKIE_SECURE", put("SESSION_COOKIE_SECURE", False)),
    ("CSRF_COOKIE_SECURE", put("CSRF_COOKIE_SECURE", False)),
    ("SESSION_COOKIE_HTTPONLY", put("SESSION_COOKIE_HTTPONLY", False)),
    ("SESSION_COOKIE_SAMESITE", put("SESSION_COOKIE_SAMESITE", "None")),
    ("SECURE_CONTENT_TYPE_NOSNIFF", put("SECURE_CONTENT_TYPE_NOSNIFF", False)),
    ("SECURE_CSP", put("SECURE_CSP", {})),
    ("SECURE_CSP", lambda settings: settings.SECURE_CSP.pop("default-src")),
    ("SECURE_CSP", lambda settings: settings.SECURE_CSP["script-src"].append("'unsafe-inline'")),
    ("ContentSecurityPolicyMiddleware", without("ContentSecurityPolicyMiddleware")),
    ("SecurityMiddleware", without("SecurityMiddleware")),
    ("CsrfViewMiddleware", without("CsrfViewMiddleware")),
    ("XFrameOptionsMiddleware", without("XFrameOptionsMiddleware")),
    ("AUTH_PASSWORD_VALIDATORS", put("AUTH_PASSWORD_VALIDATORS", [])),
    ("PASSWORD_HASHERS", put("PASSWORD_HASHERS", ["django.contrib.auth.hashers.MD5PasswordHasher"])),
    ("pickle", put("SESSION_SERIALIZER", "example.PickleSerializer")),
    ("pickle", put("CELERY_ACCEPT_CONTENT", ["json", "pickle"])),
    ("pickle", put("CELERY_TASK_SERIALIZER", "pickle")),
    ("pickle", cache(OPTIONS={})),
    ("USE_X_FORWARDED_HOST", lambda settings: (put("USE_X_FORWARDED_HOST", True)(settings), no_proxy(settings))),
]


def no_proxy(settings: Any) -> None:
    rest("NUM_PROXIES", 0)(settings)
    settings.SECURE_PROXY_SSL_HEADER = None


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The variables that the service's settings are read with."""
    with mock.patch.dict(os.environ, clear=True):
        yield CLEAN | STRONG | {"ASSISTANT_DATA_DIR": str(tmp_path)}


def settings_with(environment: dict[str, str]) -> Any:
    os.environ.update(environment)
    defaults = {name: getattr(global_settings, name) for name in dir(global_settings) if name.isupper()}
    return SimpleNamespace(**defaults | runpy.run_path(str(ROOT / "config/settings.py")))


def test_a_strong_environment_has_no_weakness(environment: dict[str, str]) -> None:
    assert list(weaknesses(settings_with(environment))) == []


def test_one_process_may_keep_what_it_knows_to_itself(environment: dict[str, str]) -> None:
    alone = {"DATABASE_URL": "", "REDIS_URL": "", "WEB_CONCURRENCY": "1", "NUM_PROXIES": "0"}
    assert list(weaknesses(settings_with(environment | alone))) == []


@pytest.mark.parametrize(("name", "change"), BY_ENVIRONMENT)
def test_a_weak_environment_is_refused(name: str, change: dict[str, str], environment: dict[str, str]) -> None:
    [said] = weaknesses(settings_with(environment | change)) if "DEBUG" not in change else [debug(environment, change)]
    assert name in said


def debug(environment: dict[str, str], change: dict[str, str]) -> str:
    """Return what is said of the first weakness in development, whose hosts are this machine."""
    hosts = {"ALLOWED_HOSTS": "", "NUM_PROXIES": "0"}
    [said] = weaknesses(settings_with(environment | hosts | change))
    return said


@pytest.mark.parametrize(("name", "change"), BY_CODE)
def test_a_weak_setting_is_refused(name: str, change: Change, environment: dict[str, str]) -> None:
    settings = settings_with(environment)
    change(settings)
    [said] = weaknesses(settings)
    assert name in said


@pytest.mark.server
@pytest.mark.parametrize(
    "command",
    [
        ["manage.py", "serve"],
        ["manage.py", "run_batches"],
        ["-m", "uvicorn", "config.asgi:application", "--port=0"],
        ["-m", "daphne", "--port=0", "config.asgi:application"],
    ],
    ids=" ".join,
)
def test_every_door_is_shut(command: list[str], tmp_path: Path) -> None:
    env = CLEAN | STRONG | {"ASSISTANT_DATA_DIR": str(tmp_path), "ALLOWED_HOSTS": "*"}
    started = [sys.executable, *command]
    ended = subprocess.run(started, cwd=ROOT, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ended.returncode == 1
    assert "ALLOWED_HOSTS can't be `*`: name the hosts.\n" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("extra", [{"REMOTE_ADDR": "192.0.2.1"}, {"HTTP_FORWARDED": "for=127.0.0.1"}])
@pytest.mark.parametrize("path", ["/", "/healthz", "/api/agents", "/admin/login/"])
def test_development_refuses_who_comes_from_elsewhere(
    client: Client, path: str, extra: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    assert client.get(path, **extra).status_code == 403
    assert "A DEVELOPMENT SERVER (DEBUG=true) WAS REACHED FROM ELSEWHERE" in caplog.text


@pytest.mark.server
def test_uvicorn_in_development_serves_its_machine_alone() -> None:
    """uvicorn knows an address of its own, and not the one that settings name."""
    command = [sys.executable, "-m", "uvicorn", "config.asgi:application", "--host=0.0.0.0", "--port=0"]
    with data_directory() as data:
        env = {**DEVELOPMENT, "ASSISTANT_DATA_DIR": data}
        with running(command, r"running on http://\S+:(\d+)", **env) as it:
            assert requests.get(f"{it.url}/healthz", timeout=PATIENCE).status_code == 200
            headers = {"X-Forwarded-For": "192.0.2.1"}
            assert requests.get(f"{it.url}/healthz", headers=headers, timeout=PATIENCE).status_code == 403


def test_a_development_key_opens_no_production() -> None:
    assert "SECRET_KEY" in manage("check", **STRONG | {"SECRET_KEY": "django-insecure-development"}).stderr
