"""Deployment checks of middleware for projects that use this package's in place of Django's.

Django's checks look for Django's middleware by its path. They miss a subclass, and skip the settings that it reads.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Tags, register
from django.core.checks.registry import registry
from django.core.checks.security import base, csrf
from django.utils.module_loading import import_string

SECURITY = "django.middleware.security.SecurityMiddleware"
X_FRAME = "django.middleware.clickjacking.XFrameOptionsMiddleware"
CSRF = "django.middleware.csrf.CsrfViewMiddleware"
SESSION = "django.contrib.sessions.middleware.SessionMiddleware"

# Django's checks that a subclass can't pass. `check_missing` takes their place.
REPLACED = (base.check_security_middleware, base.check_xframe_options_middleware, csrf.check_csrf_middleware)

# The middleware that a project needs, by the number of Django's own warning, and the effect without it.
NEEDED = [
    ("001", SECURITY, "the settings SECURE_HSTS_SECONDS, SECURE_SSL_REDIRECT and the other SECURE_* have no effect"),
    ("002", X_FRAME, "other sites can show your pages in a frame (clickjacking)"),
    ("003", CSRF, "other sites can send forms as a signed-in user (cross-site request forgery)"),
]


def is_on(name: str) -> bool:
    return getattr(settings, name) is True


def sends_hsts() -> bool:
    return bool(settings.SECURE_HSTS_SECONDS)


@dataclass(frozen=True)
class Rule:
    """A setting that a middleware reads, by the number of Django's own warning."""

    number: str
    middleware: str
    passes: Callable[[], bool]
    message: str
    hint: str


RULES = [
    Rule(
        "004",
        SECURITY,
        sends_hsts,
        "SECURE_HSTS_SECONDS isn't set: browsers may come back over http://.",
        "Set it once the whole site is served over https:// (HTTP Strict Transport Security).",
    ),
    Rule(
        "005",
        SECURITY,
        lambda: not sends_hsts() or is_on("SECURE_HSTS_INCLUDE_SUBDOMAINS"),
        "SECURE_HSTS_INCLUDE_SUBDOMAINS isn't True: browsers may go to subdomains over http://.",
        "Set it to True if all subdomains are served over https://.",
    ),
    Rule(
        "006",
        SECURITY,
        partial(is_on, "SECURE_CONTENT_TYPE_NOSNIFF"),
        "SECURE_CONTENT_TYPE_NOSNIFF isn't True: browsers guess the type of responses.",
        "Set it to True.",
    ),
    Rule(
        "008",
        SECURITY,
        partial(is_on, "SECURE_SSL_REDIRECT"),
        "SECURE_SSL_REDIRECT isn't True: the site answers over http:// too.",
        "Set it to True, or have a proxy redirect and silence this check.",
    ),
    Rule(
        "011",
        SESSION,
        lambda: settings.SESSION_COOKIE_SECURE is True or has_session_app(),
        "SESSION_COOKIE_SECURE isn't True: the session's cookie is sent over http:// too.",
        "Set it to True.",
    ),
    Rule(
        "014",
        SESSION,
        lambda: settings.SESSION_COOKIE_HTTPONLY is True or has_session_app(),
        "SESSION_COOKIE_HTTPONLY isn't True: scripts can read the session's cookie.",
        "Set it to True.",
    ),
    Rule(
        "016",
        CSRF,
        lambda: settings.CSRF_USE_SESSIONS or settings.CSRF_COOKIE_SECURE is True,
        "CSRF_COOKIE_SECURE isn't True: the CSRF cookie is sent over http:// too.",
        "Set it to True.",
    ),
    Rule(
        "019",
        X_FRAME,
        lambda: settings.X_FRAME_OPTIONS == "DENY",
        "X_FRAME_OPTIONS isn't 'DENY': pages of the same site can show yours in a frame.",
        "Set it to 'DENY', unless the site itself uses frames.",
    ),
    Rule(
        "021",
        SECURITY,
        lambda: not sends_hsts() or is_on("SECURE_HSTS_PRELOAD"),
        "SECURE_HSTS_PRELOAD isn't True: the site can't be on the browsers' preload list.",
        "Set it to True if you want it there.",
    ),
]


def has_session_app() -> bool:
    """Tell whether Django's own checks look at the session's cookie for any middleware."""
    return "django.contrib.sessions" in settings.INSTALLED_APPS


def replace_djangos() -> None:
    """Take the checks that `check_missing` replaces out of Django's registry."""
    for check in REPLACED:
        registry.deployment_checks.discard(check)


@register(Tags.security, deploy=True)
def check_missing(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Warn of a middleware that MIDDLEWARE holds neither as Django's own nor as a subclass of it."""
    return [
        checks.Warning(
            f"MIDDLEWARE has no {name_of(path)}: {effect}.", hint=f"Add '{path}' to it.", id=f"wire.W{number}"
        )
        for number, path, effect in NEEDED
        if not holds(path)
    ]


@register(Tags.security, deploy=True)
def check_settings(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Warn of the settings of subclasses as Django's checks warn of those of its own middleware."""
    return [
        checks.Warning(rule.message, hint=rule.hint, id=f"wire.W{rule.number}")
        for rule in RULES
        if rule.middleware not in settings.MIDDLEWARE and holds(rule.middleware) and not rule.passes()
    ]


def holds(path: str) -> bool:
    """Tell whether MIDDLEWARE has a middleware or a subclass of it."""
    kind = import_string(path)
    found = map(import_string, settings.MIDDLEWARE)
    return any(isinstance(each, type) and issubclass(each, kind) for each in found)


def name_of(path: str) -> str:
    return path.rpartition(".")[2]
