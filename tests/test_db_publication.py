"""The one transaction that makes a document visible, on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from rooms import TENANT, Room, made_of, vectors_of
from sqlalchemy import event, func, select

from rag_service.db.jobs import Claim
from rag_service.db.tables import chunks, document_versions, vectors
from rag_service.errors import InvalidInput, LeaseLost
from rag_service.inference.use_multilingual import UseMultilingual


class PowerCut(Exception):
    """What the k-th statement, or the commit, runs into."""


@contextmanager
def failing_at(room: Room, k: int) -> Iterator[list[str]]:
    """The k-th statement of this thread fails, the commit counting as one; yields what was executed."""
    engine, executed, me = room.storage.database.engine, [], threading.get_ident()

    def count(what: str) -> None:
        if threading.get_ident() == me:
            executed.append(what)
            if len(executed) == k:
                raise PowerCut(what)

    def statement(connection: Any, cursor: Any, text: str, *rest: Any) -> None:
        count(text)

    def commit(connection: Any) -> None:
        count("COMMIT")

    event.listen(engine, "before_cursor_execute", statement)
    event.listen(engine, "commit", commit)
    try:
        yield executed
    finally:
        event.remove(engine, "before_cursor_execute", statement)
        event.remove(engine, "commit", commit)


def rows(room: Room) -> tuple[int, ...]:
    with room.storage.database.read() as connection:
        return tuple(
            connection.scalar(select(func.count()).select_from(table)) or 0
            for table in (document_versions, chunks, vectors)
        )


def assert_whole(room: Room, document_id: str, texts: tuple[str, ...], ready: bool) -> None:
    """The document is entirely there, or entirely not."""
    document = room.storage.documents.get(TENANT, document_id)
    wanted = set(texts) if ready else set()
    assert room.let_through() == wanted
    assert {text.rpartition("Title\n")[2] for text in room.live_chunks().values()} == wanted
    assert (document.state, document.version, document.chunks) == (
        ("ready", 1, len(texts)) if ready else ("processing", 0, 0)
    )
    assert room.revision() == int(ready)
    assert rows(room) == ((1, len(texts), len(texts)) if ready else (0, 0, 0))
    assert room.differences() == []


def test_publication_is_all_or_nothing_whichever_statement_fails(room: Room) -> None:
    texts = ("The first paragraph.", "第二段。", "The third.")
    job_id, [document_id] = room.upload("bytes")
    claim = room.claim_one()
    for k in range(1, 100):
        fired = False
        with failing_at(room, k) as executed:
            try:
                room.publish(claim, *texts)
            except PowerCut:
                fired = True
        assert_whole(room, document_id, texts, ready=not fired)
        assert room.storage.jobs.is_finished(job_id) == (not fired)
        if not fired:
            break
    assert 10 < k == len(executed) + 1 < 99
    assert executed[-1] == "COMMIT"


def test_deletion_is_all_or_nothing_whichever_statement_fails(room: Room) -> None:
    kept, doomed = room.ready("kept", "doomed")
    for k in range(1, 100):
        fired = False
        with failing_at(room, k) as executed:
            try:
                room.storage.documents.delete(TENANT, doomed)
            except PowerCut:
                fired = True
        assert room.let_through() == ({"kept", "doomed"} if fired else {"kept"})
        assert room.revision() == (2 if fired else 3)
        if not fired:
            break
    assert 5 < k == len(executed) + 1 < 99
    assert room.storage.documents.get(TENANT, kept).state == "ready"


def test_registration_is_all_or_nothing_whichever_statement_fails(room: Room) -> None:
    for k in range(1, 100):
        fired = False
        with failing_at(room, k):
            try:
                room.upload("one", "two")
            except PowerCut:
                fired = True
        listed = room.storage.documents.browse(TENANT, room.kb, None, 200, None).items
        assert len(listed) == (0 if fired else 2)
        assert len(room.claim("probe", 0.001, limit=9)) == len(listed)
        if not fired:
            break
    assert 3 < k < 99


def test_every_publication_and_deletion_raises_the_revision_by_one(room: Room) -> None:
    ids = room.ready("a", "b", "c")
    assert room.revision() == 3
    room.storage.delete_document(TENANT, ids[1])
    assert room.revision() == 4


def test_chunks_come_back_as_they_were_made(room: Room) -> None:
    texts = ["A first chunk.", "第二个块。", "𠮷 and 🙂."]
    _, [document_id] = room.upload("bytes")
    room.publish(room.claim_one(), *texts)
    parsed, drafts = made_of(texts)
    found = room.storage.documents.chunks(TENANT, document_id, 200, None).items
    assert [(c.ordinal, c.text, c.char_start, c.char_end, c.headings, c.language) for c in found] == [
        (d.ordinal, d.text, d.char_start, d.char_end, d.headings, d.language) for d in drafts
    ]
    whole = room.storage.documents.text(TENANT, document_id, 0, None)
    assert (whole.text, whole.total_chars, whole.version) == (parsed.text, len(parsed.text), 1)
    assert [whole.text[c.char_start : c.char_end] for c in found] == texts


def test_vectors_are_kept_to_float16_and_beside_their_own_text(room: Room) -> None:
    texts = [f"chunk {n}" for n in range(50)]
    room.upload("bytes")
    room.publish(room.claim_one(), *texts)
    with room.storage.feed.snapshot(room.kb) as snapshot:
        for row in snapshot.added(0):
            [wanted] = vectors_of([row.text.rpartition("Title\n")[2]])
            assert np.array_equal(row.vector, wanted.astype(np.float16))


def test_a_document_without_chunks_is_ready_and_empty(room: Room) -> None:
    _, [document_id] = room.upload("bytes")
    parsed, _ = made_of(["   "])
    room.publisher.publish(room.claim_one(), parsed, [], vectors_of([]), UseMultilingual.name)
    document = room.storage.documents.get(TENANT, document_id)
    assert (document.state, document.chunks, document.language) == ("ready", 0, None)
    assert room.differences() == []


def test_the_language_of_a_document_is_that_of_most_of_its_text(room: Room) -> None:
    _, [document_id] = room.upload("bytes")
    room.publish(room.claim_one(), "A short one.", "这一段中文比上面那一句英文长得多，所以文档是中文的。")
    assert room.storage.documents.get(TENANT, document_id).language == "zh"


def test_one_vector_too_few_publishes_nothing(room: Room) -> None:
    room.upload("bytes")
    parsed, drafts = made_of(["a", "b"])
    with pytest.raises(InvalidInput, match="one vector a chunk"):
        room.publisher.publish(room.claim_one(), parsed, drafts, vectors_of(["a"]), UseMultilingual.name)
    assert room.revision() == 0


def test_a_document_deleted_during_its_ingestion_stays_deleted(room: Room) -> None:
    job_id, [document_id] = room.upload("bytes")
    claim = room.claim_one()
    room.storage.delete_document(TENANT, document_id)
    with pytest.raises(LeaseLost):
        room.publish(claim)
    assert room.live_chunks() == {}
    assert room.item(job_id).state == "cancelled"
    assert room.differences() == []


def test_a_knowledge_base_deleted_during_an_ingestion_stays_deleted(room: Room) -> None:
    room.upload("bytes")
    claim = room.claim_one()
    room.storage.delete_knowledge_base(TENANT, room.kb)
    with pytest.raises(LeaseLost):
        room.publish(claim)
    room.storage.jobs.release([claim])
    assert room.differences() == []
    assert rows(room) == (0, 0, 0)


def in_threads(*works: Callable[[], object]) -> list[BaseException]:
    """Run all at once; what they raised."""
    together, raised = threading.Barrier(len(works)), []

    def run(work: Callable[[], object]) -> None:
        together.wait(30)
        try:
            work()
        except Exception as error:  # noqa: BLE001 - handed to the test
            raised.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def test_commit_order_is_revision_order(room: Room) -> None:
    """Who has seen revision r has seen all up to r: a follower that asks for what came after misses nothing."""
    room.upload(*(f"document {n}" for n in range(80)))
    done, faults = threading.Event(), []

    def follow() -> None:
        seen, at = set(), 0
        while not (done.is_set() and at == room.revision()):
            with room.storage.feed.snapshot(room.kb) as snapshot:
                seen |= {row.chunk_id for row in snapshot.added(at)}
                at = snapshot.head.revision
            if len(seen) != at:
                faults.append(f"{len(seen)} chunks seen at revision {at}")
                return

    def publish() -> list[int]:
        revisions = []
        while claims := room.claim(f"thread {threading.get_ident()}", limit=1):
            revisions.append(room.publish(claims[0]))
        return revisions

    follower = threading.Thread(target=follow)
    follower.start()
    raised = in_threads(*[publish] * 8)
    done.set()
    follower.join()
    assert raised == faults == []
    assert room.revision() == 80
    with room.storage.database.read() as connection:
        assert sorted(connection.scalars(select(chunks.c.created_revision))) == list(range(1, 81))


def test_publishing_and_deleting_the_same_documents_at_once_never_deadlocks(room: Room) -> None:
    for _ in range(5):
        _, ids = room.upload(*(f"document {n}" for n in range(8)))
        claims = room.claim(limit=8)

        def publish(claim: Claim) -> None:
            try:
                room.publish(claim)
            except LeaseLost:
                return

        works: list[Callable[[], object]] = []
        for claim, document_id in zip(claims, ids, strict=True):
            works.append(lambda claim=claim: publish(claim))
            works.append(lambda document_id=document_id: room.storage.delete_document(TENANT, document_id))
        assert in_threads(*works) == []
        assert room.live_chunks() == {}
        assert room.differences() == []


def test_the_last_two_items_of_a_job_finished_at_once_finish_the_job(room: Room) -> None:
    for number in range(10):
        job_id, _ = room.upload(f"a {number}", f"b {number}")
        first, second = room.claim(limit=2)
        assert in_threads(lambda c=first: room.publish(c), lambda c=second: room.publish(c)) == []
        assert room.storage.jobs.is_finished(job_id)


def test_publishing_into_a_knowledge_base_that_is_being_deleted_never_deadlocks(room: Room) -> None:
    for number in range(6):
        kb = room.storage.knowledge_bases.create(TENANT, f"doomed {number}").id
        room.upload(*(f"document {n}" for n in range(6)), kb=kb)

        def publish(claim: Claim) -> None:
            try:
                room.publish(claim)
            except LeaseLost:
                return

        works: list[Callable[[], object]] = [lambda claim=claim: publish(claim) for claim in room.claim(limit=6)]
        assert in_threads(*works, lambda kb=kb: room.storage.delete_knowledge_base(TENANT, kb)) == []
    assert room.differences() == []
