"""The ASGI lifespan protocol from both ends: an application made of two hooks, and what a server says to one.

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
            answer = await outcome(phase, hook)
            await send(answer)
            if answer["type"].endswith(".failed"):
                return


async def outcome(phase: str, hook: Hook) -> ASGIMessage:
    """Run a hook and return what the server is told of it."""
    try:
        await hook()
    except (ImproperlyConfigured, WireError) as error:
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        return {"type": f"lifespan.{phase}.failed", "message": f"{error}{cause}"}
    except Exception as error:  # a hook is foreign code, and the server wants an answer
        logger.exception("lifespan=%s state=failed", phase)
        return {"type": f"lifespan.{phase}.failed", "message": f"{type(error).__name__}: {error}"}
    return {"type": f"lifespan.{phase}.complete"}


class StartupFailed(Exception):
    """The application said that it can't be served; the text is its own."""


class Lifetime:
    """A server's end of the protocol, for an application that may not know it."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self.inbox: asyncio.Queue[ASGIMessage] = asyncio.Queue()

    async def startup(self) -> None:
        """Return once the application is ready. Raises `StartupFailed` with what it said."""
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}}
        self.task = asyncio.create_task(self.application(scope, self.inbox.get, self.send))
        if (answer := await self.ask("startup")) and answer["type"] == "lifespan.startup.failed":
            raise StartupFailed(answer.get("message") or "The application did not say why.")

    async def shutdown(self) -> None:
        """Return once the application has let go of what it held."""
        if (answer := await self.ask("shutdown")) and answer["type"] == "lifespan.shutdown.failed":
            logger.error("lifespan=shutdown state=failed reason=%s", answer.get("message"))

    async def ask(self, phase: str) -> Mapping[str, Any] | None:
        """Return the answer, or None from an application that doesn't speak the protocol or has ended."""
        self.answer: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self.inbox.put_nowait({"type": f"lifespan.{phase}"})
        waiting: set[asyncio.Future[Any]] = {self.answer, self.task}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if self.answer.done():
            return self.answer.result()
        # The standard has a server go on without the protocol where the application raises instead of answering.
        if not self.task.cancelled() and (error := self.task.exception()):
            logger.debug("lifespan=%s state=unsupported", phase, exc_info=error)
        return None

    async def send(self, message: Mapping[str, Any]) -> None:
        if not self.answer.done():
            self.answer.set_result(message)
