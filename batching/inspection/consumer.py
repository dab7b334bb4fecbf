"""A background batch over a WebSocket: how far it is, told to the admin's page until it has ended.

The rows are looked at, as for `/events`, so that any process may do the work; no channel layer takes part.
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

# What a connection is closed with: https://www.iana.org/assignments/websocket/websocket.xhtml
NORMAL, POLICY_VIOLATION, INTERNAL_ERROR, SERVICE_RESTART = 1000, 1008, 1011, 1012
# Looks at a batch, after which it is asked again whether he who looks still may.
CHECK_PERMISSION_EVERY = 60


class BatchConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # channels has no types
    """One page that watches one batch. What it says isn't listened to."""

    watch_task: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve the connection until it closes; the look-out ends with it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self.watch_task:
                self.watch_task.cancel()
                await asyncio.gather(self.watch_task, return_exceptions=True)

    async def connect(self) -> None:
        self.batch_id = self.scope["url_route"]["kwargs"]["batch_id"]
        if draining.begun.has_come or not await self.may_view():
            await self.close()
            raise StopConsumer
        await self.accept()
        self.watch_task = asyncio.create_task(self.watch())

    async def may_view(self) -> bool:
        return await progress.read(partial(has_permission, self.scope, self.batch_id))

    async def watch(self) -> None:
        """Tell how far the batch is, and close when there is nothing more to tell."""
        try:
            await self.close(await self.send_updates())
        except OSError:
            pass  # how ASGI says that the client has gone
        except Exception:  # the last word: the page would wait for ever
            logger.exception("batch=%s socket=failed", self.batch_id)
            await self.close(INTERNAL_ERROR)

    async def send_updates(self) -> int:
        """Tell until the end; returns what to close with."""
        updates = 0
        while snapshot := await progress.read(partial(live_progress.snapshot, self.batch_id)):
            await self.send(json.dumps(snapshot))
            if snapshot["is_final"]:
                break
            if draining.begun.has_come:
                return SERVICE_RESTART
            await asyncio.sleep(progress.PACE)
            updates += 1
            if updates % CHECK_PERMISSION_EVERY == 0 and not await self.may_view():
                return POLICY_VIOLATION
        return NORMAL


def has_permission(scope: Mapping[str, Any], batch_id: str) -> bool:
    """Tell whether the admin's own page would tell how far the batch is to whoever connects, through all middleware.

    Another site's page may not look, even with the cookies of somebody who may.
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
