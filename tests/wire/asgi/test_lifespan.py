import asyncio
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from wire.asgi.lifespan import ASGIMessage, Lifespan, LifespanManager, Receive, Send, StartupFailed
from wire.errors import WireError


def hooks(calls: list[str], failing: str | None = None, error: Exception | None = None) -> Lifespan:
    async def startup() -> None:
        calls.append("startup")
        if failing == "startup" and error:
            raise error

    async def shutdown() -> None:
        calls.append("shutdown")
        if failing == "shutdown" and error:
            raise error

    return Lifespan(startup, shutdown)


async def test_startup_and_shutdown_run_once_each_and_in_order() -> None:
    calls: list[str] = []
    manager = LifespanManager(hooks(calls))
    await manager.startup()
    assert calls == ["startup"]
    await manager.shutdown()
    assert calls == ["startup", "shutdown"]
    assert manager.task.done()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ImproperlyConfigured("PORT can't be x."), "PORT can't be x."),
        (WireError("The model failed."), "The model failed."),
        (KeyError("name"), "KeyError: 'name'"),
    ],
)
async def test_a_failing_startup_says_why(error: Exception, sentence: str) -> None:
    with pytest.raises(StartupFailed, match=sentence.replace(".", r"\.")):
        await LifespanManager(hooks([], "startup", error)).startup()


async def test_the_cause_of_a_failing_startup_is_told() -> None:
    error = WireError("The model failed.")
    error.__cause__ = OSError("no such file")
    with pytest.raises(StartupFailed, match=r"The model failed\. \(no such file\)"):
        await LifespanManager(hooks([], "startup", error)).startup()


async def test_a_failing_shutdown_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    manager = LifespanManager(hooks([], "shutdown", WireError("It would not stop.")))
    await manager.startup()
    await manager.shutdown()
    assert "reason=It would not stop." in caplog.text


async def test_an_application_without_lifespan_is_served_all_the_same() -> None:
    async def application(scope: ASGIMessage, receive: Receive, send: Send) -> None:
        raise ValueError(scope["type"])

    manager = LifespanManager(application)
    await manager.startup()
    await manager.shutdown()


async def test_an_application_that_returns_at_once_is_served_all_the_same() -> None:
    async def application(scope: ASGIMessage, receive: Receive, send: Send) -> None: ...

    manager = LifespanManager(application)
    await manager.startup()
    await manager.shutdown()


async def test_startup_waits_for_the_application() -> None:
    ready = asyncio.Event()
    manager = LifespanManager(Lifespan(wait(ready), wait(ready)))
    starting: asyncio.Task[Any] = asyncio.create_task(manager.startup())
    await asyncio.sleep(0)
    assert not starting.done()
    ready.set()
    await starting
    await manager.shutdown()


def wait(event: asyncio.Event) -> Any:
    async def hook() -> None:
        await event.wait()

    return hook
