"""The service's settings as the tests run them: development, and a database file of their own."""

import os

os.environ["DEBUG"] = "true"
# A developer's .env changes no test.
os.environ["ENV_FILE"] = os.devnull

from config.settings import *  # noqa: F403
from config.settings import ASSISTANT_DATA_DIR, DATABASES

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # A file, so that the threads of a server under test see what the test wrote.
    DATABASES["default"]["TEST"] = {"NAME": ASSISTANT_DATA_DIR / "test.sqlite3"}
    # What is lost when the power fails was a test's; a busy disk would keep it waiting.
    DATABASES["default"]["OPTIONS"]["init_command"] += "; PRAGMA synchronous=OFF"
