"""The service as an ASGI application, for `manage.py serve`, daphne, uvicorn and others."""

import os
import sys
from typing import Any, cast

from django.core.asgi import get_asgi_application
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIHandler

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
try:
    django_application = get_asgi_application()
except ImproperlyConfigured as error:
    sys.exit(f"{error}")  # one line, as from manage.py, under any server

from channels.routing import ProtocolTypeRouter, URLRouter  # these imports need Django to be set up
from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.urls import re_path
from servestatic import ServeStaticASGI

from assistant import lifespan as assistant
from assistant.routing import websocket_urlpatterns as chats
from batching import lifespan as batching
from batching.routing import websocket_urlpatterns as batches
from wire.asgi.detached import DetachedStreams
from wire.asgi.lifespan import Application, ASGIMessage, Lifespan, Receive, Send


def with_static_files(application: ASGIHandler) -> Application:
    """Serve static files around Django: from the apps in development, otherwise from `collectstatic`'s directory."""
    if settings.DEBUG:
        return ASGIStaticFilesHandler(application)
    served: Application = ServeStaticASGI(
        application,
        root=settings.STATIC_ROOT if settings.STATIC_ROOT.is_dir() else None,
        prefix=settings.STATIC_URL,
        allow_all_origins=False,
    )
    return served


async def refuse_websocket(scope: ASGIMessage, receive: Receive, send: Send) -> None:
    """Refuse the handshake with 403: there is no WebSocket at this path."""
    await receive()
    await send({"type": "websocket.close"})


async def startup() -> None:
    await assistant.startup()
    await batching.startup()


async def shutdown() -> None:
    """Shut down batches first: their items call the assistant."""
    await batching.shutdown()
    await assistant.shutdown()


application = DetachedStreams(
    ProtocolTypeRouter(
        {
            "http": with_static_files(django_application),
            "websocket": URLRouter([*chats, *batches, re_path("", cast(Any, refuse_websocket))]),
            "lifespan": Lifespan(startup, shutdown),
        }
    )
)
