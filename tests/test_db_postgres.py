"""What only PostgreSQL can get wrong: its snapshots, its locks, and the whole way over it.

The contract itself (jobs, publication, feed, documents, gate, migrations) runs on it in the other `test_db_*` files.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from conftest import SAMPLES, TENANT
from sqlalchemy import select, text

from ingest.bootstrap import open_ingestion
from rag_service import config
from rag_service.answering.question import Question
from rag_service.bootstrap import open_service, open_storage
from rag_service.db.sessions import Database
from rag_service.db.tables import now
from rag_service.errors import Overloaded
from rag_service.intake import Incoming
from rag_service.types import PassageFilter
from rag_service.verify import differences


@pytest.fixture
def database_url(migrated_postgres: str) -> str:
    with closing(Database(migrated_postgres)) as database, database.write() as connection:
        connection.execute(text("TRUNCATE knowledge_bases, conversations CASCADE"))
    return migrated_postgres


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    with opened.write() as connection:
        connection.execute(text("DROP TABLE IF EXISTS numbers"))
        connection.execute(text("CREATE TABLE numbers (n INTEGER PRIMARY KEY, m INTEGER)"))
        connection.execute(text("INSERT INTO numbers VALUES (1, 0), (2, 0)"))
    yield opened
    with opened.write() as connection:
        connection.execute(text("DROP TABLE numbers"))
    opened.close()


def test_a_read_is_one_snapshot_and_a_write_sees_what_it_waited_for(database: Database) -> None:
    with database.read() as reading:
        assert reading.scalar(text("SHOW transaction_isolation")) == "repeatable read"
        assert reading.scalar(text("SELECT count(*) FROM numbers")) == 2
        with database.write() as writing:
            assert writing.scalar(text("SHOW transaction_isolation")) == "read committed"
            writing.execute(text("INSERT INTO numbers VALUES (3, 0)"))
        assert reading.scalar(text("SELECT count(*) FROM numbers")) == 2
    with database.read() as reading:
        assert reading.scalar(text("SELECT count(*) FROM numbers")) == 3


def test_a_deadlock_is_overload_for_one_and_nothing_for_the_other(database: Database) -> None:
    together, outcomes = threading.Barrier(2), []

    def change(first: int, second: int) -> None:
        try:
            with database.write() as connection:
                connection.execute(text("UPDATE numbers SET m = m + 1 WHERE n = :n"), {"n": first})
                together.wait(10)
                connection.execute(text("UPDATE numbers SET m = m + 1 WHERE n = :n"), {"n": second})
            outcomes.append("done")
        except Overloaded as error:
            outcomes.append(str(error.data["retry_after_seconds"]))

    threads = [threading.Thread(target=change, args=order) for order in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["1", "done"]
    with database.read() as connection:
        assert list(connection.scalars(text("SELECT m FROM numbers"))) == [1, 1]


def test_the_databases_clock_is_told_in_seconds(database: Database) -> None:
    with database.read() as connection:
        found = connection.scalar(select(now()))
    assert isinstance(found, float)
    assert abs(found - time.time()) < 60


def test_documents_go_in_and_cited_answers_come_out(database_url: str, tmp_path: Path) -> None:
    settings = config.load(data=tmp_path / "data", database_url=database_url, compact_after_chunks=5)
    with closing(open_storage(settings)) as storage, closing(open_ingestion(settings)) as ingestion:
        kb = storage.knowledge_bases.create(TENANT, "shelf").id
        names = ["员工手册.md", "warranty-terms.txt"]
        files = [Incoming(n, None, io.BytesIO((SAMPLES / "documents" / n).read_bytes())) for n in names]
        job_id, accepted = storage.intake.accept(TENANT, kb, files)
        ingestion.worker.run(job_id)
        assert storage.jobs.get(TENANT, job_id).state == "succeeded"
        assert ingestion.compactor.look_at(kb)

        service = open_service(storage)
        answer = service.asker.ask(Question(TENANT, "工作五年以上、不到十年的人，一年能休几天年假？", (kb,)))
        assert answer.outcome == "answered"
        for citation in answer.citations:
            found = storage.documents.text(TENANT, citation.document_id, citation.char_start, citation.char_end)
            assert found.text == citation.quote
        assert service.answers.get(TENANT, answer.id) == answer

        [handbook, _] = [entry.registered.document_id for entry in accepted if entry.registered]
        storage.delete_document(TENANT, handbook)
        left = service.retriever.retrieve(TENANT, [kb], "年假", 8, PassageFilter())
        assert handbook not in {one.passage.document_id for one in left.passages}
        assert list(differences(storage, deep=True)) == []
        storage.delete_knowledge_base(TENANT, kb)
        assert list(differences(storage, deep=True)) == []
