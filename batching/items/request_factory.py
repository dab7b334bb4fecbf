"""Makes the requests of a batch's items, each as the batch's caller would have sent it alone."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Any, cast
from urllib.parse import quote

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest

from batching.errors import BadItem
from batching.items.item import ItemRequest
from batching.items.paths import PLAIN, AllowedPaths, Target

# Headers that belong to one request and not to its caller. All others (credentials, cookies, proxies' headers) pass on.
PER_REQUEST_HEADERS = {
    *("accept", "accept-encoding", "content-encoding", "content-length", "content-type", "expect", "idempotency-key"),
    *("if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "last-event-id", "prefer"),
    *("range", "te", "trailer", "transfer-encoding", "upgrade", "x-request-id"),
}
# Headers of a background batch's request that its items get as well: no credentials.
STORED_HEADERS = {
    *("accept-language", "forwarded", "host", "user-agent", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port"),
    *("x-forwarded-proto", "x-real-ip"),
}


class RequestFactory(ABC):
    """Makes the requests of items from the request that their batch came with."""

    def __init__(self, request: HttpRequest, prefixes: Iterable[str]) -> None:
        self.allowed = AllowedPaths(prefixes, script_name=request.META["SCRIPT_NAME"])

    def request(self, item: ItemRequest, defaults: Mapping[str, str]) -> HttpRequest:
        """Return a new request from the same caller; an item's headers win over `defaults`. Raises `CallerError`."""
        headers = {**defaults, **item.headers}
        content = b""
        if item.has_body:
            content = encode_body(item, headers)
            headers["content-length"] = str(len(content))
        return self._make(item.method, self.allowed.target(item.path), headers, content)

    @abstractmethod
    def _make(self, method: str, target: Target, headers: Mapping[str, str], content: bytes) -> HttpRequest:
        """Return a request; `headers` have lower-case names."""


class ASGIRequestFactory(RequestFactory):
    def __init__(self, request: ASGIRequest, prefixes: Iterable[str]) -> None:
        super().__init__(request, prefixes)
        self.request_class = type(request)
        self.scope = request.scope
        self.shared_headers = [
            (name, value)
            for name, value in request.scope.get("headers", [])
            if name.decode("latin-1").lower() not in PER_REQUEST_HEADERS
        ]

    def _make(self, method: str, target: Target, headers: Mapping[str, str], content: bytes) -> ASGIRequest:
        own = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        overridden = {name for name, _ in own}
        path = self.allowed.script_name.rstrip("/") + target.path_info
        scope = {
            **self.scope,
            "method": method,
            "path": path,
            "raw_path": quote(path, safe=PLAIN).encode("ascii"),
            "query_string": target.query.encode("ascii"),
            "headers": [pair for pair in self.shared_headers if pair[0] not in overridden] + own,
        }
        return self.request_class(scope, BytesIO(content))


class WSGIRequestFactory(RequestFactory):
    def __init__(self, request: WSGIRequest, prefixes: Iterable[str]) -> None:
        super().__init__(request, prefixes)
        self.request_class = type(request)
        self.shared_environ = {name: value for name, value in request.environ.items() if not is_per_request(name)}

    def _make(self, method: str, target: Target, headers: Mapping[str, str], content: bytes) -> WSGIRequest:
        path = quote(self.allowed.script_name.rstrip("/") + target.path_info, safe=PLAIN)
        environ = {
            **self.shared_environ,
            **{variable(name): value for name, value in headers.items()},
            "REQUEST_METHOD": method,
            # PEP 3333: the bytes of the decoded path, each as one character.
            "PATH_INFO": target.path_info.encode().decode("latin-1"),
            "QUERY_STRING": target.query,
            "REQUEST_URI": f"{path}?{target.query}" if target.query else path,
            "wsgi.input": BytesIO(content),
        }
        return self.request_class(environ)


def factory_for(request: HttpRequest, prefixes: Iterable[str]) -> RequestFactory:
    if isinstance(request, ASGIRequest):
        return ASGIRequestFactory(request, prefixes)
    return WSGIRequestFactory(cast(WSGIRequest, request), prefixes)


def is_asgi(request: HttpRequest) -> bool:
    """Tell whether a request's server has an event loop."""
    return isinstance(request, ASGIRequest)


def encode_body(item: ItemRequest, headers: dict[str, str]) -> bytes:
    """Return a body as bytes: JSON, or the string itself where the item's Content-Type is another."""
    kind = headers.setdefault("content-type", "application/json").partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        return json.dumps(item.body, ensure_ascii=False).encode(errors="surrogatepass")
    if not isinstance(item.body, str):
        raise BadItem(f"With the Content-Type {kind} this has to be a string.", field="body")
    return item.body.encode(errors="surrogatepass")


def is_per_request(name: str) -> bool:
    """Tell whether an environment variable belongs to one request and not to its caller."""
    return (name.startswith("HTTP_") and name[5:].lower().replace("_", "-") in PER_REQUEST_HEADERS) or name in {
        *("CONTENT_LENGTH", "CONTENT_TYPE", "RAW_URI", "PATH_TRANSLATED", "wsgi.file_wrapper"),
        *("SCRIPT_URL", "REDIRECT_URL"),  # of Apache's mod_rewrite
    }


def variable(header: str) -> str:
    name = header.upper().replace("-", "_")
    return name if name in ("CONTENT_LENGTH", "CONTENT_TYPE") else f"HTTP_{name}"


# The request of a background batch, stored as JSON until its items are executed.


def dump(request: HttpRequest) -> dict[str, Any]:
    """Return the parts of a background batch's request that its items need."""
    meta = request.META
    return {
        "scheme": request.scheme,
        "server": [meta.get("SERVER_NAME", ""), int(meta.get("SERVER_PORT") or 0)],
        "client": [meta.get("REMOTE_ADDR") or "", int(meta.get("REMOTE_PORT") or 0)],
        "root_path": meta["SCRIPT_NAME"],
        "headers": {name: value for name, value in request.headers.items() if name.lower() in STORED_HEADERS},
    }


def dump_default() -> dict[str, Any]:
    """Return the same for a batch without a request: its items call the first host of ALLOWED_HOSTS."""
    host = next((name.lstrip(".") for name in settings.ALLOWED_HOSTS if name != "*"), "localhost")
    secure = settings.SECURE_SSL_REDIRECT
    return {
        "scheme": "https" if secure else "http",
        "server": [host, 443 if secure else 80],
        "client": ["127.0.0.1", 0],
        "root_path": settings.FORCE_SCRIPT_NAME or "",
        "headers": {"Host": host},
    }


def load(stored: dict[str, Any], prefixes: Iterable[str]) -> RequestFactory:
    """Return the factory of a background batch, which is an ASGI one whatever its server was."""
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in stored["headers"].items()]
    scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/", "query_string": b""}
    return ASGIRequestFactory(ASGIRequest({**scope, **stored, "headers": headers}, BytesIO()), prefixes)
