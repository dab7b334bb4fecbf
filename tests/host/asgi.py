"""The host project for an ASGI server."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.host.settings")

from django.core.asgi import get_asgi_application

application = get_asgi_application()
