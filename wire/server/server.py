"""The server behind `manage.py serve`: daphne's, started and stopped so that nobody has to guess what happened."""

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
from wire.asgi.lifespan import Application, Lifetime
from wire.server.connection import Connection, Readers, Transport
from wire.server.limits import ServerLimits
from wire.server.request import Inbox, ServerRequest
from wire.server.websocket import EXTENSIONS, RESTARTING, WebSocket, WebSockets

logger = logging.getLogger(__name__)

# Seconds that an application may take to end when its client has gone, and each step of stopping after the grace.
PATIENCE = 5.0
# Seconds in which a WebSocket's application, its lifespan over, may send what is left and close by itself.
LAST_WORD = 0.5
# A terminal and make, or a supervisor and its group, hand on the same signal: one that comes this soon is no second.
SAME_SIGNAL = 1.0
# Connections that the kernel accepts while the process is busy.
BACKLOG = 1024
WEBSOCKET_CHECK_SECONDS = 2.0

reactor: Any = installed_reactor
twisted_log: Any = globalLogPublisher
to_logging: Any = STDLibLogObserver("twisted")


class CannotListen(Exception):
    """The address can't be had; the text is a sentence for a person."""


class Factory(HTTPFactory):  # type: ignore[misc]  # daphne has no types
    """Makes connections; daphne makes its own request class part of each."""

    protocol = Connection

    def __init__(self, server: "Server") -> None:
        super().__init__(server)
        self.timeOut = server.limits.READ_TIMEOUT

    def buildProtocol(self, address: Any) -> Any:  # noqa: N802  # Twisted's name
        connection = super().buildProtocol(address)
        connection.requestFactory = ServerRequest
        return connection

    def log(self, request: Any) -> None:
        """Leave it to the exchange."""


class Server(daphne.server.Server):  # type: ignore[misc]  # daphne has no types
    """Serve an ASGI application on one address until SIGINT or SIGTERM.

    The application's lifespan starts before the port opens and ends after it closed. The first signal lets what is
    open finish for SHUTDOWN_GRACE seconds, a second one ends at once. `announce` is called with the URL once the port
    is open.
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
        self.lifetime = Lifetime(application)
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
        twisted_log.addObserver(log_trouble)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.signalled, number)
        try:
            if self.start_application(loop):
                self.serve()
        finally:
            loop.run_until_complete(end_tasks())
        if self.listen_failure:
            raise CannotListen(self.listen_failure)
        abandon_threads(PATIENCE)

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

    def serve(self) -> None:
        # Nothing of Twisted's goes to the console but what `log_trouble` takes.
        globalLogBeginner.beginLoggingTo([lambda _: None], redirectStandardIO=False, discardBuffer=True)
        reactor.callWhenRunning(self.listen)
        reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromFuture(self.winding_down()))
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
        Readers(reactor, self.limits.WRITE_TIMEOUT).look()
        # What the start made stays; to go through it took a full collection 0.16 s, in which nothing was served.
        gc.collect()
        gc.freeze()
        self.announce(url(self.host, self.listening.getHost().port))
        if self.stopping_since:
            reactor.stop()

    def signalled(self, number: int) -> None:
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

    def winding_down(self) -> "asyncio.Future[None]":
        """Return what Twisted waits for before its reactor stops."""
        return asyncio.ensure_future(self.wind_down())

    async def wind_down(self) -> None:
        if self.listening:
            await self.stop_listening()
            await self.drain()
        try:
            await asyncio.wait_for(self.lifetime.shutdown(), PATIENCE)
        except TimeoutError:
            logger.warning("lifespan=shutdown state=abandoned after=%s", PATIENCE)
        await self.end_applications()

    async def stop_listening(self) -> None:
        if (closed := self.listening.stopListening()) is not None:
            await closed.asFuture(asyncio.get_running_loop())

    async def drain(self) -> None:
        """Let what is open finish; then whoever wants to say a last word is told to."""
        draining.begun.come()
        if self.applications:
            logger.info("state=draining open=%s seconds=%g", len(self.applications), self.limits.SHUTDOWN_GRACE)
        await self.applications_ended(self.limits.SHUTDOWN_GRACE)
        draining.over.come()

    async def applications_ended(self, seconds: float) -> None:
        """Return when no application runs any more, or after so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.applications:
                    await asyncio.wait(self.applications.values(), return_when=asyncio.FIRST_COMPLETED)

    async def end_applications(self) -> None:
        await self.applications_ended(LAST_WORD)
        for websocket in tuple(self.websockets):
            websocket.serverClose(RESTARTING)
        await self.applications_ended(PATIENCE)
        for application in self.applications.values():
            application.cancel()
        await self.applications_ended(PATIENCE)
        await self.written(PATIENCE)

    async def written(self, seconds: float) -> None:
        """Return when what was said has left, or after so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                # Twisted has no event for it.
                while any(isinstance(writer, Transport) for writer in reactor.getWriters()):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

    # From a request to its application. daphne calls all but the last two.

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Inbox:
        inbox = Inbox()
        scope["asgi"] = {"version": "3.0"}
        receive = inbox.get
        if isinstance(protocol, WebSocket):
            scope["extensions"] = EXTENSIONS
            receive = partial(protocol.receive, inbox)
        else:
            scope[detached.PUSH] = protocol.push
        application = asyncio.get_running_loop().create_task(self.application(scope, receive, protocol.send))
        self.applications[protocol] = protocol.application = application
        application.add_done_callback(partial(self.application_ended, protocol))
        return inbox

    def protocol_connected(self, protocol: Any) -> None:
        if not isinstance(protocol, ServerRequest):
            self.websockets.add(protocol)

    def protocol_disconnected(self, protocol: Any) -> None:
        """Have the application end soon, unless it ends by itself; after a whole response it may go on."""
        self.websockets.discard(protocol)
        application = self.applications.get(protocol)
        if application and not (isinstance(protocol, ServerRequest) and protocol.finished):
            patience = asyncio.get_running_loop().call_later(PATIENCE, application.cancel)
            application.add_done_callback(lambda _: patience.cancel())

    def application_ended(self, protocol: Any, application: "asyncio.Task[None]") -> None:
        del self.applications[protocol]
        if not application.cancelled() and (error := application.exception()):
            logger.error("application=failed error=%s", type(error).__name__, exc_info=error)
        protocol.ended()

    def check_websockets(self) -> None:
        """Have idle WebSockets pinged, and dead ones closed."""
        for websocket in tuple(self.websockets):
            try:
                websocket.check_timeouts()
            except Exception:  # daphne's code for one connection isn't to end this for all others
                logger.exception("websocket=%s state=broken", websocket)
                self.websockets.discard(websocket)
        reactor.callLater(WEBSOCKET_CHECK_SECONDS, self.check_websockets)


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


async def end_tasks() -> None:
    """Cancel what still runs in the loop and see it end, as `asyncio.run` does, but not for ever."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=PATIENCE)
    await asyncio.get_running_loop().shutdown_asyncgens()


def abandon_threads(after: float) -> None:
    """End the process `after` seconds even if a thread is stuck: the interpreter would wait for it for ever."""
    timer = threading.Timer(after, os._exit, [0])
    timer.daemon = True
    timer.start()
