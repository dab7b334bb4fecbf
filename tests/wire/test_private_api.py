"""Each private or undocumented API of a library that the code relies on: these tests say what changed at an update.

Each entry names the API, where it is used and what is relied on. Twisted, daphne and autobahn are read as
text: an import of daphne would install its reactor in the tests' process.
"""

import ast
import asyncio
import re
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from inspect import getsource
from pathlib import Path
from typing import Any

import django.core.checks.security.base as security
import pytest
from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.contrib.auth.middleware import AuthenticationMiddleware, auser, get_user
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.messages.middleware import MessageMiddleware
from django.core.checks.registry import registry
from django.core.checks.security import csrf
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.base import BaseHandler
from django.core.signals import request_finished
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.operations import BaseDatabaseOperations
from django.db.models.query import ModelIterable, QuerySet
from django.db.models.sql.compiler import SQLCompiler
from django.db.transaction import Atomic
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.middleware.csrf import CsrfViewMiddleware
from django.middleware.security import SecurityMiddleware
from django.test import RequestFactory, TransactionTestCase
from environs import Env
from rest_framework.request import Request

from tests.processes import ROOT

PACKAGES = ("wire", "assistant", "batching", "config")


@dataclass(frozen=True)
class PrivateAPI:
    """`name` is used in the folder or file `used_in`, which relies on what `relied_on` says and `holds` asks."""

    name: str
    used_in: str
    relied_on: str
    holds: Callable[[], Any]


@cache
def text_of(module: str, qualname: str) -> str:
    """Return the source of a class or function of a module that isn't imported; its parent packages are."""
    spec = find_spec(module)
    assert spec
    assert spec.origin
    text = Path(spec.origin).read_text()
    node: Any = ast.parse(text)
    for name in qualname.split("."):
        node = next(
            each
            for each in ast.walk(node)
            if isinstance(each, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and each.name == name
        )
    return ast.get_source_segment(text, node) or ""


def says(module: str, qualname: str, *texts: str) -> Callable[[], bool]:
    """Ask whether the source of a class or function has these texts."""
    return lambda: all(text in text_of(module, qualname) for text in texts)


def reads(function: Any, *texts: str) -> Callable[[], bool]:
    """Ask the same of one that is imported."""
    return lambda: all(text in getsource(function) for text in texts)


# asgiref.


async def thread_of(context: ThreadSensitiveContext, executor: Any) -> str:
    SyncToAsync.context_to_thread_executor[context] = executor
    token = SyncToAsync.thread_sensitive_context.set(context)
    try:
        return await sync_to_async(lambda: threading.current_thread().name)()
    finally:
        SyncToAsync.thread_sensitive_context.reset(token)
        SyncToAsync.context_to_thread_executor.pop(context)


def runs_in_the_contexts_executor() -> bool:
    with ThreadPoolExecutor(1, "chosen") as executor:
        return asyncio.run(thread_of(ThreadSensitiveContext(), executor)).startswith("chosen")


class Inline(Executor):
    def submit(self, work: Any, /, *args: Any, **kwargs: Any) -> Any:
        done: Future[Any] = Future()
        done.set_result(work(*args, **kwargs))
        return done


def takes_any_executor() -> bool:
    work = sync_to_async(lambda: 3, thread_sensitive=False, executor=Inline())
    return bool(asyncio.run(work()) == 3)


# Django and DRF.


async def part() -> AsyncGenerator[bytes]:
    yield b"part"


def keeps_the_iterator() -> bool:
    content = part()
    return StreamingHttpResponse(content)._iterator is content


def calls_acall() -> bool:
    class Middleware(SecurityMiddleware):
        async def __acall__(self, request: HttpRequest) -> Any:
            return "called"

    async def get_response(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    async def called() -> Any:
        return await Middleware(get_response)(HttpRequest())

    return bool(asyncio.run(called()) == "called")


def verifies_origins() -> bool:
    check: Any = CsrfViewMiddleware(lambda request: HttpResponse())
    origins = ("http://testserver", "http://evil.example")
    requests = [RequestFactory().post("/", headers={"origin": origin}) for origin in origins]
    return [check._origin_verified(request) for request in requests] == [True, False]


def refuses_a_form() -> bool:
    check: Any = CsrfViewMiddleware(lambda request: HttpResponse())
    request: Any = RequestFactory().post("/")
    before = check.process_view(request, lambda request: None, (), {})
    request._dont_enforce_csrf_checks = True
    return before is not None and check.process_view(request, lambda request: None, (), {}) is None


def stores_messages() -> bool:
    request: Any = RequestFactory().get("/")
    request.session = {}
    MessageMiddleware(lambda request: HttpResponse()).process_request(request)
    return not (request._messages.used or request._messages.added_new)


def keeps_users() -> bool:
    user: Any = User(username="ada")
    request: Any = HttpRequest()
    request.session = {}
    request._cached_user = request._acached_user = user
    AuthenticationMiddleware(lambda request: HttpResponse()).process_request(request)
    return get_user(request) is user and request.user == user and asyncio.run(auser(request)) is user


def forces_users() -> bool:
    user, request = User(username="ada"), HttpRequest()
    request._force_auth_user, request._force_auth_token = user, "key"
    forced = Request(request)
    return forced.user is user and forced.auth == "key" and not isinstance(forced.user, AnonymousUser)


def sends_its_handler_class() -> bool:
    senders: list[Any] = []

    def note(sender: Any, **kwargs: Any) -> None:
        senders.append(sender)

    response: Any = HttpResponse()
    response._handler_class = ASGIHandler
    # Of the others one closes the connections, which a test's transaction needs.
    others, request_finished.receivers = request_finished.receivers, []
    request_finished.connect(note)
    try:
        response.close()
    finally:
        request_finished.receivers = others
        request_finished.sender_receivers_cache.clear()
    return senders == [ASGIHandler]


def registers_checks() -> bool:
    names = ("check_security_middleware", "check_xframe_options_middleware")
    functions = [*(getattr(security, name) for name in names), csrf.check_csrf_middleware]
    return all(map(callable, functions)) and security.check_ssl_redirect in registry.deployment_checks


def reads_empty_as_none() -> bool:
    class Environment(Env):
        def _get_value(self, env_key: str, default: Any) -> Any:
            return "7"

    return Environment().int("ANY", 1) == 7


HTTP, ABSTRACT = "twisted.web.http", "twisted.internet.abstract"
DAPHNE, SOCKET = "daphne.http_protocol", "daphne.ws_protocol"
AUTOBAHN = "autobahn.websocket.protocol"

USED = [
    # asgiref
    PrivateAPI(
        "context_to_thread_executor",
        "wire/asgi",
        "sync code runs in the executor of its context",
        runs_in_the_contexts_executor,
    ),
    PrivateAPI(
        "thread_sensitive_context", "wire/asgi", "it names the context of sync code", runs_in_the_contexts_executor
    ),
    PrivateAPI(
        "ThreadSensitiveContext", "wire/asgi", "one is a key without being entered", runs_in_the_contexts_executor
    ),
    PrivateAPI(
        "sync_to_async", "wire/asgi", "any executor is taken, not a ThreadPoolExecutor alone", takes_any_executor
    ),
    # Django
    PrivateAPI("_iterator", "wire/api", "a StreamingHttpResponse keeps its async iterator there", keeps_the_iterator),
    PrivateAPI("__acall__", "wire/asgi", "a middleware before an async one is called by it", calls_acall),
    PrivateAPI(
        "_origin_verified", "wire/asgi", "CsrfViewMiddleware tells whether an Origin is the site's", verifies_origins
    ),
    PrivateAPI(
        "_messages", "wire/asgi", "a request has its messages there, with `used` and `added_new`", stores_messages
    ),
    PrivateAPI(
        "_dont_enforce_csrf_checks", "batching/run", "CsrfViewMiddleware lets such a request pass", refuses_a_form
    ),
    PrivateAPI("_dont_enforce_csrf_checks", "assistant/websocket", "as above", refuses_a_form),
    PrivateAPI("_cached_user", "batching/run", "AuthenticationMiddleware takes the user from there", keeps_users),
    PrivateAPI("_acached_user", "batching/run", "`request.auser` takes the user from there", keeps_users),
    PrivateAPI(
        "_handler_class",
        "batching/run",
        "a response's close sends it as request_finished's sender",
        sends_its_handler_class,
    ),
    PrivateAPI(
        "resolve_request",
        "batching/run",
        "a handler calls it to find the view",
        reads(BaseHandler._get_response, "self.resolve_request("),
    ),
    PrivateAPI(
        "close_at",
        "wire/asgi",
        "a connection is closed from this moment (monotonic) on, when a request ends",
        reads(BaseDatabaseWrapper.close_if_unusable_or_obsolete, "time.monotonic() >= self.close_at"),
    ),
    PrivateAPI(
        "errors_occurred",
        "wire/asgi",
        "a connection is looked at, when a request ends, after an error",
        reads(BaseDatabaseWrapper.close_if_unusable_or_obsolete, "if self.errors_occurred", "self.is_usable()"),
    ),
    PrivateAPI(
        "in_atomic_block",
        "wire/asgi",
        "it tells whether a connection is in a transaction",
        reads(Atomic.__enter__, "connection.in_atomic_block = True"),
    ),
    PrivateAPI(
        "initialized_only",
        "wire/asgi",
        "`connections.all` leaves out what this thread hasn't opened",
        reads(type(connections).all, "initialized_only"),
    ),
    PrivateAPI(
        "deployment_checks", "wire/checks.py", "Django's checks of middleware are in this set", registers_checks
    ),
    PrivateAPI(
        "SECRET_KEY_MIN_LENGTH", "config", "Django's rules for a key", lambda: security.SECRET_KEY_MIN_LENGTH > 0
    ),
    PrivateAPI(
        "ModelIterable",
        "assistant/models",
        "rows are made by `query.get_compiler(using=...).execute_sql`",
        reads(ModelIterable.__iter__, "query.get_compiler(using=db)", "compiler.execute_sql("),
    ),
    PrivateAPI(
        "as_sql",
        "assistant/models",
        "a compiler runs what its `as_sql` returns",
        reads(SQLCompiler.execute_sql, "self.as_sql()"),
    ),
    PrivateAPI(
        "get_compiler",
        "assistant/models",
        "a query makes its compiler",
        lambda: callable(QuerySet(User).query.get_compiler),
    ),
    PrivateAPI(
        "adapt_datetimefield_value",
        "batching/records",
        "it makes a moment one that the driver takes",
        lambda: callable(BaseDatabaseOperations.adapt_datetimefield_value),
    ),
    PrivateAPI(
        "adapt_json_value",
        "batching/records",
        "it makes JSON one that the driver takes",
        lambda: callable(BaseDatabaseOperations.adapt_json_value),
    ),
    PrivateAPI(
        "_fixture_teardown",
        "tests/conftest.py",
        "it empties the tables after a test",
        reads(TransactionTestCase._fixture_teardown, '"flush"'),
    ),
    PrivateAPI(
        "_databases_names",
        "tests/conftest.py",
        "it names the databases of a test",
        lambda: "default" in TransactionTestCase._databases_names(),
    ),
    # DRF
    PrivateAPI("_force_auth_user", "batching/run", "a Request takes its user from there", forces_users),
    PrivateAPI("_force_auth_token", "batching/run", "a Request takes its `auth` from there", forces_users),
    PrivateAPI(
        "_request",
        "batching/api",
        "a Request has Django's there",
        lambda: Request(request := HttpRequest())._request is request,
    ),
    PrivateAPI("_request", "assistant/api", "as above", lambda: Request(request := HttpRequest())._request is request),
    # Python and environs
    PrivateAPI(
        "_register_atexit",
        "batching/background",
        "what is registered runs before pools are closed",
        lambda: callable(threading._register_atexit),
    ),
    PrivateAPI("_get_value", "config", "each variable is read by it", reads_empty_as_none),
    # Twisted
    PrivateAPI(
        "writeSomeData",
        "wire/server",
        "each write of a socket goes through it",
        says(ABSTRACT, "FileDescriptor.doWrite", "self.writeSomeData("),
    ),
    PrivateAPI(
        "dataBuffer",
        "wire/server",
        "bytes to be written wait there",
        says(ABSTRACT, "FileDescriptor.doWrite", "len(self.dataBuffer) - self.offset"),
    ),
    PrivateAPI(
        "_tempDataLen",
        "wire/server",
        "so many bytes wait beside `dataBuffer`",
        says(ABSTRACT, "FileDescriptor.write", "self._tempDataLen += len(data)"),
    ),
    PrivateAPI(
        "startWriting",
        "wire/server",
        "it is called when bytes wait",
        says(ABSTRACT, "FileDescriptor.write", "self.startWriting()"),
    ),
    PrivateAPI(
        "listening.transport",
        "wire/server",
        "a port makes its connections with this class",
        says("twisted.internet.tcp", "Port.doRead", "self.transport("),
    ),
    PrivateAPI(
        "_path",
        "wire/server",
        "the target of the request that is being read",
        says(HTTP, "HTTPChannel.lineReceived", "self._path = "),
    ),
    PrivateAPI("_command", "wire/server", "its method", says(HTTP, "HTTPChannel.lineReceived", "self._command = ")),
    PrivateAPI(
        "allHeadersReceived",
        "wire/server",
        "it is called before the body is read",
        says(HTTP, "HTTPChannel.lineReceived", "self.allHeadersReceived()"),
    ),
    PrivateAPI(
        "gotLength",
        "wire/server",
        "a request makes the file for its body there",
        says(HTTP, "HTTPChannel.allHeadersReceived", "req.gotLength(self.length)"),
    ),
    PrivateAPI(
        "handleContentChunk",
        "wire/server",
        "each piece of a body goes through it",
        says(HTTP, "HTTPChannel", ".handleContentChunk,"),
    ),
    PrivateAPI(
        "_respondToBadRequestAndDisconnect",
        "wire/server",
        "what can't be parsed ends there",
        says(HTTP, "HTTPChannel.lineReceived", "self._respondToBadRequestAndDisconnect()"),
    ),
    PrivateAPI(
        "_networkProducer",
        "wire/server",
        "the transport's producer, to be unregistered",
        says(HTTP, "HTTPChannel.connectionMade", "self._networkProducer = "),
    ),
    PrivateAPI(
        "_abortingCall",
        "wire/server",
        "the timer that ends a connection; cancelled when it is lost",
        says(HTTP, "HTTPChannel", "self._abortingCall.cancel()"),
    ),
    PrivateAPI(
        "forceAbortClient",
        "wire/server",
        "it ends a connection at once",
        says(HTTP, "HTTPChannel.forceAbortClient", "self.transport.abortConnection()"),
    ),
    PrivateAPI(
        "_disconnected",
        "wire/server",
        "whether a request's client has left",
        says(HTTP, "Request.connectionLost", "self._disconnected = True"),
    ),
    PrivateAPI(
        "startedWriting",
        "wire/server",
        "whether a response's head has left",
        says(HTTP, "Request.write", "self.startedWriting = 1"),
    ),
    PrivateAPI(
        "chunked",
        "wire/server",
        "whether a response's length is unknown",
        says(HTTP, "Request.write", "self.chunked = 1"),
    ),
    # daphne
    PrivateAPI(
        "WebRequest",
        "wire/server",
        "its parts are sent by `handle_reply`",
        says(DAPHNE, "WebRequest.handle_reply", "http.response.start", "http.response.body"),
    ),
    PrivateAPI(
        "_response_started",
        "wire/server",
        "whether a response has begun",
        says(DAPHNE, "WebRequest.handle_reply", "self._response_started = True"),
    ),
    PrivateAPI(
        "basic_error",
        "wire/server",
        "daphne's own errors go through it",
        says(DAPHNE, "WebRequest.process", "self.basic_error(400,"),
    ),
    PrivateAPI(
        "clean_headers",
        "wire/server",
        "the headers of the scope",
        says(DAPHNE, "WebRequest.process", '"headers": self.clean_headers'),
    ),
    PrivateAPI(
        "client_addr",
        "wire/server",
        "the address of the client",
        says(DAPHNE, "WebRequest.process", '"client": self.client_addr'),
    ),
    PrivateAPI(
        "root_path",
        "wire/server",
        "the server's, unless a header moves it",
        says(DAPHNE, "WebRequest.process", "self.root_path = self.server.root_path"),
    ),
    PrivateAPI(
        "Daphne-Root-Path",
        "wire/server",
        "the header that moves it, which is refused",
        says(DAPHNE, "WebRequest.process", "daphne-root-path"),
    ),
    PrivateAPI(
        "create_application",
        "wire/server",
        "it returns the queue that a request is put in",
        says(DAPHNE, "WebRequest.process", "self.server.create_application", "self.application_queue.put_nowait("),
    ),
    PrivateAPI(
        "protocol_connected",
        "wire/server",
        "it is called for each request and WebSocket",
        says(DAPHNE, "WebRequest.__init__", "self.server.protocol_connected(self)"),
    ),
    PrivateAPI(
        "protocol_disconnected",
        "wire/server",
        "it is called for each that ends",
        says(DAPHNE, "WebRequest.connectionLost", "self.server.protocol_disconnected(self)"),
    ),
    PrivateAPI(
        "check_headers_type",
        "wire/server",
        "it checks the head of a response",
        says("daphne.server", "Server.check_headers_type", "headers"),
    ),
    PrivateAPI(
        "requestFactory",
        "wire/server",
        "the class of a connection's requests",
        says(DAPHNE, "HTTPFactory.buildProtocol", "requestFactory"),
    ),
    PrivateAPI(
        "handshake_deferred",
        "wire/server",
        "it accepts or refuses a handshake",
        says(SOCKET, "WebSocketProtocol.onConnect", "return self.handshake_deferred"),
    ),
    PrivateAPI(
        "application_queue",
        "wire/server",
        "messages are put there",
        says(SOCKET, "WebSocketProtocol.onMessage", "self.application_queue.put_nowait("),
    ),
    PrivateAPI(
        "check_timeouts",
        "wire/server",
        "it pings idle connections",
        says(SOCKET, "WebSocketProtocol.check_timeouts", "self.server.ping_interval"),
    ),
    PrivateAPI(
        "serverSend",
        "wire/server",
        "it sends a message",
        says(SOCKET, "WebSocketProtocol.handle_reply", "self.serverSend("),
    ),
    PrivateAPI(
        "serverClose",
        "wire/server",
        "it closes a connection",
        says(SOCKET, "WebSocketProtocol.handle_reply", "self.serverClose("),
    ),
    PrivateAPI(
        "serverReject",
        "wire/server",
        "it refuses a handshake",
        says(SOCKET, "WebSocketProtocol.serverReject", "self.handshake_deferred.errback("),
    ),
    # autobahn
    PrivateAPI(
        "sendHttpErrorResponse",
        "wire/server",
        "handshakes that fail are answered by it",
        says(AUTOBAHN, "WebSocketServerProtocol.failHandshake", "self.sendHttpErrorResponse("),
    ),
    PrivateAPI(
        "sendFrame",
        "wire/server",
        "it sends a frame of any size",
        says(AUTOBAHN, "WebSocketProtocol.sendFrame", "opcode", "payload"),
    ),
    PrivateAPI(
        "sendCloseFrame",
        "wire/server",
        "it closes with any code",
        says(AUTOBAHN, "WebSocketProtocol.sendCloseFrame", "code", "reasonUtf8"),
    ),
    PrivateAPI(
        "sendData", "wire/server", "it writes bytes as they are", says(AUTOBAHN, "WebSocketProtocol.sendData", "data")
    ),
]


@pytest.mark.parametrize("api", USED, ids=lambda api: f"{api.name} in {api.used_in}")
def test_it_is_as_the_code_relies_on(api: PrivateAPI) -> None:
    try:
        holds = api.holds()
    except (AttributeError, StopIteration, TypeError, ValueError):
        holds = False
    assert holds, f"`{api.name}` has changed. {api.used_in} relies on this: {api.relied_on}."


def files(where: str) -> Iterator[Path]:
    return (ROOT / where).rglob("*.py") if (ROOT / where).is_dir() else iter([ROOT / where])


@pytest.mark.parametrize("api", USED, ids=lambda api: f"{api.name} in {api.used_in}")
def test_it_is_still_used(api: PrivateAPI) -> None:
    word = re.compile(rf"(?<!\w){re.escape(api.name)}\b")
    assert any(word.search(file.read_text()) for file in files(api.used_in)), f"delete `{api.name}` from the list"


# Names with an underscore that Django and Python document, and one of Python's that has no other.
DOCUMENTED = {"_default_manager", "_exit", "_meta", "_state"}


def private(node: ast.AST) -> str | None:
    name = node.attr if isinstance(node, ast.Attribute) else ""
    return name if re.match(r"_[^_]", name) else None


def own(node: ast.AST) -> set[str]:
    """Return the names that a class or an object of the project's own has by this node."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return {name}
        case ast.Attribute(value=ast.Name(id="self" | "cls"), ctx=ast.Store(), attr=name):
            return {name}
        case ast.Name(ctx=ast.Store(), id=name):
            return {name}
    return set()


def test_each_private_name_of_a_library_is_on_the_list() -> None:
    nodes = [
        node
        for package in PACKAGES
        for file in files(package)
        if "migrations" not in file.parts
        for node in ast.walk(ast.parse(file.read_text()))
    ]
    owned = set().union(*map(own, nodes))
    found = {name for node in nodes if (name := private(node))}
    assert found - owned - DOCUMENTED <= {api.name for api in USED}
