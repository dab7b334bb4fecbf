"""Where a batch came from: makes the requests of its items, each as its caller would have sent it alone."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, cast
from urllib.parse import quote

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest

from batching.items.paths import PLAIN, Target

# What belongs to one request and not to its caller. Everything else (credentials, cookies, proxies' headers) is kept.
OWN_HEADERS = {
    *("accept", "accept-encoding", "content-encoding", "content-length", "content-type", "expect", "idempotency-key"),
    *("if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "last-event-id", "prefer"),
    *("range", "te", "trailer", "transfer-encoding", "upgrade", "x-request-id"),
}

# What is kept of the request of a background batch, to make the requests of its items: no credentials.
KEPT_HEADERS = {
    *("accept-language", "forwarded", "host", "user-agent", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port"),
    *("x-forwarded-proto", "x-real-ip"),
}


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """An item's request in the form in which it travels. `headers` have lower-case names."""

    method: str
    target: Target
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""


class RequestFactory(ABC):
    """The request that a batch came with. `in_server`: its server has an event loop (ASGI)."""

    script_name: str
    in_server: bool

    @abstractmethod
    def request(self, sent: PreparedRequest) -> HttpRequest:
        """Return a fresh request from the same caller."""

    @abstractmethod
    def signal(self, request: HttpRequest) -> dict[str, Any]:
        """Return what Django's `request_started` carries for a request."""


class ASGIRequestFactory(RequestFactory):
    in_server = True

    def __init__(self, request: ASGIRequest) -> None:
        self.request_class = type(request)
        self.scope = request.scope
        self.script_name = request.META["SCRIPT_NAME"]
        self.kept = [
            (name, value)
            for name, value in request.scope.get("headers", [])
            if name.decode("latin-1").lower() not in OWN_HEADERS
        ]

    def request(self, sent: PreparedRequest) -> ASGIRequest:
        overridden = {name.encode("latin-1") for name in sent.headers}
        own = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in sent.headers.items()]
        path = self.script_name.rstrip("/") + sent.target.path_info
        scope = {
            **self.scope,
            "method": sent.method,
            "path": path,
            "raw_path": quote(path, safe=PLAIN).encode("ascii"),
            "query_string": sent.target.query.encode("ascii"),
            "headers": [pair for pair in self.kept if pair[0] not in overridden] + own,
        }
        return self.request_class(scope, BytesIO(sent.content))

    def signal(self, request: HttpRequest) -> dict[str, Any]:
        return {"scope": cast(ASGIRequest, request).scope}


def kept(request: HttpRequest) -> dict[str, Any]:
    """Return what the items of a background batch need to know of its request, as JSON."""
    meta = request.META
    return {
        "scheme": request.scheme,
        "server": [meta.get("SERVER_NAME", ""), int(meta.get("SERVER_PORT") or 0)],
        "client": [meta.get("REMOTE_ADDR") or "", int(meta.get("REMOTE_PORT") or 0)],
        "root_path": meta["SCRIPT_NAME"],
        "headers": {name: value for name, value in request.headers.items() if name.lower() in KEPT_HEADERS},
    }


def own() -> dict[str, Any]:
    """Return the same for a batch that came with no request: its items find themselves at the project's first host."""
    host = next((name.lstrip(".") for name in settings.ALLOWED_HOSTS if name != "*"), "localhost")
    secure = settings.SECURE_SSL_REDIRECT
    return {
        "scheme": "https" if secure else "http",
        "server": [host, 443 if secure else 80],
        "client": ["127.0.0.1", 0],
        "root_path": settings.FORCE_SCRIPT_NAME or "",
        "headers": {"Host": host},
    }


def factory_from(kept: dict[str, Any]) -> RequestFactory:
    """Return the origin of a background batch, whichever kind of server it came through."""
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in kept["headers"].items()]
    scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/", "query_string": b""}
    return ASGIRequestFactory(ASGIRequest({**scope, **kept, "headers": headers}, BytesIO()))


class WSGIRequestFactory(RequestFactory):
    in_server = False

    def __init__(self, request: WSGIRequest) -> None:
        self.request_class = type(request)
        self.script_name = request.META["SCRIPT_NAME"]
        self.kept = {name: value for name, value in request.environ.items() if not is_own(name)}

    def request(self, sent: PreparedRequest) -> WSGIRequest:
        path = quote(self.script_name.rstrip("/") + sent.target.path_info, safe=PLAIN)
        environ = {
            **self.kept,
            **{variable(name): value for name, value in sent.headers.items()},
            "REQUEST_METHOD": sent.method,
            # PEP 3333: the bytes of the decoded path, each as one character.
            "PATH_INFO": sent.target.path_info.encode().decode("latin-1"),
            "QUERY_STRING": sent.target.query,
            "REQUEST_URI": f"{path}?{sent.target.query}" if sent.target.query else path,
            "wsgi.input": BytesIO(sent.content),
        }
        return self.request_class(environ)

    def signal(self, request: HttpRequest) -> dict[str, Any]:
        return {"environ": cast(WSGIRequest, request).environ}


def is_own(name: str) -> bool:
    """Tell whether an environment variable belongs to one request and not to its caller."""
    return (name.startswith("HTTP_") and name[5:].lower().replace("_", "-") in OWN_HEADERS) or name in {
        *("CONTENT_LENGTH", "CONTENT_TYPE", "RAW_URI", "PATH_TRANSLATED", "wsgi.file_wrapper"),
    }


def variable(header: str) -> str:
    name = header.upper().replace("-", "_")
    return name if name in ("CONTENT_LENGTH", "CONTENT_TYPE") else f"HTTP_{name}"


def factory_of(request: HttpRequest) -> RequestFactory:
    return (
        ASGIRequestFactory(request)
        if isinstance(request, ASGIRequest)
        else WSGIRequestFactory(cast(WSGIRequest, request))
    )
