"""The service's settings, and the only reader of its environment (and of a `.env` beside manage.py).

An empty environment means production; `DEBUG=true` is development, which serves this machine alone.
"""

import os
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.csp import CSP
from environs import Env, EnvError, ValidationError, validate
from limits import parse_many

from wire import __version__

BASE_DIR = Path(__file__).resolve().parent.parent


class Environment(Env):
    """Read an empty value as none at all: `PORT=` in a .env or a compose file means the default."""

    def _get_value(self, env_key: str, default: Any) -> Any:
        value = super()._get_value(env_key, default)
        return default if value == "" else value


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
    DEBUG = env.bool("DEBUG", False)
    SECRET_KEY = env.str("SECRET_KEY", "django-insecure-development" if DEBUG else "")
    SECRET_KEY_FALLBACKS: list[str] = env.list("SECRET_KEY_FALLBACKS", [])
    ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", LOOPBACK if DEBUG else [])
    CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", [])
    # Nobody counts them: as long as nothing is said, there is more than one.
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
    REDIS_URL = env.str("REDIS_URL", "")
    ASSISTANT_MODEL = env.str("ASSISTANT_MODEL", "local:smollm2")
    ASSISTANT_TOOLS_OFF = env.list("ASSISTANT_TOOLS_OFF", ["fetch_url"])
    OPENAI_BASE_URL = env.str("OPENAI_BASE_URL", "https://api.openai.com/v1")
    OPENAI_API_KEY = env.str("OPENAI_API_KEY", "")
    STREAM_ENABLED = env.bool("STREAM_ENABLED", True)
    STREAM_CHUNK_SIZE = env.int("STREAM_CHUNK_SIZE", 100)
    STREAM_TIMEOUT = env.float("STREAM_TIMEOUT", 300)
    STREAM_DISCONNECT_GRACE = env.float("STREAM_DISCONNECT_GRACE", 10)
    CHAT_CONCURRENCY = env.int("CHAT_CONCURRENCY", 1000)
    CHAT_CONCURRENCY_PER_CALLER = env.int("CHAT_CONCURRENCY_PER_CALLER", 100)
    USER_TOKENS_PER_MONTH = env.int("USER_TOKENS_PER_MONTH", None)
    TOOL_TIMEOUT = env.float("TOOL_TIMEOUT", 30)
    MODEL_CONNECT_TIMEOUT = env.float("MODEL_CONNECT_TIMEOUT", 5)
    MODEL_FIRST_TOKEN_TIMEOUT = env.float("MODEL_FIRST_TOKEN_TIMEOUT", 120)
    MODEL_IDLE_TIMEOUT = env.float("MODEL_IDLE_TIMEOUT", 30)
    MESSAGE_MAX_CHARS = env.int("MESSAGE_MAX_CHARS", 32_000)
    BATCH_ENABLED = env.bool("BATCH_ENABLED", True)
    BATCH_MAX_SIZE = env.int("BATCH_MAX_SIZE", 10)
    BATCH_TIMEOUT = env.float("BATCH_TIMEOUT", 30)
    BATCH_CONCURRENCY = env.int("BATCH_CONCURRENCY", 10)
    BATCH_MAX_BYTES = env.int("BATCH_MAX_BYTES", 1024 * 1024)
    BATCH_ALLOWED_PATHS = env.list("BATCH_ALLOWED_PATHS", ["/api/"])
    BATCH_ASYNC_MAX_SIZE = env.int("BATCH_ASYNC_MAX_SIZE", 50_000)
    BATCH_ASYNC_MAX_BYTES = env.int("BATCH_ASYNC_MAX_BYTES", 256 * 1024 * 1024)
    CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", "")
    BATCH_CELERY_APP = "config.celery.app" if CELERY_BROKER_URL else ""
    BATCH_SLICE = env.float("BATCH_SLICE", 10)
    BATCH_RUN_IN_SERVER = env.bool("BATCH_RUN_IN_SERVER", not CELERY_BROKER_URL)
    BATCH_BACKGROUND_CONCURRENCY = env.int("BATCH_BACKGROUND_CONCURRENCY", 2)
    BATCH_MAX_QUEUED = env.int("BATCH_MAX_QUEUED", 100_000)
    BATCH_MAX_ATTEMPTS = env.int("BATCH_MAX_ATTEMPTS", 3)
    BATCH_ITEM_TIMEOUT = env.float("BATCH_ITEM_TIMEOUT", 300)
    BATCH_EXPIRES_AFTER = env.float("BATCH_EXPIRES_AFTER", 24 * 60 * 60)
    BATCH_LEASE = env.float("BATCH_LEASE", 30)
    BATCH_WEBHOOK_SECRET = env.str("BATCH_WEBHOOK_SECRET", "")
    BATCH_WEBHOOK_HOSTS: list[str] = env.list("BATCH_WEBHOOK_HOSTS", [])
    BATCH_RETENTION_DAYS = env.int("BATCH_RETENTION_DAYS", 30)
    BATCH_STORE_BODIES = env.str("BATCH_STORE_BODIES", "masked")
    BATCH_STORED_BODY_BYTES = env.int("BATCH_STORED_BODY_BYTES", 65_536)
    CONVERSATION_RETENTION_DAYS = env.int("CONVERSATION_RETENTION_DAYS", None, validate=validate.Range(min=1))
    BODY_MAX_BYTES = env.int("BODY_MAX_BYTES", 2 * 1024 * 1024)
    READ_TIMEOUT = env.float("READ_TIMEOUT", 30)
    WRITE_TIMEOUT = env.float("WRITE_TIMEOUT", 30)
    SHUTDOWN_GRACE = env.float("SHUTDOWN_GRACE", 30)
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
if REDIS_URL:
    CACHES["default"] = {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
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
