"""A running batch over its WebSocket, as the admin's page watches it."""

import asyncio
import json
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import Permission, User
from django.test import Client

from batching.api import progress
from batching.inspection import consumer
from batching.models import Batch
from batching.routing import websocket_urlpatterns
from tests.batching.factories import BEGAN, QUEUED, background, running
from wire.asgi import draining

pytestmark = pytest.mark.usefixtures("committed")

application = URLRouter(websocket_urlpatterns)
PATIENCE = 10


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PACE", 0.02)


@asynccontextmanager
async def connected(path: str, **headers: str):
    pairs = [(name.encode(), value.encode()) for name, value in {"host": "testserver", **headers}.items()]
    socket = WebsocketCommunicator(application, path, headers=pairs)
    try:
        accepted, _ = await socket.connect(PATIENCE)
        yield socket if accepted else None
    finally:
        await socket.disconnect(timeout=PATIENCE)


@sync_to_async
def cookie(*permissions: str, is_staff: bool = True) -> str:
    user = User.objects.create_user("viewer", is_staff=is_staff)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return f"sessionid={client.cookies['sessionid'].value}"


def path_of(batch: Batch) -> str:
    return f"/ws/batches/{batch.pk}"


async def hear(socket: Any) -> dict[str, Any]:
    return json.loads(await socket.receive_from(PATIENCE))


async def hear_until(socket: Any, condition: Any) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE):
        while not condition(state := await hear(socket)):
            pass
    return state


async def closed_with(socket: Any) -> int:
    """Return the close code, after any number of messages."""
    async with asyncio.timeout(PATIENCE):
        while (message := await socket.receive_output(PATIENCE))["type"] != "websocket.close":
            pass
    return message.get("code", 1000)


@sync_to_async
def end(batch: Batch) -> None:
    batch.status, batch.finished_at, batch.succeeded = Batch.Status.COMPLETED, BEGAN, 1
    batch.save()


async def test_it_tells_how_far_a_batch_is_until_its_end() -> None:
    batch = await sync_to_async(running)(QUEUED)
    async with connected(path_of(batch), cookie=await cookie("view_batch")) as socket:
        state = await hear(socket)
        assert (state["batch_id"], state["status"], state["counts"]["queued"]) == (batch.pk, "running", 1)
        await end(batch)
        state = await hear_until(socket, lambda state: state["is_final"])
        assert (state["status"], state["counts"]["succeeded"], state["counts"]["queued"]) == ("completed", 1, 0)
        assert await closed_with(socket) == 1000


async def test_of_a_batch_that_has_ended_it_tells_once() -> None:
    batch = await sync_to_async(background)({})
    async with connected(path_of(batch), cookie=await cookie("view_batch")) as socket:
        assert (await hear(socket))["is_final"]
        assert await closed_with(socket) == 1000


@pytest.mark.parametrize("origin", ["http://testserver", None])
async def test_pages_from_here_and_programs_may_look(origin: str | None) -> None:
    batch = await sync_to_async(running)(QUEUED)
    headers = {"origin": origin} if origin else {}
    async with connected(path_of(batch), cookie=await cookie("view_batch"), **headers) as socket:
        assert await hear(socket)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://testserver"])
async def test_another_sites_page_may_not_look(origin: str) -> None:
    batch = await sync_to_async(running)(QUEUED)
    async with connected(path_of(batch), cookie=await cookie("view_batch"), origin=origin) as socket:
        assert socket is None


@pytest.mark.parametrize(
    ("permissions", "is_staff"), [(["view_batch"], False), ([], True), (["operate_batch", "view_batchitem"], True)]
)
async def test_only_staff_who_may_view_batches_may_look(permissions: list[str], is_staff: bool) -> None:
    batch = await sync_to_async(running)(QUEUED)
    async with connected(path_of(batch), cookie=await cookie(*permissions, is_staff=is_staff)) as socket:
        assert socket is None


async def test_who_has_not_signed_in_may_not_look() -> None:
    async with connected(path_of(await sync_to_async(running)(QUEUED))) as socket:
        assert socket is None


async def test_there_is_nothing_to_look_at_where_there_is_no_batch() -> None:
    async with connected("/ws/batches/batch_none", cookie=await cookie("view_batch")) as socket:
        assert socket is None


async def test_who_may_no_longer_look_is_told_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "CHECK_PERMISSION_EVERY", 3)
    batch = await sync_to_async(running)(QUEUED)
    async with connected(path_of(batch), cookie=await cookie("view_batch")) as socket:
        await hear(socket)
        await sync_to_async(User.objects.update)(is_active=False)
        assert await closed_with(socket) == 1008


async def test_a_batch_that_is_deleted_ends_it() -> None:
    batch = await sync_to_async(running)(QUEUED)
    async with connected(path_of(batch), cookie=await cookie("view_batch")) as socket:
        await hear(socket)
        await sync_to_async(Batch.objects.all().delete)()
        assert await closed_with(socket) == 1000


async def test_a_process_that_is_to_stop_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = await sync_to_async(running)(QUEUED)
    async with connected(path_of(batch), cookie=await cookie("view_batch")) as socket:
        await hear(socket)
        monkeypatch.setattr(draining.started, "is_set", True)
        assert await closed_with(socket) == 1012


async def test_a_page_that_leaves_ends_the_look_out() -> None:
    batch = await sync_to_async(running)(QUEUED)
    async with connected(path_of(batch), cookie=await cookie("view_batch")) as socket:
        await hear(socket)
        assert watching() == 1
    assert watching() == 0


def watching() -> int:
    return sum(task.get_coro().__qualname__ == "BatchConsumer.watch" for task in asyncio.all_tasks())
