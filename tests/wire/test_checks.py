"""With this package's middleware `manage.py check --deploy` warns of all that it warns of with Django's."""

from collections.abc import Callable
from typing import Any

import pytest
from django.conf import global_settings
from django.conf import settings as django_settings
from django.core.checks import Tags, run_checks
from django.core.checks.registry import registry

from wire.checks import CSRF, NEEDED, REPLACED, RULES, SECURITY, SESSION, X_FRAME

DJANGOS = [SECURITY, SESSION, CSRF, X_FRAME]
OURS = [f"wire.asgi.middleware.{path.rpartition('.')[2]}" for path in DJANGOS]
NAMES = (
    *("SECURE_HSTS_SECONDS", "SECURE_HSTS_INCLUDE_SUBDOMAINS", "SECURE_HSTS_PRELOAD", "SECURE_CONTENT_TYPE_NOSNIFF"),
    *("SECURE_SSL_REDIRECT", "SESSION_COOKIE_SECURE", "SESSION_COOKIE_HTTPONLY", "CSRF_COOKIE_SECURE"),
    *("CSRF_USE_SESSIONS", "X_FRAME_OPTIONS"),
)
SAFE = dict.fromkeys(NAMES, True) | {"CSRF_USE_SESSIONS": False, "X_FRAME_OPTIONS": "DENY"}


@pytest.fixture(autouse=True)
def project(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project that is safe and silences no check."""
    for name, value in SAFE.items():
        setattr(settings, name, value)
    settings.SILENCED_SYSTEM_CHECKS = []
    # Past pytest-django's settings, which would set up all apps again.
    monkeypatch.setattr(django_settings, "INSTALLED_APPS", ["wire"])


def warnings() -> set[str]:
    """Return the numbers of the warnings about middleware, whichever checks give them."""
    numbers = {number for number, *_ in NEEDED} | {rule.number for rule in RULES}
    found = [message.id or "" for message in run_checks(tags=[Tags.security], include_deployment_checks=True)]
    given = [each for each in found if each[-3:] in numbers]
    assert len({each[-3:] for each in given}) == len(given), f"told twice: {given}"
    return {each[-3:] for each in given}


@pytest.mark.parametrize("middleware", [DJANGOS, OURS])
def test_a_safe_project_has_no_warnings_and_silences_none(settings: Any, middleware: list[str]) -> None:
    settings.MIDDLEWARE = middleware
    assert warnings() == set()


@pytest.mark.parametrize("middleware", [DJANGOS, OURS])
@pytest.mark.parametrize(("number", "path"), [(number, path) for number, path, _ in NEEDED])
def test_it_warns_of_a_middleware_that_is_missing(settings: Any, number: str, path: str, middleware: list[str]) -> None:
    settings.MIDDLEWARE = [each for each in middleware if each.rpartition(".")[2] != path.rpartition(".")[2]]
    settings.SILENCED_SYSTEM_CHECKS = [f"security.W{number}"]
    assert number in warnings()


CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("004", {"SECURE_HSTS_SECONDS": 0}),
    ("005", {"SECURE_HSTS_INCLUDE_SUBDOMAINS": False}),
    ("006", {"SECURE_CONTENT_TYPE_NOSNIFF": False}),
    ("008", {"SECURE_SSL_REDIRECT": False}),
    ("011", {"SESSION_COOKIE_SECURE": False}),
    ("014", {"SESSION_COOKIE_HTTPONLY": False}),
    ("016", {"CSRF_COOKIE_SECURE": False}),
    ("019", {"X_FRAME_OPTIONS": "SAMEORIGIN"}),
    ("021", {"SECURE_HSTS_PRELOAD": False}),
]


@pytest.mark.parametrize("middleware", [DJANGOS, OURS])
@pytest.mark.parametrize(("number", "changes"), CHANGES)
def test_it_warns_of_each_setting(settings: Any, number: str, changes: dict[str, Any], middleware: list[str]) -> None:
    settings.MIDDLEWARE = middleware
    for name, value in changes.items():
        setattr(settings, name, value)
    assert warnings() == {number}


@pytest.mark.parametrize("apps", [[], ["django.contrib.sessions"]])
@pytest.mark.parametrize(
    "change",
    [
        lambda settings: [setattr(settings, name, getattr(global_settings, name)) for name in NAMES],
        lambda settings: [setattr(settings, name, not value) for name, value in SAFE.items()],
    ],
    ids=["Django's defaults", "the opposite"],
)
def test_the_warnings_are_those_with_djangos_own(
    settings: Any, change: Callable[[Any], Any], apps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(django_settings, "INSTALLED_APPS", apps)
    change(settings)
    settings.MIDDLEWARE = DJANGOS
    expected = warnings()
    settings.MIDDLEWARE = OURS
    assert warnings() == expected


def test_each_rule_is_tested() -> None:
    assert [number for number, _ in CHANGES] == [rule.number for rule in RULES]


def test_djangos_checks_of_paths_are_replaced() -> None:
    assert not set(REPLACED) & registry.deployment_checks
