"""The service's settings with two views beside it that do nothing, and a clock on what the database takes."""

from config.settings import *  # noqa: F403

ROOT_URLCONF = "bench.urls"
INSTALLED_APPS = [*INSTALLED_APPS, "bench"]  # noqa: F405
