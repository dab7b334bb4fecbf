"""The service's settings with two views beside it that do nothing."""

from config.settings import *  # noqa: F403

ROOT_URLCONF = "bench.urls"
