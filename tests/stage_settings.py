"""The service as the pages' stories are played on it: who comes through a proxy has to sign in, and isn't refused."""

from tests.settings import *  # noqa: F403
from tests.settings import MIDDLEWARE

MIDDLEWARE = [each for each in MIDDLEWARE if each != "config.middleware.development_middleware"]
