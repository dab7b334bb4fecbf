"""What the assistant's tests share: a database with the agents of a fresh install, and a scripted model."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.apps import apps
from django.contrib.auth.models import User
from django.db import connection, connections
from django.test import AsyncClient

from assistant.answers.run import registry
from assistant.models import APIKey
from assistant.providers.registry import get_model, load
from tests.processes import data_directory
from tests.upstream import Upstream
from wire.asgi import threads


@pytest.fixture
def db(transactional_db: None) -> Iterator[None]:
    """Commit for real: answers are stored by threads of their own. The agents of a fresh install are there."""
    import_module("assistant.migrations.0003_agents").create(apps, SimpleNamespace(connection=connection))
    yield
    # Where the ORM's async methods run in a test; PostgreSQL keeps a database that somebody is connected to.
    SyncToAsync.single_thread_executor.submit(connections.close_all).result()
    for pool in threads.all_pools():
        pool.disconnect()


class ThreadedClient(AsyncClient):
    """Gives each request a thread of its own for its sync view, as Django's ASGI handler does but not its client."""

    async def request(self, **request: Any) -> Any:
        async with ThreadSensitiveContext():
            try:
                return await super().request(**request)
            finally:
                await asyncio.shield(sync_to_async(connections.close_all)())


@pytest.fixture
def async_client() -> AsyncClient:
    return ThreadedClient()


@pytest.fixture
def ada(db: None) -> User:
    return User.objects.create_user("ada", password="x")


@pytest.fixture
def bob(db: None) -> User:
    return User.objects.create_user("bob", password="x")


@pytest.fixture
def as_ada(ada: User) -> dict[str, str]:
    return {"authorization": f"Bearer {APIKey.issue(user=ada, name='test')[1]}"}


@pytest.fixture
def as_bob(bob: User) -> dict[str, str]:
    return {"authorization": f"Bearer {APIKey.issue(user=bob, name='test')[1]}"}


@pytest.fixture
async def upstream(settings: Any, db: None) -> AsyncIterator[Upstream]:
    """A scripted server that ASSISTANT_MODEL names; `upstream.script` is what it does next."""
    async with Upstream() as server:
        settings.ASSISTANT_MODEL = "openai:test"
        settings.OPENAI_BASE_URL = server.url
        load.cache_clear()
        yield server
        await registry.interrupt_all()
        await get_model("openai:test").aclose()
    load.cache_clear()


@pytest.fixture
def home() -> Iterator[str]:
    """A data directory, and with it a database, that several processes share."""
    with data_directory() as home:
        yield home


@pytest.fixture(scope="module")
def shared_home() -> Iterator[str]:
    with data_directory() as home:
        yield home
