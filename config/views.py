"""The service's home page and its readiness."""

import logging
from collections.abc import Awaitable, Callable

from asgiref.sync import sync_to_async
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from assistant.cluster import sharing
from assistant.conf import get_settings
from assistant.providers.registry import get_model
from wire.asgi import draining

logger = logging.getLogger(__name__)


def home(request: HttpRequest) -> HttpResponse:
    return render(request, "home.html")


async def readyz(request: HttpRequest) -> JsonResponse:
    """Return 200 if the database, the model and Redis (where it is used) respond, otherwise 503; 503 while it stops."""
    if draining.started.is_set:
        return JsonResponse({"status": "stopping"}, status=503)
    missing = [name for name, check in CHECKS.items() if not await passes(name, check)]
    if missing:
        return JsonResponse({"status": "unavailable", "missing": missing}, status=503)
    return JsonResponse({"status": "ok"})


async def passes(name: str, check: Callable[[], Awaitable[None]]) -> bool:
    try:
        await check()
    except Exception:  # any error means that the service isn't ready
        logger.exception("check=%s state=failed", name)
        return False
    return True


async def database() -> None:
    await sync_to_async(query)()


def query() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


async def model() -> None:
    await get_model(get_settings().ASSISTANT_MODEL).start()


async def redis() -> None:
    if sharing.is_on():
        await sharing.check()


CHECKS = {"database": database, "model": model, "redis": redis}
