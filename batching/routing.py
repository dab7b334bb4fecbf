"""The app's WebSockets, for a project's `ProtocolTypeRouter`: `URLRouter(websocket_urlpatterns)`."""

from django.urls import path

from batching.inspection.consumer import BatchConsumer
from batching.inspection.live_progress import SOCKET

websocket_urlpatterns = [path(f"{SOCKET}<slug:batch_id>", BatchConsumer.as_asgi())]
