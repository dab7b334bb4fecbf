"""The server of `manage.py serve`: daphne's, with a lifespan, a graceful shutdown and clear errors."""

# The reactor comes before anything else of Twisted's.
from wire.server.event_loop import loop  # isort:skip
import daphne.server  # isort:skip

import asyncio
import gc
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from daphne.endpoints import build_endpoint_description_strings
from daphne.http_protocol import HTTPFactory
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import LogLevel, STDLibLogObserver, globalLogBeginner, globalLogPublisher

from wire.asgi import detached, draining
from wire.asgi.lifespan import Application, LifespanManager
from wire.server.connection import Connection, Transport, WriteTimeout
from wire.server.limits import ServerLimits
from wire.server.request import MessageQueue, ServerRequest
from wire.server.websocket import EXTENSIONS, RESTARTING, WebSocket, WebSockets

logger = logging.getLogger(__name__)

# Seconds that an application may take to end after its client left, and each step of the shutdown after the grace.
PATIENCE = 5.0
# Seconds in which applications may send their last messages, after the shutdown of the lifespan.
LAST_MESSAGES = 0.5
# Seconds in which a second signal counts as the first: a terminal and make, or a supervisor and its group, forward it.
SAME_SIGNAL = 1.0
# Connections that the kernel accepts while the process is busy.
BACKLOG = 1024
WEBSOCKET_CHECK_SECONDS = 2.0

reactor: Any = installed_reactor
twisted_log: Any = globalLogPublisher
to_logging: Any = STDLibLogObserver("twisted")


class CannotListen(Exception):
    """The server can't listen on the address; the text says why and what to do."""


class Factory(HTTPFactory):  # type: ignore[misc]  # daphne has no types
    """Makes connections with this project's request class, where daphne sets its own."""

    protocol = Connection

    def __init__(self, server: "Server") -> None:
        super().__init__(server)
        self.timeOut = server.limits.READ_TIMEOUT

    def buildProtocol(self, address: Any) -> Any:  # noqa: N802  # Twisted's name
        connection = super().buildProtocol(address)
        connection.requestFactory = ServerRequest
        return connection

    def log(self, request: Any) -> None:
        """Do nothing: `ServerRequest.log` logs each request."""


class Server(daphne.server.Server):  # type: ignore[misc]  # daphne has no types
    """Serve an ASGI application on one address until SIGINT or SIGTERM.

    The application's lifespan starts before the port opens and ends after it is closed. After the first signal, open
    requests may go on for SHUTDOWN_GRACE seconds; a second signal ends the process at once. `announce` is called with
    the URL once the port is open.
    """

    def __init__(
        self,
        application: Application,
        *,
        host: str,
        port: int,
        announce: Callable[[str], None],
        limits: ServerLimits | None = None,
    ) -> None:
        endpoints = build_endpoint_description_strings(host=host, port=port)
        super().__init__(application, endpoints=endpoints, server_name="")
        self.host, self.port, self.announce = host, port, announce
        self.limits = limits or ServerLimits()
        self.lifespan = LifespanManager(application)
        self.applications: dict[Any, asyncio.Task[None]] = {}
        self.websockets: set[Any] = set()
        self.listening: Any = None
        self.starting: asyncio.Task[None] | None = None
        self.stopping_since: float | None = None
        self.listen_failure: str | None = None

    # From the start to the end.

    def run(self) -> None:
        """Return once the server has stopped. Raises `CannotListen` and `StartupFailed`."""
        check_free(self.host, self.port)
        asyncio.set_event_loop(loop)
        twisted_log.addObserver(log_warning)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.on_signal, number)
        try:
            if self.start_application(loop):
                self.serve()
        finally:
            loop.run_until_complete(end_tasks())
        if self.listen_failure:
            raise CannotListen(self.listen_failure)
        abandon_threads(PATIENCE)

    def start_application(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Return False if a signal cancelled the startup."""
        self.starting = loop.create_task(self.lifespan.startup())
        try:
            loop.run_until_complete(self.starting)
        except asyncio.CancelledError:
            return False
        finally:
            self.starting = None
        return True

    def serve(self) -> None:
        # Twisted's log doesn't go to the console; `log_warning` logs its warnings.
        globalLogBeginner.beginLoggingTo([lambda _: None], redirectStandardIO=False, discardBuffer=True)
        reactor.callWhenRunning(self.listen)
        reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromFuture(self.shutting_down()))
        reactor.run(installSignalHandlers=False)

    def listen(self) -> None:
        self.ws_factory = WebSockets(self)
        try:
            self.listening = reactor.listenTCP(self.port, Factory(self), backlog=BACKLOG, interface=self.host)
        except CannotListenError as error:
            self.listen_failure = cannot_listen(self.host, self.port, str(error.socketError))
            reactor.stop()
            return
        self.listening.transport = Transport
        self.check_websockets()
        WriteTimeout(reactor, self.limits.WRITE_TIMEOUT).check()
        # The objects of the startup stay. A full collection of them took 0.16 s, in which no request was served.
        gc.collect()
        gc.freeze()
        self.announce(url(self.host, self.listening.getHost().port))
        if self.stopping_since:
            reactor.stop()

    def on_signal(self, number: int) -> None:
        now = time.monotonic()
        if self.stopping_since is None:
            self.stopping_since = now
            if self.starting:
                self.starting.cancel()
            else:
                reactor.stop()
        elif now - self.stopping_since > SAME_SIGNAL:
            logging.shutdown()
            os._exit(128 + number)

    def shutting_down(self) -> "asyncio.Future[None]":
        """Return a future that Twisted waits for before its reactor stops."""
        return asyncio.ensure_future(self.shut_down())

    async def shut_down(self) -> None:
        if self.listening:
            await self.stop_listening()
            await self.drain()
        try:
            await asyncio.wait_for(self.lifespan.shutdown(), PATIENCE)
        except TimeoutError:
            logger.warning("lifespan=shutdown state=abandoned after=%s", PATIENCE)
        await self.end_applications()

    async def stop_listening(self) -> None:
        if (closed := self.listening.stopListening()) is not None:
            await closed.asFuture(asyncio.get_running_loop())

    async def drain(self) -> None:
        """Let open requests finish within the grace period; then tell the others to end."""
        draining.started.set()
        if self.applications:
            logger.info("state=draining open=%s seconds=%g", len(self.applications), self.limits.SHUTDOWN_GRACE)
        await self.wait_for_applications(self.limits.SHUTDOWN_GRACE)
        draining.expired.set()

    async def wait_for_applications(self, seconds: float) -> None:
        """Return when no application runs, or after so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.applications:
                    await asyncio.wait(self.applications.values(), return_when=asyncio.FIRST_COMPLETED)

    async def end_applications(self) -> None:
        await self.wait_for_applications(LAST_MESSAGES)
        for websocket in tuple(self.websockets):
            websocket.serverClose(RESTARTING)
        await self.wait_for_applications(PATIENCE)
        for application in self.applications.values():
            application.cancel()
        await self.wait_for_applications(PATIENCE)
        await self.wait_for_writes(PATIENCE)

    async def wait_for_writes(self, seconds: float) -> None:
        """Return when all responses are sent, or after so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                # Twisted has no event for this.
                while any(isinstance(writer, Transport) for writer in reactor.getWriters()):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

    # From a request to its application. daphne calls all but the last two.

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> MessageQueue:
        queue = MessageQueue()
        scope["asgi"] = {"version": "3.0"}
        receive = queue.get
        if isinstance(protocol, WebSocket):
            scope["extensions"] = EXTENSIONS
            receive = partial(protocol.receive, queue)
        else:
            scope[detached.PUSH] = protocol.push
        application = asyncio.get_running_loop().create_task(self.application(scope, receive, protocol.send))
        self.applications[protocol] = protocol.application = application
        application.add_done_callback(partial(self.application_ended, protocol))
        return queue

    def protocol_connected(self, protocol: Any) -> None:
        if not isinstance(protocol, ServerRequest):
            self.websockets.add(protocol)

    def protocol_disconnected(self, protocol: Any) -> None:
        """Cancel the application after a while; after a complete response it may go on."""
        self.websockets.discard(protocol)
        application = self.applications.get(protocol)
        if application and not (isinstance(protocol, ServerRequest) and protocol.finished):
            patience = asyncio.get_running_loop().call_later(PATIENCE, application.cancel)
            application.add_done_callback(lambda _: patience.cancel())

    def application_ended(self, protocol: Any, application: "asyncio.Task[None]") -> None:
        del self.applications[protocol]
        if not application.cancelled() and (error := application.exception()):
            logger.error("application=failed error=%s", type(error).__name__, exc_info=error)
        protocol.application_ended()

    def check_websockets(self) -> None:
        """Ping idle WebSockets and close dead ones."""
        for websocket in tuple(self.websockets):
            try:
                websocket.check_timeouts()
            except Exception:  # an error in one connection doesn't end the checks of the others
                logger.exception("websocket=%s state=broken", websocket)
                self.websockets.discard(websocket)
        reactor.callLater(WEBSOCKET_CHECK_SECONDS, self.check_websockets)


def url(host: str, port: int) -> str:
    name = "localhost" if host == "127.0.0.1" else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}"


def check_free(host: str, port: int) -> None:
    """Raise `CannotListen` before the application starts, which may take long."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CannotListen(cannot_listen(host, port, error.strerror or str(error))) from None


def cannot_listen(host: str, port: int, reason: str) -> str:
    return f"Can't listen on {host} port {port}: {reason}. Stop what is there, or choose another PORT."


def log_warning(event: dict[str, Any]) -> None:
    """Log Twisted's warnings and errors, which daphne drops; lower levels hold whole query strings."""
    if event["log_level"] >= LogLevel.warn:
        to_logging(event)


async def end_tasks() -> None:
    """Cancel all tasks and wait for their end, as `asyncio.run` does, but only for a while."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=PATIENCE)
    await asyncio.get_running_loop().shutdown_asyncgens()


def abandon_threads(after: float) -> None:
    """End the process after so many seconds even if a thread hangs: the interpreter would wait for it forever."""
    timer = threading.Timer(after, os._exit, [0])
    timer.daemon = True
    timer.start()
