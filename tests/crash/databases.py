"""The databases under test, looked at from outside of Django: rows, transitions noted by triggers, outages."""

import os
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import psycopg

WATCHED = "state, fence, status, response_body, finished_at"
TRANSITION = (
    "(item_id, batch_id, state_before, state_after, fence_before, fence_after) "
    "VALUES (NEW.id, NEW.batch_id, OLD.state, NEW.state, OLD.fence, NEW.fence)"
)
COLUMNS = (
    "item_id BIGINT, batch_id TEXT, state_before TEXT, state_after TEXT, fence_before INTEGER, fence_after INTEGER"
)


class Sqlite:
    """A file."""

    outages: dict[str, int] = {}

    def __init__(self, directory: Path) -> None:
        self.file = directory / "db.sqlite3"
        self.url = f"sqlite:///{self.file}"

    def watch(self) -> None:
        """Have every change of an item's state noted down, in the transaction that changes it."""
        self.connection = sqlite3.connect(self.file, timeout=20, isolation_level=None)
        self.do(f"CREATE TABLE crash_transition (n INTEGER PRIMARY KEY, {COLUMNS})")
        self.do(
            f"CREATE TRIGGER crash_watch AFTER UPDATE OF {WATCHED} ON batching_batchitem "
            f"BEGIN INSERT INTO crash_transition {TRANSITION}; END"
        )

    def do(self, statement: str) -> None:
        self.connection.execute(statement)

    def rows(self, query: str) -> list[Any]:
        return self.connection.execute(query).fetchall()


class Postgres:
    """A server of this machine, reached by the socket in its own directory, as `scripts/with_postgres` makes one."""

    outages = {"crash": 6, "outage": 2}

    def __init__(self, directory: Path) -> None:
        self.url = os.environ["DATABASE_URL"]
        found = re.fullmatch(r"postgres://(\w+)@([^/]+)/(\w+)", self.url)
        assert found, "This wants scripts/with_postgres."
        self.user, self.home, self.name = found[1], Path(unquote(found[2])), found[3]
        self.connection: psycopg.Connection | None = None

    def watch(self) -> None:
        for statement in (
            f"CREATE TABLE crash_transition (n BIGSERIAL PRIMARY KEY, {COLUMNS})",
            "CREATE FUNCTION crash_note() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN INSERT INTO crash_transition {TRANSITION}; RETURN NULL; END $$",
            f"CREATE TRIGGER crash_watch AFTER UPDATE OF {WATCHED} ON batching_batchitem "
            "FOR EACH ROW EXECUTE FUNCTION crash_note()",
        ):
            self.do(statement)

    def do(self, statement: str) -> None:
        self.connected().execute(statement)

    def connected(self) -> psycopg.Connection:
        if self.connection is None or self.connection.closed:
            self.connection = psycopg.connect(host=str(self.home), user=self.user, dbname=self.name, autocommit=True)
        return self.connection

    def rows(self, query: str) -> list[Any]:
        """Look until the server is there."""
        end = time.monotonic() + 30
        while True:
            try:
                return self.connected().execute(query).fetchall()
            except psycopg.OperationalError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)

    def crash(self) -> None:
        """Kill the process of one connection, upon which the server drops them all and recovers."""
        with suppress(psycopg.OperationalError, ProcessLookupError):
            mine = self.connected().execute("SELECT pid FROM pg_stat_activity WHERE datname = %s", [self.name])
            os.kill(mine.fetchall()[-1][0], signal.SIGKILL)

    @contextmanager
    def gone(self) -> Iterator[None]:
        """Stop the server at once, and start it again after the block."""
        self.control("-m", "immediate", "stop")
        try:
            yield
        finally:
            self.control("-l", "server", "-o", f"-k {self.home} -c listen_addresses= -c fsync=off", "start")

    def control(self, *arguments: str) -> None:
        """Call pg_ctl, which lies beside the server's program, as whom the data belongs to."""
        data = (self.home / "data").stat()
        if not hasattr(self, "program"):
            self.program = Path((self.home / "data/postmaster.opts").read_text().split()[0]).with_name("pg_ctl")
        subprocess.run(
            [self.program, "-D", "data", "-w", *arguments],
            cwd=self.home,
            user=data.st_uid,
            group=data.st_gid,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )


DATABASES = {"sqlite": Sqlite, "postgres": Postgres, "celery": Postgres}
