"""System checks of a project that serves batches."""

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router
from django.utils.module_loading import import_string

from batching.conf import BatchingSettings, get_settings
from wire.extras import advice, is_installed


@register("batching")
def check_settings(**kwargs: Any) -> list[CheckMessage]:
    try:
        get_settings()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="batching.E001")]
    return []


@register("batching")
def check_apps(**kwargs: Any) -> list[CheckMessage]:
    if apps.is_installed("rest_framework"):
        return []
    return [Error("batching needs rest_framework.", hint="Add it to INSTALLED_APPS.", id="batching.E002")]


@register("batching")
def check_celery(**kwargs: Any) -> list[CheckMessage]:
    name = getattr(settings, "BATCH_CELERY_APP", "")
    if name and not is_installed("celery"):
        return [Error(f"BATCH_CELERY_APP {advice('celery')}.", id="batching.E004")]
    try:
        if name:
            import_string(name)
    except (ImportError, ImproperlyConfigured) as error:
        return [Error(f"BATCH_CELERY_APP can't be {name!r}: {error}", id="batching.E003")]
    return []


@register("batching")
def check_database(**kwargs: Any) -> list[CheckMessage]:
    """Check whether the database suits items that run side by side in threads."""
    from batching.models import Batch

    database = connections[router.db_for_write(Batch)].settings_dict
    try:
        threads = threads_of(get_settings())
    except ImproperlyConfigured:
        return []
    sqlite = "sqlite3" in database["ENGINE"] or "spatialite" in database["ENGINE"]
    return list(sqlite_warnings(database) if sqlite else connection_warnings(database, threads))


def sqlite_warnings(database: dict[str, Any]) -> Iterator[CheckMessage]:
    name = str(database["NAME"])
    if ":memory:" in name or "mode=memory" in name:
        yield checks.Warning(
            "The database is in memory, where the threads of items can't see it.",
            hint="Use a file as the database.",
            id="batching.W001",
        )
    if database.get("OPTIONS", {}).get("transaction_mode") is None:
        yield checks.Warning(
            "On SQLite, items that write side by side fail with 'database is locked'.",
            hint='Set OPTIONS to {"transaction_mode": "IMMEDIATE", "timeout": 20}.',
            id="batching.W002",
        )
    if database["ATOMIC_REQUESTS"]:
        yield checks.Warning(
            "With ATOMIC_REQUESTS on SQLite, a transaction for each item makes the items wait for each other.",
            hint="Use another database, or turn ATOMIC_REQUESTS off.",
            id="batching.W003",
        )


def threads_of(settings: BatchingSettings) -> int:
    """Return how many threads of a server use the database for batches: one per item, and one for each kind of rows."""
    in_background = settings.BATCH_BACKGROUND_CONCURRENCY + 1 if settings.BATCH_RUN_IN_SERVER else 0
    return settings.BATCH_CONCURRENCY + 1 + in_background


def connection_warnings(database: dict[str, Any], threads: int) -> Iterator[CheckMessage]:
    pool = database.get("OPTIONS", {}).get("pool")
    if pool and (size := pool_size(pool)) < threads:
        yield checks.Warning(
            f"Items that run side by side need up to {threads} connections; the pool has {size}.",
            hint='Raise max_size in OPTIONS["pool"], or lower BATCH_CONCURRENCY and BATCH_BACKGROUND_CONCURRENCY.',
            id="batching.W004",
        )
    if database["CONN_MAX_AGE"] != 0:
        yield checks.Warning(
            f"With CONN_MAX_AGE, each of the {threads} threads for batches keeps a connection of its own open.",
            hint='Use OPTIONS["pool"] instead, or let the database have that many connections.',
            id="batching.W005",
        )


def pool_size(pool: Any) -> int:
    """Return how many connections psycopg's pool may have; the default is four."""
    options = pool if isinstance(pool, dict) else {}
    return int(options.get("max_size") or options.get("min_size", 4))
