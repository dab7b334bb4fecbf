"""The service's settings with a few views and a model beside it, and a clock on what the database takes."""

from config.settings import *  # noqa: F403

ROOT_URLCONF = "bench.urls"
INSTALLED_APPS = [*INSTALLED_APPS, "bench"]  # noqa: F405
ASSISTANT_PROVIDERS = {"paced": "bench.paced.Paced"}
