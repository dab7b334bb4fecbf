"""The ASGI lifespan protocol: an application made of two hooks, and the server's side of the protocol.

https://asgi.readthedocs.io/en/latest/specs/lifespan.html
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from wire.errors import WireError

__all__ = ["Lifespan"]

logger = logging.getLogger(__name__)

ASGIMessage = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Application = Callable[[ASGIMessage, Receive, Send], Coroutine[Any, Any, None]]
Hook = Callable[[], Awaitable[None]]


class Lifespan:
    """An application for the `lifespan` scope: `startup` before the first request, `shutdown` after the last."""

    def __init__(self, startup: Hook, shutdown: Hook) -> None:
        self.hooks = {"startup": startup, "shutdown": shutdown}

    async def __call__(self, scope: ASGIMessage, receive: Receive, send: Send) -> None:
        for phase, hook in self.hooks.items():
            await receive()
            reply = await run_hook(phase, hook)
            await send(reply)
            if reply["type"].endswith(".failed"):
                return


async def run_hook(phase: str, hook: Hook) -> ASGIMessage:
    """Run a hook and return the message that tells the server how it ended."""
    try:
        await hook()
    except (ImproperlyConfigured, WireError) as error:
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        return {"type": f"lifespan.{phase}.failed", "message": f"{error}{cause}"}
    except Exception as error:  # a hook is foreign code, and the server waits for a reply
        logger.exception("lifespan=%s state=failed", phase)
        return {"type": f"lifespan.{phase}.failed", "message": f"{type(error).__name__}: {error}"}
    return {"type": f"lifespan.{phase}.complete"}


class StartupFailed(Exception):
    """The application reported that it can't start; the text is its own."""


class LifespanManager:
    """A server's side of the protocol, also for an application that doesn't support it."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self.messages: asyncio.Queue[ASGIMessage] = asyncio.Queue()

    async def startup(self) -> None:
        """Return once the application is ready. Raises `StartupFailed` with the application's message."""
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}}
        self.task = asyncio.create_task(self.application(scope, self.messages.get, self.send))
        if (reply := await self.request("startup")) and reply["type"] == "lifespan.startup.failed":
            raise StartupFailed(reply.get("message") or "The application did not say why.")

    async def shutdown(self) -> None:
        """Return once the application has closed what it held open."""
        if (reply := await self.request("shutdown")) and reply["type"] == "lifespan.shutdown.failed":
            logger.error("lifespan=shutdown state=failed reason=%s", reply.get("message"))

    async def request(self, phase: str) -> Mapping[str, Any] | None:
        """Return the reply, or None from an application that doesn't support the protocol or has ended."""
        self.reply: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self.messages.put_nowait({"type": f"lifespan.{phase}"})
        waiting: set[asyncio.Future[Any]] = {self.reply, self.task}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if self.reply.done():
            return self.reply.result()
        # By the standard, an application that raises instead of replying is served without the protocol.
        if not self.task.cancelled() and (error := self.task.exception()):
            logger.debug("lifespan=%s state=unsupported", phase, exc_info=error)
        return None

    async def send(self, message: Mapping[str, Any]) -> None:
        if not self.reply.done():
            self.reply.set_result(message)
