from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pysqlite3
import pytest
from sqlalchemy import event, text

from rag_service.db import sessions
from rag_service.db.sessions import OLDEST_SQLITE, Database, new_id
from rag_service.errors import Overloaded, SchemaOutdated, StorageFull


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'folder' / 'it.sqlite'}")
    with opened.write() as connection:
        connection.execute(text("CREATE TABLE numbers (n INTEGER)"))
        connection.execute(text("CREATE TABLE parents (id INTEGER PRIMARY KEY)"))
        connection.execute(text("CREATE TABLE children (parent INTEGER REFERENCES parents(id))"))
    yield opened
    opened.close()


def numbers(database: Database) -> list[int]:
    with database.read() as connection:
        return list(connection.scalars(text("SELECT n FROM numbers ORDER BY n")))


def add(database: Database, n: int) -> None:
    with database.write() as connection:
        connection.execute(text("INSERT INTO numbers VALUES (:n)"), {"n": n})


@pytest.mark.parametrize("kind", ["read", "write"])
def test_every_connection_has_the_settings_that_keep_data_safe(database: Database, kind: str) -> None:
    with getattr(database, kind)() as connection:
        found = {name: connection.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous")}
        found |= {name: connection.scalar(text(f"PRAGMA {name}")) for name in ("foreign_keys", "busy_timeout")}
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}


def test_the_sqlite_in_force_has_the_wal_fix(database: Database) -> None:
    with database.read() as connection:
        version = str(connection.scalar(text("SELECT sqlite_version()")))
    assert tuple(int(part) for part in version.split(".")) >= OLDEST_SQLITE == (3, 51, 3)


def test_a_sqlite_that_can_corrupt_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pysqlite3, "sqlite_version", "3.51.2")
    with pytest.raises(SchemaOutdated, match=r"SQLite 3\.51\.2"):
        Database(f"sqlite:///{tmp_path / 'it.sqlite'}")


def test_foreign_keys_are_enforced(database: Database) -> None:
    with pytest.raises(Exception, match="FOREIGN KEY"), database.write() as connection:
        connection.execute(text("INSERT INTO children VALUES (1)"))


def test_a_failed_write_leaves_nothing(database: Database) -> None:
    def half() -> None:
        with database.write() as connection:
            connection.execute(text("INSERT INTO numbers VALUES (1)"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert numbers(database) == []


def test_a_read_sees_one_state_however_long_it_takes(database: Database) -> None:
    add(database, 1)
    with database.read() as connection:
        count = text("SELECT count(*) FROM numbers")
        assert connection.scalar(count) == 1
        add(database, 2)
        assert connection.scalar(count) == 1
    assert numbers(database) == [1, 2]


def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("INSERT INTO numbers VALUES (1)"))
        assert numbers(database) == []


def test_a_writer_that_read_first_never_fails_at_its_first_write(database: Database) -> None:
    """With a deferred BEGIN, read-then-write in two threads ends in SQLITE_BUSY_SNAPSHOT for one of them."""

    def increment() -> None:
        for _ in range(25):
            with database.write() as connection:
                highest = connection.scalar(text("SELECT coalesce(max(n), 0) FROM numbers"))
                connection.execute(text("INSERT INTO numbers VALUES (:n)"), {"n": highest + 1})

    threads = [threading.Thread(target=increment) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert numbers(database) == list(range(1, 151))


def test_a_lock_that_is_not_to_be_had_is_overload_and_harms_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "_BUSY_TIMEOUT_MS", 50)
    impatient = Database(str(database.engine.url))
    with database.write(), pytest.raises(Overloaded) as raised:
        add(impatient, 1)
    assert raised.value.data["retry_after_seconds"] == 5
    add(impatient, 2)
    assert numbers(impatient) == [2]
    impatient.close()


def test_a_full_disk_is_named_and_harms_nothing(database: Database) -> None:
    full = Database(str(database.engine.url))

    @event.listens_for(full.engine, "connect")
    def shrink(connection: object, record: object) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # type: ignore[attr-defined]

    with pytest.raises(StorageFull), full.write() as connection:
        connection.execute(
            text("INSERT INTO numbers SELECT value FROM json_each(:many)"), {"many": str(list(range(9_999)))}
        )
    assert numbers(full) == []
    add(database, 1)
    full.close()


def test_ids_are_unique_and_in_order_of_time() -> None:
    ids = [new_id() for _ in range(1_000)]
    assert sorted(set(ids)) == ids
