"""The service's own settings, with one view more."""

import os

os.environ["ENV_FILE"] = os.devnull

from config.settings import *  # noqa: F403

ROOT_URLCONF = "tests.crash.urls"
