from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.operations import Operations
from sqlalchemy import MetaData, inspect, select, text

from rag_service.db import schema
from rag_service.db.sessions import Database
from rag_service.db.tables import metadata
from rag_service.errors import SchemaOutdated

HEAD = "0008"


@pytest.fixture
def database(empty_database_url: str) -> Iterator[Database]:
    opened = Database(empty_database_url)
    yield opened
    opened.close()


def shape_of(database: Database) -> dict[str, object]:
    """Columns, keys, constraints and indexes of every table, as the database itself tells them."""
    shape: dict[str, object] = {}
    with database.read() as connection:
        found = inspect(connection)
        for table in found.get_table_names():
            columns = [{**column, "type": str(column["type"])} for column in found.get_columns(table)]
            checks = sorted(str(check["name"]) for check in found.get_check_constraints(table))
            uniques = sorted(str(unique["name"]) for unique in found.get_unique_constraints(table))
            indexes = sorted(map(_index, found.get_indexes(table)))
            keys = sorted(str(key) for key in found.get_foreign_keys(table))
            shape[table] = (columns, str(found.get_pk_constraint(table)), checks, uniques, indexes, keys)
    return shape


def _index(found: Any) -> str:
    conditions = {name: str(value) for name, value in found.get("dialect_options", {}).items()}
    return f"{found['name']} {found['column_names']} {found['unique']} {conditions}"


def test_up_down_and_up_again_ends_where_the_first_up_did(database: Database) -> None:
    schema.upgrade(database)
    first = shape_of(database)
    assert metadata.tables.keys() <= first.keys()
    schema.downgrade(database, "base")
    assert shape_of(database).keys() == {"alembic_version"}
    schema.upgrade(database)
    assert shape_of(database) == first


def test_the_migrations_make_exactly_the_tables_of_the_code(database: Database) -> None:
    schema.upgrade(database)
    with database.write() as connection:
        command.check(schema.configuration(connection))


def test_what_is_stored_survives_the_way_up_and_down(database: Database) -> None:
    schema.upgrade(database, "0001")
    with database.write() as connection:
        for statement in STORED_AT_0001:
            connection.execute(text(statement))
    before = contents(database)

    schema.upgrade(database, "0002")
    added = contents(database)
    schema.downgrade(database, "0001")

    assert contents(database) == before
    [row] = added["answers"]
    assert (row["retrieval_query"], row["history"], row["given"]) == ("有几天年假？", [], [])
    assert row["base_revision"] == {}
    assert (row["reply"], row["sampling"], row["asked_language"]) == (None, None, None)
    assert added["refusals"] == [{"knowledge_base_id": kb, "answer_id": "a"} for kb in ("k1", "k2")]


STORED_AT_0001 = (
    "INSERT INTO conversations VALUES ('c', 'default', 'title', '[]', 1.0)",
    "INSERT INTO answers VALUES ('a', 'default', 'c', '有几天年假？', '[\"k1\", \"k2\", \"k1\"]', 'refused',"
    " 'no_evidence', 'text', 'zh', 'extractive', '{}', '{}', '{}', NULL, 2.0)",
    "INSERT INTO messages (conversation_id, role, content, answer_id, created_at)"
    " VALUES ('c', 'assistant', 'text', 'a', 2.0)",
    "INSERT INTO citations VALUES ('a', 0, 1, 'd', 1, 'f', 7, NULL, '[]', 0, 1, 'q', 0, 1, 'supported', 0.5)",
    "INSERT INTO answer_passages VALUES ('a', 0, 7, 'd', 1, 0.1, 0.2, 0.3)",
    "INSERT INTO packing_reports VALUES ('a', '{}', 'x')",
    "INSERT INTO feedback VALUES ('a', 1, NULL, '[]', 3.0)",
)


def test_vectors_survive_getting_a_key_of_two_columns_and_are_counted(database: Database) -> None:
    schema.upgrade(database, "0004")
    with database.write() as connection:
        for statement in STORED_AT_0004:
            connection.execute(text(statement))
        for chunk_id in (1, 2, 3):
            values = {"chunk": chunk_id, "vector": bytes(range(24)) * chunk_id, "hash": f"{chunk_id:064}"}
            if chunk_id == 2:
                values |= {"vector": bytes(24)}
            connection.execute(text("INSERT INTO vectors VALUES (:chunk, 'use-multilingual', :vector, :hash)"), values)
    before = contents(database)

    schema.upgrade(database, "0005")
    after = contents(database)
    with database.write() as connection:
        connection.execute(text("INSERT INTO vectors VALUES (1, 'another', :vector, NULL)"), {"vector": bytes(8)})
        connection.execute(text("DELETE FROM chunks WHERE id = 2"))
    changed = contents(database)
    schema.downgrade(database, "0004")
    back = contents(database)

    assert {name: rows for name, rows in after.items() if name in before} == before
    generation = {"embedder": "use-multilingual", "answered": 1}
    assert [(row["knowledge_base_id"], row["dimensions"]) for row in after["generations"]] == [
        ("compacted", 512), ("first", 12), ("second", 36)
    ]  # fmt: skip
    assert all(row.items() >= generation.items() for row in after["generations"])
    # A chunk takes all its vectors with it, as before; and only what answers goes down again.
    assert [(row["chunk_id"], row["embedder"]) for row in changed["vectors"]] == [
        (1, "another"), (1, "use-multilingual"), (3, "use-multilingual")
    ]  # fmt: skip
    assert back["vectors"] == [row for row in before["vectors"] if row["chunk_id"] != 2]


STORED_AT_0004 = (
    *(
        f"INSERT INTO knowledge_bases VALUES ('{kb}', 'default', '{kb}', '', 1, 'use-multilingual', NULL, 1.0)"
        for kb in ("compacted", "empty", "first", "second")
    ),
    *(
        f"INSERT INTO documents VALUES ('{kb}', '{kb}', 'f', 'text/plain', 1, 'x', 1, 'ready', NULL, NULL, 1, NULL,"
        " NULL, 1.0, 1.0, NULL)"
        for kb in ("first", "second")
    ),
    *(
        "INSERT INTO document_versions (id, document_id, version, sha256, bytes, media_type, text, parser, created_at)"
        f" VALUES ({version}, '{kb}', 1, 'x', 1, 'text/plain', 'text', 'test', 1.0)"
        for version, kb in ((1, "first"), (2, "second"))
    ),
    *(
        "INSERT INTO chunks (id, knowledge_base_id, version_id, ordinal, text, char_start, char_end, headings,"
        " language, tokens, created_revision)"
        f" VALUES ({chunk_id}, '{kb}', {version}, {chunk_id}, 't', 0, 1, '[]', 'en', 1, 1)"
        for chunk_id, kb, version in ((1, "first", 1), (2, "first", 1), (3, "second", 2))
    ),
    "INSERT INTO index_segments VALUES ('s', 'compacted', 1, 0, 'use-multilingual', '[]', 1.0)",
)


def test_a_documents_text_goes_behind_what_is_read_without_it_and_nothing_else_changes(database: Database) -> None:
    schema.upgrade(database, "0007")
    with database.write() as connection:
        for statement in STORED_AT_0004:
            connection.execute(text(statement))
        connection.execute(text("UPDATE document_versions SET text = :text WHERE id = 2"), {"text": "有据" * 40_000})
    before = contents(database)
    schema.upgrade(database, "0008")
    assert contents(database) == before
    if database.dialect == "sqlite":
        with database.read() as connection:
            assert [column["name"] for column in inspect(connection).get_columns("document_versions")][-1] == "text"
    schema.downgrade(database, "0007")
    assert contents(database) == before


def contents(database: Database) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table but Alembic's own, sorted."""
    found = MetaData()
    with database.read() as connection:
        found.reflect(connection)
        return {
            name: sorted((dict(row) for row in connection.execute(select(table)).mappings()), key=str)
            for name, table in found.tables.items()
            if name != "alembic_version"
        }


def test_upgrading_twice_changes_nothing(database: Database) -> None:
    schema.upgrade(database)
    first = shape_of(database)
    schema.upgrade(database)
    assert shape_of(database) == first


@pytest.mark.parametrize("table", ["document_versions", "chunks", "job_items", "messages"])
def test_a_counted_id_is_never_used_again(table: str, tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'ids.sqlite'}")
    schema.upgrade(database)
    with database.write() as connection:
        written = connection.scalar(text(f"SELECT sql FROM sqlite_master WHERE name = '{table}'"))
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        columns = [column.name for column in metadata.tables[table].columns if not column.nullable]
        row = {name: "queued" if name == "state" else 1 for name in columns if name != "id"}
        insert = f"INSERT INTO {table} (id, {', '.join(row)}) VALUES (:id, {', '.join(f':{name}' for name in row)})"
        connection.execute(text(insert), {**row, "id": 7})
        connection.execute(text(f"DELETE FROM {table}"))
        connection.execute(text(insert), {**row, "id": None})
        assert connection.scalar(text(f"SELECT id FROM {table}")) == 8
        connection.rollback()
    assert "AUTOINCREMENT" in str(written)
    database.close()


def _upgrade(url: str, together: Any) -> None:
    database = Database(url)
    together.wait(60)
    schema.upgrade(database)
    schema.check(database)
    database.close()


def test_processes_that_migrate_at_once_all_succeed(empty_database_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(6)
    processes = [context.Process(target=_upgrade, args=(empty_database_url, together)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 6


def test_an_empty_and_a_newer_database_are_told_apart_from_this_versions(database: Database) -> None:
    with pytest.raises(SchemaOutdated, match=f"at nothing, this version needs {HEAD}"):
        schema.check(database)
    schema.upgrade(database)
    schema.check(database)
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaOutdated) as raised:
        schema.check(database)
    assert raised.value.data == {"found": "9999", "wanted": HEAD}


def test_a_migration_that_fails_leaves_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    create_table, made = Operations.create_table, []

    def failing(self: Operations, name: str, *arguments: Any, **options: Any) -> Any:
        made.append(name)
        if len(made) == 10:
            raise RuntimeError("power cut")
        return create_table(self, name, *arguments, **options)

    monkeypatch.setattr(Operations, "create_table", failing)
    with pytest.raises(RuntimeError, match="power cut"):
        schema.upgrade(database)
    assert shape_of(database) == {}
    monkeypatch.undo()
    schema.upgrade(database)
    schema.check(database)
