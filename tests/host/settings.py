"""A bare Django project that has installed `batching` and nothing else of this repository."""

import atexit
import os
import shutil
import sys
import tempfile
from importlib.abc import MetaPathFinder
from typing import Any, NoReturn

import dj_database_url

DEBUG = os.environ.get("HOST_DEBUG") == "true"
SECRET_KEY = "host"
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]
if "DATABASE_URL" not in os.environ:
    directory = tempfile.mkdtemp(prefix="batching-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    os.environ["DATABASE_URL"] = f"sqlite:///{directory}/db.sqlite3"  # processes that this one starts share it
DATABASES: dict[str, Any] = {"default": dj_database_url.parse(os.environ["DATABASE_URL"])}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # A file, so that the threads of the items see what the test wrote.
    DATABASES["default"]["TEST"] = {"NAME": DATABASES["default"]["NAME"] + ".test"}
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        # What is lost when the power fails was a test's; a busy disk would keep it waiting.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF",
    }

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "batching",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "tests.host.urls"
STATIC_URL = "static/"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
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
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
USE_TZ = True
# Its tests say when background batches run.
BATCH_RUN_IN_SERVER = os.environ.get("BATCH_RUN_IN_SERVER") == "true"
BATCH_LEASE = float(os.environ.get("BATCH_LEASE", 30))
BATCH_CELERY_APP = os.environ.get("BATCH_CELERY_APP", "")
BATCH_SLICE = float(os.environ.get("BATCH_SLICE", 10))
CELERY_BROKER_URL = os.environ.get("CELERY_BROKER_URL", "")
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
BATCH_WEBHOOK_SECRET = os.environ.get("BATCH_WEBHOOK_SECRET", "")
BATCH_WEBHOOK_HOSTS = os.environ.get("BATCH_WEBHOOK_HOSTS", "").split()
APPEND_SLASH = False


class Absent(MetaPathFinder):
    """Make `import assistant` fail, as in a project that doesn't have it."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname.partition(".")[0] == "assistant":
            self.refuse(fullname)

    def refuse(self, fullname: str) -> NoReturn:
        raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


sys.meta_path.insert(0, Absent())
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.SessionAuthentication",
        "rest_framework.authentication.BasicAuthentication",
        "tests.host.authentication.KeyAuthentication",
    ],
}
