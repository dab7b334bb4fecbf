"""The progress of a background batch over a WebSocket, for the admin's page, until the batch has ended.

It polls the rows, as `/events` does, so that any process may run the batch; it needs no channel layer.
"""

import asyncio
import json
import logging
from collections.abc import Mapping
from functools import partial
from io import BytesIO
from typing import Any

from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from django.core.handlers.asgi import ASGIRequest, get_script_prefix
from django.urls import reverse, set_script_prefix

from batching.api import progress
from batching.inspection import live_progress
from wire.asgi import draining
from wire.asgi.handler import handler
from wire.asgi.origins import may_connect

logger = logging.getLogger(__name__)

# Close codes: https://www.iana.org/assignments/websocket/websocket.xhtml
NORMAL, POLICY_VIOLATION, INTERNAL_ERROR, SERVICE_RESTART = 1000, 1008, 1011, 1012
# After so many updates the permission is checked again.
CHECK_PERMISSION_EVERY = 60


class BatchConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # channels has no types
    """Sends the progress of one batch to one page, and ignores its messages."""

    watch_task: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve the connection until it closes, which ends the watching task."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self.watch_task:
                self.watch_task.cancel()
                await asyncio.gather(self.watch_task, return_exceptions=True)

    async def connect(self) -> None:
        self.batch_id = self.scope["url_route"]["kwargs"]["batch_id"]
        if draining.started.is_set or not await self.may_view():
            await self.close()
            raise StopConsumer
        await self.accept()
        self.watch_task = asyncio.create_task(self.watch())

    async def may_view(self) -> bool:
        return await progress.read(partial(has_permission, self.scope, self.batch_id))

    async def watch(self) -> None:
        """Send updates, and close when there are no more."""
        try:
            await self.close(await self.send_updates())
        except OSError:
            pass  # ASGI's signal that the client has gone
        except Exception:  # otherwise the page would wait for ever
            logger.exception("batch=%s socket=failed", self.batch_id)
            await self.close(INTERNAL_ERROR)

    async def send_updates(self) -> int:
        """Send updates until the end, and return the close code."""
        updates = 0
        while snapshot := await progress.read(partial(live_progress.snapshot, self.batch_id)):
            await self.send(json.dumps(snapshot))
            if snapshot["is_final"]:
                break
            if draining.started.is_set:
                return SERVICE_RESTART
            await asyncio.sleep(progress.PACE)
            updates += 1
            if updates % CHECK_PERMISSION_EVERY == 0 and not await self.may_view():
                return POLICY_VIOLATION
        return NORMAL


def has_permission(scope: Mapping[str, Any], batch_id: str) -> bool:
    """Tell whether the client could open the admin's progress page, through all middleware.

    Pages of other sites may not connect, even with a permitted user's cookies.
    """
    set_script_prefix(get_script_prefix(scope) or "/")
    http_scope = {
        **scope,
        "type": "http",
        "scheme": "https" if scope.get("scheme") == "wss" else "http",
        "method": "GET",
        "path": reverse("admin:batching_batch_progress", args=[batch_id]),
        "query_string": b"",
    }
    request = ASGIRequest(http_scope, BytesIO())
    if not may_connect(request):
        return False
    response = handler().get_response(request)
    response.close()
    return response.status_code == 200
