"""The engine and the two kinds of transaction. The `with` is the transaction; nothing else commits.

SQLite runs in WAL with `synchronous=FULL` and foreign keys on; writers take the lock at BEGIN (IMMEDIATE), so a
transaction that read cannot fail at its first write, and commit order is revision order. The driver is pysqlite3: it
brings a SQLite at or past 3.51.3, the first without the WAL-reset corruption that 3.7.0–3.51.2 have.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pysqlite3
from sqlalchemy import Connection, Engine, create_engine, event, func, select
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import DBAPIError
from uuid_utils import uuid7

from rag_service.errors import Overloaded, SchemaOutdated, StorageFull

OLDEST_SQLITE = (3, 51, 3)
_BUSY_TIMEOUT_MS = 30_000


class Database:
    """One engine for the process; `read()` and `write()` are the only ways to a connection."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self.dialect = parsed.get_backend_name()
        if self.dialect == "sqlite":
            _demand_sqlite_with_wal_fix()
            if parsed.database:
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            # Last in, first out: each connection keeps a page cache, and few of them are used if one will do.
            self.engine = create_engine(
                parsed, module=pysqlite3.dbapi2, pool_size=20, max_overflow=60, pool_use_lifo=True
            )
            _tune_sqlite(self.engine)
        else:
            self.engine = create_engine(parsed, isolation_level="REPEATABLE READ")
        event.listen(self.engine, "handle_error", _translate)
        self._glancing = self.engine.execution_options(youju_glance=True)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent snapshot."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def glance(self) -> Iterator[Connection]:
        """For one statement, which is its own snapshot: on SQLite without the two that would make it a transaction."""
        with self._glancing.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Everything or nothing. Raises StorageFull when the disk is, Overloaded when the lock is not to be had."""
        with self.engine.connect() as connection:
            options: dict[str, Any] = {"youju_write": True}
            if self.dialect == "postgresql":
                # Row locks decide the order here; a snapshot from before the lock would fail instead of waiting.
                options["isolation_level"] = "READ COMMITTED"
            connection = connection.execution_options(**options)
            with connection.begin():
                yield connection

    def close(self) -> None:
        self.engine.dispose()


def take_turns(connection: Connection, name: str, *, shared: bool = False) -> None:
    """Wait, until the transaction ends, for everyone who named the same; sharers wait only for those who do not share.

    SQLite's one writer already stands alone.
    """
    if connection.dialect.name == "postgresql":
        lock = func.pg_advisory_xact_lock_shared if shared else func.pg_advisory_xact_lock
        connection.execute(select(lock(func.hashtextextended(name, 0))))


def new_id() -> str:
    """A UUIDv7: opaque to callers, ordered by time for the indexes."""
    return str(uuid7())


def _demand_sqlite_with_wal_fix() -> None:
    found = tuple(int(part) for part in pysqlite3.sqlite_version.split("."))
    if found < OLDEST_SQLITE:
        raise SchemaOutdated(
            f"SQLite {pysqlite3.sqlite_version} can corrupt a WAL database; 3.51.3 or later is needed",
            sqlite=pysqlite3.sqlite_version,
        )


def _tune_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def configure(connection: Any, record: Any) -> None:
        # The driver must not open transactions of its own: `begin` below decides which kind.
        connection.isolation_level = None
        cursor = connection.cursor()
        _use_wal(cursor)
        for pragma in (
            f"busy_timeout = {_BUSY_TIMEOUT_MS}",
            "synchronous = FULL",
            "foreign_keys = ON",
            "cache_size = -16000",
            "mmap_size = 0",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if "youju_glance" not in options:
            connection.exec_driver_sql("BEGIN IMMEDIATE" if "youju_write" in options else "BEGIN")


def _use_wal(cursor: Any) -> None:
    """Processes that open a new database at once all want it for themselves here, and SQLite's own waiting lets two
    of them wait for each other: ask without waiting, and again."""
    deadline = time.monotonic() + _BUSY_TIMEOUT_MS / 1000
    cursor.execute("PRAGMA busy_timeout = 0")
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except pysqlite3.OperationalError as error:
            if "database is locked" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(random.uniform(0.001, 0.02))


def _translate(context: ExceptionContext) -> None:
    """The driver's faults that a caller can act on, by our names."""
    error = context.original_exception
    if not isinstance(context.sqlalchemy_exception, DBAPIError):
        return
    message = str(error)
    if "database or disk is full" in message or "No space left on device" in message:
        raise StorageFull("the database cannot grow: no space left in the data folder") from error
    if "database is locked" in message:
        raise Overloaded("the database stayed locked", retry_after_seconds=5) from error
    if "deadlock detected" in message:
        raise Overloaded("two transactions waited for each other", retry_after_seconds=1) from error
