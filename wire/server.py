"""The server behind `manage.py serve`: daphne's, started and stopped so that nobody has to guess what happened."""

# daphne installs the reactor that runs on asyncio, so it comes before anything else of Twisted's.
import daphne.server  # isort:skip

import asyncio
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from daphne.endpoints import build_endpoint_description_strings
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, STDLibLogObserver, globalLogPublisher

from wire.lifespan import Application, Lifetime

logger = logging.getLogger(__name__)
access_logger = logging.getLogger("wire.access")

# Seconds that each step of stopping may take.
GRACE = 5.0
# A terminal and make, or a supervisor and its group, hand on the same signal: one that comes this soon is no second.
SAME_SIGNAL = 1.0

twisted_log: Any = globalLogPublisher
to_logging: Any = STDLibLogObserver("twisted")


class CannotListen(Exception):
    """The address can't be had; the text is a sentence for a person."""


class Server(daphne.server.Server):  # type: ignore[misc]  # daphne has no types
    """Serve an ASGI application on one address until SIGINT or SIGTERM.

    The application's lifespan starts before the port opens and ends after it closed. A second signal ends at once.
    `announce` is called with the URL once the port is open.
    """

    def __init__(self, application: Application, *, host: str, port: int, announce: Callable[[str], None]) -> None:
        super().__init__(
            application,
            endpoints=build_endpoint_description_strings(host=host, port=port),
            signal_handlers=False,
            action_logger=log_access,
            application_close_timeout=GRACE,
            server_name="",
        )
        # What it says of its start is said by `announce`.
        daphne.server.logger.setLevel(logging.WARNING)
        self.host, self.port, self.announce = host, port, announce
        self.lifetime = Lifetime(application)
        self.ports: list[Any] = []
        self.starting: asyncio.Task[None] | None = None
        self.stopping_since: float | None = None
        self.listen_failure: str | None = None

    def run(self) -> None:
        """Return once the server has stopped. Raises `CannotListen` and `StartupFailed`."""
        check_free(self.host, self.port)
        loop = daphne.server.twisted_loop
        asyncio.set_event_loop(loop)
        twisted_log.addObserver(log_trouble)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.signalled, number)
        try:
            if self.start_application(loop):
                super().run()
        finally:
            loop.run_until_complete(end_tasks())
        if self.listen_failure:
            raise CannotListen(self.listen_failure)
        abandon_threads(GRACE)

    def start_application(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Return whether it was allowed to finish starting."""
        self.starting = loop.create_task(self.lifetime.startup())
        try:
            loop.run_until_complete(self.starting)
        except asyncio.CancelledError:
            return False
        finally:
            self.starting = None
        return True

    def listen_success(self, port: Any) -> None:
        super().listen_success(port)
        self.ports.append(port)
        self.announce(url(self.host, port.getHost().port))

    def listen_error(self, failure: Any) -> None:
        self.listen_failure = cannot_listen(self.host, self.port, failure.getErrorMessage())
        self.stop()

    def signalled(self, number: int) -> None:
        now = time.monotonic()
        if self.stopping_since is None:
            self.stopping_since = now
            if self.starting:
                self.starting.cancel()
            else:
                self.stop()
        elif now - self.stopping_since > SAME_SIGNAL:
            logging.shutdown()
            os._exit(128 + number)

    def kill_all_applications(self) -> Any:
        """Wind down; Twisted calls this before its reactor stops and waits for what is returned.

        daphne's own raises KeyError at a connection that has no application (an idle one, a refused one).
        """
        return Deferred.fromFuture(asyncio.ensure_future(self.wind_down()))

    async def wind_down(self) -> None:
        await self.stop_listening()
        await self.end_applications()
        try:
            await asyncio.wait_for(self.lifetime.shutdown(), GRACE)
        except TimeoutError:
            logger.warning("lifespan=shutdown state=abandoned after=%s", GRACE)

    async def stop_listening(self) -> None:
        for port in self.ports:
            if (closed := port.stopListening()) is not None:
                await closed.asFuture(asyncio.get_running_loop())

    async def end_applications(self) -> None:
        running = [
            details["application_instance"]
            for details in self.connections.values()
            if "application_instance" in details and not details["application_instance"].done()
        ]
        for application in running:
            application.cancel()
        if running:
            await asyncio.wait(running, timeout=GRACE)


def url(host: str, port: int) -> str:
    name = "localhost" if host == "127.0.0.1" else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}"


def check_free(host: str, port: int) -> None:
    """Find out before the application starts, which may take long, that the address can't be had."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CannotListen(cannot_listen(host, port, error.strerror or str(error))) from None


def cannot_listen(host: str, port: int, reason: str) -> str:
    return f"Can't listen on {host} port {port}: {reason}. Stop what is there, or choose another PORT."


def log_trouble(event: dict[str, Any]) -> None:
    """Log what goes wrong in Twisted, which daphne silences; its lines below a warning hold whole query strings."""
    if event["log_level"] >= LogLevel.warn:
        to_logging(event)


def log_access(protocol: Any, action: str, details: dict[str, Any]) -> None:
    """Log a finished request. Its query string stays out: keys and messages travel there."""
    if protocol != "http":
        return
    access_logger.info(
        "method=%s path=%s status=%s duration=%.3f client=%s",
        quote(details["method"]),
        # Control characters reach this point as they were sent.
        quote(details["path"].partition("?")[0], safe="/%:@!$&'()*+,;=~"),
        details["status"],
        details["time_taken"],
        details["client"],
    )


async def end_tasks() -> None:
    """Cancel what still runs in the loop and see it end, as `asyncio.run` does, but not for ever."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=GRACE)
    await asyncio.get_running_loop().shutdown_asyncgens()


def abandon_threads(after: float) -> None:
    """End the process `after` seconds even if a thread is stuck: the interpreter would wait for it for ever."""
    timer = threading.Timer(after, os._exit, [0])
    timer.daemon = True
    timer.start()
