"""Run every benchmark."""

import asyncio
import os

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"

import django

django.setup()

from bench import batches, relay  # noqa: E402  # what follows wants Django set up

asyncio.run(batches.main())
asyncio.run(relay.main())
