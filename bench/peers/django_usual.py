"""The service's views as `startproject`'s asgi.py serves them."""

from django.core.asgi import get_asgi_application

application = get_asgi_application()
