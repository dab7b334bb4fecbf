"""A query for one row whose SQL is made once.

Django makes it anew for each call, which takes several times as long as to run it where rows are joined.
"""

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, cast

from django.db import connections, router
from django.db.models import Model, QuerySet
from django.db.models.query import ModelIterable

# Stands for the value while the SQL is made.
MARK = "a value to come"


class PreparedQuery[M: Model]:
    """Finds a row of `model` by one text; `rows` returns the query for it, and is asked once for each database.

    The query may depend on nothing but the text, and may have no moment in it: what it had at first stays.
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
        compiler.connection = None  # it is this thread's, and ends with it
        self._compiled[alias] = compiler, sql, params
        return self._compiled[alias]


class BoundQuery:
    """As much of Django's `Query` as one that is compiled needs, to be run by the thread that asks."""

    def __init__(self, compiler: Any, sql: str, params: Sequence[Any]) -> None:
        self._compiler = compiler
        self._ready = sql, params

    def get_compiler(self, using: str) -> Any:
        compiler = copy(self._compiler)
        compiler.connection = connections[using]
        compiler.as_sql = lambda: self._ready
        return compiler
