"""The service's settings, and the only reader of its environment (and of a `.env` beside manage.py).

An empty environment means production; `DEBUG=true` is development, which serves this machine alone.
"""

import os
from collections.abc import Iterator
from dataclasses import Field, fields
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from django.core.exceptions import ImproperlyConfigured
from django.utils.csp import CSP
from environs import Env, EnvError, ValidationError, validate
from limits import parse_many

from assistant.conf import AssistantSettings
from batching.conf import BatchingSettings
from wire import __version__
from wire.server.limits import ServerLimits

BASE_DIR = Path(__file__).resolve().parent.parent

# The method of `env` that reads a variable for a field of this type.
METHODS: dict[Any, str] = {
    **{bool: "bool", int: "int", float: "float", str: "str", Literal: "str", Path: "path"},
    **{tuple: "list", frozenset: "list"},
}


class Environment(Env):
    """Read an empty value as none at all: `PORT=` in a .env or a compose file means the default."""

    def _get_value(self, env_key: str, default: Any) -> Any:
        value = super()._get_value(env_key, default)
        return default if value == "" else value

    def declared(self) -> dict[str, Any]:
        """Return the settings that the apps and the server declare; the default is the field's."""
        return {field.name: self._read(field, kind) for field, kind in declared_fields()}

    def _read(self, field: Field[Any], kind: Any) -> Any:
        value = getattr(self, METHODS[kind])(field.name, field.default)
        return kind(value) if METHODS[kind] == "list" else value


def declared_fields() -> Iterator[tuple[Field[Any], Any]]:
    """Yield the fields that a variable of the same name sets, each with its type; a mapping is set by code alone."""
    for declaration in (AssistantSettings, BatchingSettings, ServerLimits):
        hints = get_type_hints(declaration)
        for field in fields(declaration):
            kind = without_none(hints[field.name])
            kind = get_origin(kind) or kind
            if kind in METHODS and field.name != "BATCH_CELERY_APP":  # CELERY_BROKER_URL decides that one
                yield field, kind


def without_none(hint: Any) -> Any:
    """Return `int` for `int | None`."""
    kinds = get_args(hint)
    return next(each for each in kinds if each is not NoneType) if NoneType in kinds else hint


def made(directory: Path) -> Path:
    """Make a directory that has to be there before the database is opened in it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImproperlyConfigured(f"ASSISTANT_DATA_DIR can't be {directory}: {error.strerror}.") from None
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ImproperlyConfigured(f"ASSISTANT_DATA_DIR can't be {directory}: it can't be written to.")
    return directory


def is_rate(value: str) -> None:
    """Refuse what isn't like `600/minute` or `10/minute; 100/day`."""
    try:
        parse_many(value or "1/day")
    except ValueError:
        raise ValidationError("Not like 600/minute or 10/minute; 100/day.") from None


env = Environment()
env.read_env(os.environ.get("ENV_FILE", BASE_DIR / ".env"), recurse=False)

LOOPBACK = ["localhost", "127.0.0.1", "[::1]"]

try:
    # What the apps and the server declare, with their own defaults; where the service's differ, they stand below.
    declared = env.declared()
    globals().update(declared)
    DEBUG = env.bool("DEBUG", False)
    SECRET_KEY = env.str("SECRET_KEY", "django-insecure-development" if DEBUG else "")
    SECRET_KEY_FALLBACKS: list[str] = env.list("SECRET_KEY_FALLBACKS", [])
    ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", LOOPBACK if DEBUG else [])
    CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", [])
    # The processes can't count each other: without this setting there may be more than one.
    WEB_CONCURRENCY = env.int("WEB_CONCURRENCY", 1 if DEBUG else 2, validate=validate.Range(min=1))
    NUM_PROXIES = env.int("NUM_PROXIES", 0 if DEBUG else None, validate=validate.Range(min=0))
    ADMIN_PATH = env.str("ADMIN_PATH", "admin", validate=validate.Regexp(r"[\w-]+(/[\w-]+)*\Z"))
    SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", 0 if DEBUG else 365 * 24 * 60 * 60)
    THROTTLE_KEY = env.str("THROTTLE_KEY", "" if DEBUG else "600/minute", validate=is_rate)
    THROTTLE_USER = env.str("THROTTLE_USER", "" if DEBUG else "1200/minute", validate=is_rate)
    THROTTLE_TOKENS = env.str("THROTTLE_TOKENS", "", validate=is_rate)
    THROTTLE_LOGIN = env.str("THROTTLE_LOGIN", "" if DEBUG else "10/minute; 100/day", validate=is_rate)
    HOST = env.str("HOST", "127.0.0.1")
    PORT = env.int("PORT", 8000, validate=validate.Range(min=0, max=65535))
    ASSISTANT_DATA_DIR = made(Path(env.str("ASSISTANT_DATA_DIR", str(BASE_DIR / "var"))).absolute())
    STATIC_ROOT = Path(env.str("STATIC_ROOT", str(BASE_DIR / "staticfiles"))).absolute()
    DATABASES = {"default": env.dj_db_url("DATABASE_URL", f"sqlite:///{ASSISTANT_DATA_DIR / 'db.sqlite3'}")}
    CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", "")
    BATCH_CELERY_APP = "config.celery.app" if CELERY_BROKER_URL else ""
    BATCH_RUN_IN_SERVER = env.bool("BATCH_RUN_IN_SERVER", not CELERY_BROKER_URL)
    CONVERSATION_RETENTION_DAYS = env.int("CONVERSATION_RETENTION_DAYS", None, validate=validate.Range(min=1))
    METRICS_TOKEN = env.str("METRICS_TOKEN", "")
    METRICS_PORT = env.int("METRICS_PORT", None, validate=validate.Range(min=0, max=65535))
    OTEL_EXPORTER_OTLP_ENDPOINT = env.str("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    OTEL_SERVICE_NAME = env.str("OTEL_SERVICE_NAME", "assistant")
    LOG_FORMAT = env.str("LOG_FORMAT", "line" if DEBUG else "json", validate=validate.OneOf(["line", "json"]))
    LOG_LEVEL = env.str("LOG_LEVEL", "INFO", validate=validate.OneOf(["DEBUG", "INFO", "WARNING", "ERROR"]))
    env.seal()
except EnvError as error:
    raise ImproperlyConfigured(str(error)) from None
if not SECRET_KEY:
    raise ImproperlyConfigured("SECRET_KEY has to be set, except in development (DEBUG=true).")

INSTALLED_APPS = [
    "config.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "channels",
    "wire",
    "assistant",
    "batching",
    "config.apps.ServiceConfig",
]

MIDDLEWARE = [
    "wire.observe.request_id.request_id_middleware",
    *(["config.middleware.development_middleware"] if DEBUG else []),
    "config.middleware.health_middleware",
    *(["wire.observe.metrics.metrics_middleware"] if METRICS_TOKEN or METRICS_PORT is not None else []),
    *(["wire.observe.tracing.tracing_middleware"] if OTEL_EXPORTER_OTLP_ENDPOINT else []),
    "wire.api.middleware.json_errors_middleware",
    "wire.asgi.middleware.SecurityMiddleware",
    "wire.asgi.middleware.ContentSecurityPolicyMiddleware",
    "wire.asgi.middleware.SessionMiddleware",
    "wire.asgi.middleware.CommonMiddleware",
    "wire.asgi.middleware.CsrfViewMiddleware",
    "wire.asgi.middleware.AuthenticationMiddleware",
    "wire.asgi.middleware.MessageMiddleware",
    "wire.asgi.middleware.XFrameOptionsMiddleware",
]
# The proxy redirects to https:// (deploy/nginx), and subdomains aren't the service's.
SILENCED_SYSTEM_CHECKS = ["wire.W005", "wire.W008", "wire.W021"]

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
APPEND_SLASH = False
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
STATIC_URL = "static/"
X_FRAME_OPTIONS = "DENY"
CSRF_COOKIE_SECURE = SESSION_COOKIE_SECURE = not DEBUG
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if NUM_PROXIES else None
SECURE_CSP = {
    "default-src": [CSP.NONE],
    "script-src": [CSP.SELF],
    "style-src": [CSP.SELF],
    "img-src": [CSP.SELF, "data:"],
    "font-src": [CSP.SELF],
    "connect-src": [CSP.SELF],
    "form-action": [CSP.SELF],
    "base-uri": [CSP.NONE],
    "frame-ancestors": [CSP.NONE],
}
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]

if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # Eight writers at once: 29,000 lock errors in five seconds with the defaults, none with these.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
    }

CACHES: dict[str, dict[str, Any]] = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
if redis_url := declared["REDIS_URL"]:
    CACHES["default"] = {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": redis_url,
        "OPTIONS": {"serializer": "config.caching.JSONSerializer"},
    }

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "assistant.api.authentication.APIKeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": [
        "assistant.api.permissions.IsAuthenticatedOrDevelopment",
        "assistant.api.permissions.HasScope",
    ],
    "DEFAULT_PARSER_CLASSES": ["wire.api.parsers.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "wire.api.negotiation.JSONNegotiation",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "wire.api.views.exception_handler",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
    "DEFAULT_THROTTLE_CLASSES": [
        "config.throttles.KeyThrottle",
        "config.throttles.UserThrottle",
        "config.throttles.TokenThrottle",
    ],
    # X-Forwarded-For is believed only where a proxy of ours is known to have written it.
    "NUM_PROXIES": NUM_PROXIES,
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Assistant",
    "DESCRIPTION": "Chat with agents, stream their answers, call tools.",
    "VERSION": __version__,
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "ENUM_NAME_OVERRIDES": {
        "MessageStatusEnum": "assistant.models.Message.Status",
        "BatchStatusEnum": "batching.models.Batch.Status",
    },
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "request_id": {"()": "wire.observe.request_id.RequestIDFilter"},
        "message_id": {"()": "assistant.logs.MessageIDFilter"},
    },
    "formatters": {
        "line": {"format": "%(asctime)s %(levelname)s %(name)s request=%(request_id)s %(message)s"},
        "json": {"()": "wire.observe.logs.JSONFormatter"},
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": LOG_FORMAT,
            "filters": ["request_id", "message_id"],
        }
    },
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        "django": {"level": LOG_LEVEL},
        # A line for each message, and an idle worker looks every few seconds.
        "celery.app.trace": {"level": "WARNING"},
        "celery.worker.strategy": {"level": "WARNING"},
    },
}

# What `manage.py serve` says once the port is open.
SERVE_GREETING = "Serving on {url} (stop with Ctrl-C)"
if DEBUG:
    SERVE_GREETING = """
Assistant is ready on {url} (development: for this machine alone, without accounts)

  Ask:    curl -N -H 'Content-Type: application/json' -d '{"message": "Explain quantum computing"}' \\
            '{url}/api/agent/chat?stream=true'
  Docs:   {url}/api/docs
  Admin:  {url}/ADMIN_PATH/ (first: .venv/bin/python manage.py createsuperuser)

Stop with Ctrl-C.
""".replace("ADMIN_PATH", ADMIN_PATH)
