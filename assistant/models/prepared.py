"""A query for one row whose SQL is compiled once.

Django compiles it for each call, which takes several times as long as running it if rows are joined.
"""

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, cast

from django.db import connections, router
from django.db.models import Model, QuerySet
from django.db.models.query import ModelIterable

# Stands for the value while the SQL is compiled.
MARK = "a value to come"


class PreparedQuery[M: Model]:
    """Finds a row of `model` by one text; `rows` returns the query for it, and is called once per database.

    The query may depend on the text alone, and not on the current time, which would stay that of the first call.
    """

    def __init__(self, model: type[M], rows: Callable[[str], QuerySet[M]]) -> None:
        self._model = model
        self._rows = rows
        self._compiled: dict[str, tuple[Any, str, Sequence[Any]]] = {}

    def __call__(self, value: str) -> M | None:
        """Return the row, or None."""
        alias = router.db_for_read(self._model)
        compiler, sql, params = self._compiled.get(alias) or self._compile(alias)
        query = BoundQuery(compiler, sql, tuple(value if one == MARK else one for one in params))
        rows: QuerySet[M] = QuerySet(self._model, query=cast(Any, query), using=alias)
        return next(iter(ModelIterable(rows)), None)

    def _compile(self, alias: str) -> tuple[Any, str, Sequence[Any]]:
        compiler = self._rows(MARK).using(alias).order_by()[:1].query.get_compiler(using=alias)
        sql, params = compiler.as_sql()
        compiler.connection = None  # it belongs to this thread, and ends with it
        self._compiled[alias] = compiler, sql, params
        return self._compiled[alias]


class BoundQuery:
    """The part of Django's `Query` that a compiled query needs, run on the calling thread's connection."""

    def __init__(self, compiler: Any, sql: str, params: Sequence[Any]) -> None:
        self._compiler = compiler
        self._ready = sql, params

    def get_compiler(self, using: str) -> Any:
        compiler = copy(self._compiler)
        compiler.connection = connections[using]
        compiler.as_sql = lambda: self._ready
        return compiler
