"""Settings with which the service refuses to start. `config.apps` checks them in every process, for any command."""

from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.core.checks.security.base import (
    SECRET_KEY_INSECURE_PREFIX,
    SECRET_KEY_MIN_LENGTH,
    SECRET_KEY_MIN_UNIQUE_CHARACTERS,
)
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.utils.module_loading import import_string
from rest_framework.request import Request

Settings = Any  # Django's, or a namespace with the same names
Rule = tuple[Callable[[Settings], object], str]

# A larger limit of a body protects nothing: each open request may use as much memory or disk.
MOST_BYTES = 1024**3
LEAST_TOKEN = 16
LOOSE_SOURCES = {"'unsafe-inline'", "'unsafe-eval'", "*", "http:", "https:"}
IN_PROCESS = ("locmem", "dummy", "filebased", "InMemory", "memory:", "filesystem:")


def check(settings: Settings) -> None:
    """Raise `ImproperlyConfigured` with a sentence for each weakness."""
    if said := list(weaknesses(settings)):
        raise ImproperlyConfigured("\n".join(said))


def weaknesses(settings: Settings) -> Iterator[str]:
    """Yield a sentence for each setting that is insecure or wrong."""
    for is_weak, sentence in DEVELOPMENT if settings.DEBUG else PRODUCTION:
        if is_weak(settings):
            yield sentence


def is_local(host: str) -> bool:
    name = host.strip("[]")
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def is_weak_key(key: str) -> bool:
    """Apply the rules of `manage.py check --deploy` to a key."""
    return (
        len(key) < SECRET_KEY_MIN_LENGTH
        or len(set(key)) < SECRET_KEY_MIN_UNIQUE_CHARACTERS
        or key.startswith(SECRET_KEY_INSECURE_PREFIX)
    )


def has_several_processes(settings: Settings) -> bool:
    return settings.WEB_CONCURRENCY != 1 or not settings.BATCH_RUN_IN_SERVER


def stays_in_process(name: str) -> bool:
    return any(part in name for part in IN_PROCESS)


def caches_in_process(settings: Settings) -> bool:
    return any(stays_in_process(cache["BACKEND"]) for cache in settings.CACHES.values())


def channels_in_process(settings: Settings) -> bool:
    return any(stays_in_process(layer["BACKEND"]) for layer in getattr(settings, "CHANNEL_LAYERS", {}).values())


def caps_nothing(settings: Settings) -> bool:
    caps = (settings.BODY_MAX_BYTES, settings.BATCH_MAX_BYTES, settings.BATCH_ASYNC_MAX_BYTES)
    return any(not cap or not 0 < cap <= MOST_BYTES for cap in (*caps, settings.DATA_UPLOAD_MAX_MEMORY_SIZE))


def allows_anonymous(settings: Settings) -> bool:
    """Tell whether the default permission classes allow an anonymous call from another machine."""
    classes = settings.REST_FRAMEWORK.get("DEFAULT_PERMISSION_CLASSES", [])
    return all(import_string(name)().has_permission(anonymous_call(), None) for name in classes)


def anonymous_call() -> Request:
    call = HttpRequest()
    call.method, call.META["REMOTE_ADDR"] = "GET", "192.0.2.1"
    request = Request(call)
    request.user = AnonymousUser()
    return request


def lacks_middleware(name: str) -> Callable[[Settings], bool]:
    return lambda settings: not any(each.endswith(f".{name}") for each in settings.MIDDLEWARE)


def is_off(name: str) -> Callable[[Settings], bool]:
    return lambda settings: not getattr(settings, name)


def loosens_csp(settings: Settings) -> bool:
    policy = settings.SECURE_CSP
    sources = {str(source) for sources in policy.values() for source in listed(sources)}
    return "default-src" not in policy or bool(sources & LOOSE_SOURCES)


def listed(sources: Any) -> Iterable[Any]:
    return [sources] if isinstance(sources, str) or not isinstance(sources, Iterable) else sources


def pickles(settings: Settings) -> bool:
    named = [getattr(settings, name, "") for name in SERIALIZERS]
    named += [
        cache.get("OPTIONS", {}).get("serializer", "pickle") for cache in settings.CACHES.values() if is_shared(cache)
    ]
    return "pickle" in str(named).lower()


def is_shared(cache: dict[str, Any]) -> bool:
    """Tell whether other processes can write what this cache reads."""
    return not cache["BACKEND"].endswith(("LocMemCache", "DummyCache"))


SERIALIZERS = (
    *("SESSION_SERIALIZER", "CELERY_TASK_SERIALIZER", "CELERY_RESULT_SERIALIZER"),
    *("CELERY_ACCEPT_CONTENT", "CELERY_RESULT_ACCEPT_CONTENT"),
)

DEVELOPMENT: list[Rule] = [
    (
        lambda s: not s.SECRET_KEY.startswith(SECRET_KEY_INSECURE_PREFIX),
        f"DEBUG=true with a SECRET_KEY that isn't marked as one for development: leave it out, or begin it with "
        f"{SECRET_KEY_INSECURE_PREFIX}; in production leave DEBUG out.",
    ),
    (
        lambda s: not is_local(s.HOST),
        "HOST has to be a loopback address, such as 127.0.0.1, in development (DEBUG=true): "
        "for other machines turn DEBUG off and set SECRET_KEY and ALLOWED_HOSTS.",
    ),
    (
        lambda s: not all(map(is_local, s.ALLOWED_HOSTS)),
        "ALLOWED_HOSTS may only name this machine in development (DEBUG=true).",
    ),
]

PRODUCTION: list[Rule] = [
    (
        lambda s: is_weak_key(s.SECRET_KEY),
        "SECRET_KEY is too easy to guess, or marked as one for development: take 50 random characters.",
    ),
    (
        lambda s: any(map(is_weak_key, s.SECRET_KEY_FALLBACKS)),
        "SECRET_KEY_FALLBACKS holds a key that is too easy to guess, or marked as one for development.",
    ),
    (is_off("ALLOWED_HOSTS"), "ALLOWED_HOSTS has to name the hosts that clients use."),
    (lambda s: any("*" in host for host in s.ALLOWED_HOSTS), "ALLOWED_HOSTS can't be `*`: name the hosts."),
    (
        lambda s: not all(origin.startswith("https://") and "*" not in origin for origin in s.CSRF_TRUSTED_ORIGINS),
        "CSRF_TRUSTED_ORIGINS may only name https:// origins, without `*`.",
    ),
    (lambda s: s.DEBUG_PROPAGATE_EXCEPTIONS, "DEBUG_PROPAGATE_EXCEPTIONS would end requests without an answer."),
    (
        lambda s: any(each.get("OPTIONS", {}).get("debug") for each in s.TEMPLATES),
        "TEMPLATES may not have `debug`: its pages show the source.",
    ),
    (
        lambda s: has_several_processes(s) and "sqlite" in s.DATABASES["default"]["ENGINE"],
        "DATABASE_URL names SQLite, which serves one process: take PostgreSQL, or say with WEB_CONCURRENCY=1 (and "
        "BATCH_RUN_IN_SERVER=true) that there is no other.",
    ),
    (
        lambda s: has_several_processes(s) and not s.REDIS_URL,
        "REDIS_URL has to be set where several processes serve, or WEB_CONCURRENCY=1 has to say that one does.",
    ),
    (
        lambda s: has_several_processes(s) and s.REDIS_URL and caches_in_process(s),
        "CACHES keeps what it is told in one process, and several serve: take Redis.",
    ),
    (
        lambda s: has_several_processes(s) and channels_in_process(s),
        "CHANNEL_LAYERS reaches one process, and several serve: take channels_redis.",
    ),
    (
        lambda s: has_several_processes(s) and stays_in_process(getattr(s, "CELERY_BROKER_URL", "") or ""),
        "CELERY_BROKER_URL reaches one process, and several serve: take Redis.",
    ),
    (
        caps_nothing,
        "BODY_MAX_BYTES, BATCH_MAX_BYTES, BATCH_ASYNC_MAX_BYTES and DATA_UPLOAD_MAX_MEMORY_SIZE have to be caps: "
        f"from 1 to {MOST_BYTES}.",
    ),
    (
        allows_anonymous,
        "DEFAULT_PERMISSION_CLASSES let anonymous callers use the API: name one that requires authentication.",
    ),
    (
        lambda s: (
            not allows_anonymous(s)
            and "assistant.api.permissions.HasScope" not in s.REST_FRAMEWORK["DEFAULT_PERMISSION_CLASSES"]
        ),
        "DEFAULT_PERMISSION_CLASSES has to hold assistant.api.permissions.HasScope: keys would pass their scopes.",
    ),
    (
        lambda s: not s.REST_FRAMEWORK.get("DEFAULT_AUTHENTICATION_CLASSES"),
        "DEFAULT_AUTHENTICATION_CLASSES is empty, so every call would be refused: name a class.",
    ),
    (
        lambda s: (
            not {"config.throttles.KeyThrottle", "config.throttles.UserThrottle"}
            <= set(s.REST_FRAMEWORK.get("DEFAULT_THROTTLE_CLASSES", []))
        ),
        "DEFAULT_THROTTLE_CLASSES has to hold config.throttles.KeyThrottle and config.throttles.UserThrottle.",
    ),
    (is_off("THROTTLE_KEY"), "THROTTLE_KEY has to say how many requests an API key may send, such as 600/minute."),
    (is_off("THROTTLE_USER"), "THROTTLE_USER has to say how many requests a user may send, such as 1200/minute."),
    (is_off("THROTTLE_LOGIN"), "THROTTLE_LOGIN has to say how many attempts to log in are allowed, such as 10/minute."),
    (
        lambda s: s.REST_FRAMEWORK.get("NUM_PROXIES") is None,
        "NUM_PROXIES has to say how many proxies stand before the service, 0 for none: without it each client "
        "chooses the address that it is throttled by.",
    ),
    (
        lambda s: s.SECURE_PROXY_SSL_HEADER and not s.REST_FRAMEWORK.get("NUM_PROXIES"),
        "SECURE_PROXY_SSL_HEADER would be believed from clients: set NUM_PROXIES.",
    ),
    (
        lambda s: s.USE_X_FORWARDED_HOST and not s.REST_FRAMEWORK.get("NUM_PROXIES"),
        "USE_X_FORWARDED_HOST would be believed from clients: set NUM_PROXIES.",
    ),
    (is_off("SESSION_COOKIE_SECURE"), "SESSION_COOKIE_SECURE has to be on: the cookie would travel in the open."),
    (is_off("CSRF_COOKIE_SECURE"), "CSRF_COOKIE_SECURE has to be on: the cookie would travel in the open."),
    (is_off("SESSION_COOKIE_HTTPONLY"), "SESSION_COOKIE_HTTPONLY has to be on: scripts could read the cookie."),
    (
        lambda s: s.SESSION_COOKIE_SAMESITE not in ("Lax", "Strict"),
        "SESSION_COOKIE_SAMESITE has to be Lax or Strict: other sites' pages would call as their reader.",
    ),
    (lambda s: not s.SECURE_HSTS_SECONDS > 0, "SECURE_HSTS_SECONDS has to be above 0: browsers would try http://."),
    (is_off("SECURE_CONTENT_TYPE_NOSNIFF"), "SECURE_CONTENT_TYPE_NOSNIFF has to be on."),
    (is_off("SECURE_CSP"), "SECURE_CSP has to be a Content-Security-Policy."),
    (
        lambda s: s.SECURE_CSP and loosens_csp(s),
        "SECURE_CSP has to have a default-src and may not allow inline code, eval or every host.",
    ),
    (
        lacks_middleware("ContentSecurityPolicyMiddleware"),
        "MIDDLEWARE has to hold Django's ContentSecurityPolicyMiddleware.",
    ),
    (lacks_middleware("SecurityMiddleware"), "MIDDLEWARE has to hold Django's SecurityMiddleware."),
    (lacks_middleware("CsrfViewMiddleware"), "MIDDLEWARE has to hold Django's CsrfViewMiddleware."),
    (lacks_middleware("XFrameOptionsMiddleware"), "MIDDLEWARE has to hold Django's XFrameOptionsMiddleware."),
    (is_off("AUTH_PASSWORD_VALIDATORS"), "AUTH_PASSWORD_VALIDATORS has to hold a validator."),
    (
        lambda s: "MD5" in s.PASSWORD_HASHERS[0],
        "PASSWORD_HASHERS may not begin with MD5: a stolen database would give the passwords away.",
    ),
    (
        lambda s: s.METRICS_TOKEN and len(s.METRICS_TOKEN) < LEAST_TOKEN,
        f"METRICS_TOKEN has to have {LEAST_TOKEN} characters or more.",
    ),
    (pickles, "pickle may not be a serializer of sessions, caches or Celery: data in it can run code. Use JSON."),
]
