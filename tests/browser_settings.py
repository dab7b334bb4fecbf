"""The service for browser tests: a caller behind a proxy has to sign in, and is not refused."""

from tests.settings import *  # noqa: F403
from tests.settings import MIDDLEWARE

MIDDLEWARE = [each for each in MIDDLEWARE if each != "config.middleware.development_middleware"]
