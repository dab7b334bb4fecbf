"""The app's WebSockets, for a project's `ProtocolTypeRouter`: `URLRouter(websocket_urlpatterns)`."""

from django.urls import path

from batching.inspection.live_progress import SOCKET
from wire.extras import needs_extra

with needs_extra("server", "batching.routing"):
    from batching.inspection.consumer import BatchConsumer

__all__ = ["websocket_urlpatterns"]

websocket_urlpatterns = [path(f"{SOCKET}<slug:batch_id>", BatchConsumer.as_asgi())]
"""The app's WebSockets, for `URLRouter`."""
