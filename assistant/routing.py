"""The app's WebSockets, for a project's `ProtocolTypeRouter`: `URLRouter(websocket_urlpatterns)`."""

from django.urls import path

from wire.extras import needs_extra

with needs_extra("server", "assistant.routing"):
    from assistant.websocket.consumer import ChatConsumer

__all__ = ["websocket_urlpatterns"]

websocket_urlpatterns = [path("ws/agent/chat", ChatConsumer.as_asgi())]
"""The app's WebSockets, for `URLRouter`."""
