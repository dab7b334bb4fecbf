"""What the tests of batches share: a host project with nothing but `batching`, called over HTTP."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import SyncToAsync, async_to_sync
from django.conf import settings
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import connections
from django.test import AsyncClient, Client
from django.urls import reverse

from batching.models import Batch
from tests.host import views
from tests.waits import until
from wire.asgi import threads

# They want the host project: pytest --ds=tests.host.settings tests/batching
collect_ignore_glob = [] if settings.ROOT_URLCONF == "tests.host.urls" else ["test_*.py", "*/test_*.py"]

Send = Callable[..., Any]


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Let no view of one test run on into the next."""
    views.seen.clear()
    cache.clear()
    yield
    until(lambda: count("began") == count("ended", "cancelled"))


def count(*endings: str) -> int:
    return sum(one.endswith(endings) for one in views.seen)


@pytest.fixture
def admin(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root", password="x"))
    return client


@pytest.fixture
def committed(transactional_db: None) -> Iterator[None]:
    """Commit for real: items run in threads of their own."""
    yield
    let_go()


def let_go() -> None:
    """Close the connections of threads that a test has used: PostgreSQL keeps a database that somebody is in."""
    for pool in threads.all_pools():
        pool.disconnect()
    SyncToAsync.single_thread_executor.submit(connections.close_all).result(5)


def page_of(batch: Batch) -> str:
    """Return where the admin shows the batch."""
    return reverse("admin:batching_batch_change", args=[quote(batch.pk)])


def wsgi(method: str, path: str, data: Any = None, **options: Any) -> Any:
    """Send a request to the project as a WSGI server would; `took` is how many seconds the answer took."""
    began = time.monotonic()
    response: Any = Client(raise_request_exception=False).generic(
        method, path, encoded(data), **with_type(data, options)
    )
    response.took = time.monotonic() - began
    return response


def asgi(method: str, path: str, data: Any = None, **options: Any) -> Any:
    """Send a request to the project as an ASGI server would; `took` is how many seconds the answer took."""

    async def sent() -> Any:
        began = time.monotonic()
        client: Any = with_cookies(AsyncClient(raise_request_exception=False), options)
        response = await client.generic(method, path, encoded(data), **with_type(data, options))
        response.took = time.monotonic() - began
        return response

    return async_to_sync(sent)()


def encoded(data: Any) -> str:
    """Return a body as JSON; a string as it is."""
    return "" if data is None else data if isinstance(data, str) else json.dumps(data)


def with_cookies(client: Any, options: dict[str, Any]) -> Any:
    """Give a client the cookies of the headers: beside it, it would send an empty header of its own."""
    options["headers"] = dict(options.get("headers", {}))
    client.cookies.load(options["headers"].pop("cookie", ""))
    return client


def with_type(data: Any, options: dict[str, Any]) -> dict[str, Any]:
    return options if data is None else {"content_type": "application/json", **options}


@pytest.fixture(params=[wsgi, asgi], ids=["wsgi", "asgi"])
def send(request: pytest.FixtureRequest, committed: None) -> Send:
    """Send a request, once through WSGI and once through ASGI."""
    sender: Send = request.param
    return sender


def item(path: str, method: str = "GET", **fields: Any) -> dict[str, Any]:
    return {"id": fields.pop("id", path), "method": method, "path": path, **fields}


def answers(response: Any) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.content
    responses: list[dict[str, Any]] = response.json()["responses"]
    return responses


def answer(send: Send, path: str, method: str = "GET", **fields: Any) -> dict[str, Any]:
    """Return how the only item of a batch is answered."""
    return answers(send("POST", "/api/batch", {"requests": [item(path, method, **fields)]}))[0]


@pytest.fixture
def atomic() -> Iterator[None]:
    """Switch ATOMIC_REQUESTS on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
        yield
