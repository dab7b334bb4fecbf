"""Writes many rows of a model by statements that are cheap to build.

`bulk_create` and `bulk_update` took 6 ms of CPU for the ten items of a batch, three times as much as a whole request:
they compile an expression for each value. These take half a millisecond.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from django.db import connections, models, router

# Rows of one statement: none holds its locks for long.
SLICE = 500

Names = tuple[str, ...]
Rows = Iterable[Sequence[Any]]


class Table:
    """The table of a model. Names are those of its columns, such as `owner_id`."""

    def __init__(self, model: type[models.Model]) -> None:
        self.model = model
        self.name = model._meta.db_table
        self.columns = {field.attname: field for field in model._meta.concrete_fields}

    @property
    def connection(self) -> Any:
        return connections[router.db_for_write(self.model)]

    def insert(self, names: Names, rows: Rows) -> None:
        """Insert rows that hold the columns of `names`, in that order."""
        quote = self.connection.ops.quote_name
        columns, places = ", ".join(map(quote, names)), ", ".join(["%s"] * len(names))
        self.write(f"INSERT INTO {quote(self.name)} ({columns}) VALUES ({places})", names, rows)  # noqa: S608  # our names

    def finish(self, names: Names, where: Names, rows: Rows) -> int:
        """Update rows that aren't finished yet: each holds the columns of `names`, then those that find it (`where`).

        Returns the number of rows found.
        """
        return self.write(self.finish_sql(names, where), names + where, rows)

    def finish_sql(self, names: Names, where: Names) -> str:
        quote = self.connection.ops.quote_name
        values = ", ".join(f"{quote(name)} = %s" for name in names)
        condition = " AND ".join(f"{quote(name)} = %s" for name in where)
        return f"UPDATE {quote(self.name)} SET {values} WHERE {condition} AND {quote('finished_at')} IS NULL"  # noqa: S608  # our names

    def finish_one(self, names: Names, where: Names, also: str, row: Sequence[Any]) -> bool:
        """Update a row as `finish` does, if `also` (SQL) holds; return whether it was found."""
        return self.write(f"{self.finish_sql(names, where)} AND {also}", names + where, [row]) == 1

    def write(self, sql: str, names: Names, rows: Rows) -> int:
        connection = self.connection
        adapters = [adapter(self.columns[name], connection) for name in names]
        with connection.cursor() as cursor:
            cursor.executemany(sql, [adapt_row(row, adapters) for row in rows])
            return int(cursor.rowcount)


Adapter = Callable[[Any], Any] | None


def adapter(column: Any, connection: Any) -> Adapter:
    """Return a function that converts a column's values for the database's driver; None where it takes them as is."""
    match column:
        case models.JSONField():
            return lambda value: connection.ops.adapt_json_value(value, column.encoder)
        case models.DateTimeField():
            adapt: Adapter = connection.ops.adapt_datetimefield_value
            return adapt
        case models.ForeignKey():
            return adapter(column.target_field, connection)
        case models.UUIDField():  # a project's users may have such keys
            return lambda value: column.get_db_prep_value(value, connection)
        case _:
            return None


def adapt_row(row: Sequence[Any], adapters: Sequence[Adapter]) -> list[Any]:
    return [
        value if adapt is None or value is None else adapt(value) for value, adapt in zip(row, adapters, strict=True)
    ]
