"""The change feed and the names of segments, on SQLite and on PostgreSQL."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rooms import TENANT, Room
from sqlalchemy import func, select
from test_db_publication import in_threads

from rag_service.db.registration import Upload
from rag_service.db.sessions import new_id
from rag_service.db.tables import chunks
from rag_service.errors import NotFound
from rag_service.ports import Attributes, Segment, SegmentFile


def segment(room: Room, revision: int, chunk_count: int = 0) -> Segment:
    files = (SegmentFile("meta.json", "0" * 64, 2),)
    return Segment(new_id(), room.kb, revision, chunk_count, "use-multilingual", files)


def changes(room: Room, after: int) -> tuple[list[str], int]:
    with room.storage.feed.snapshot(room.kb) as snapshot:
        texts = [row.text.rpartition("Title\n")[2] for row in snapshot.added(after)]
        return texts, len(snapshot.retired(after))


def title_of(room: Room, document_id: str) -> str:
    """What its words are indexed under besides their headings: its file name without the suffix."""
    return room.storage.documents.get(TENANT, document_id).filename.removesuffix(".txt")


def kept_chunks(room: Room) -> int:
    with room.storage.database.read() as connection:
        return connection.scalar(select(func.count()).select_from(chunks)) or 0


def test_what_changed_after_a_revision_is_told_and_nothing_else(room: Room) -> None:
    a, _ = room.ready("a", "b")
    assert changes(room, 0) == (["a", "b"], 0)
    assert changes(room, 1) == (["b"], 0)
    room.storage.delete_document(TENANT, a)
    assert changes(room, 0) == (["b"], 1)
    assert changes(room, 2) == ([], 1)
    assert changes(room, 3) == ([], 0)


def test_a_snapshot_does_not_move(room: Room) -> None:
    [a] = room.ready("a")
    title = title_of(room, a)
    with room.storage.feed.snapshot(room.kb) as snapshot:
        assert snapshot.head.revision == 1
        room.ready("b")
        room.storage.delete_document(TENANT, a)
        assert [row.text for row in snapshot.added(0)] == [f"{title}\nTitle\na"]
        assert snapshot.retired(0) == []
    assert room.revision() == 3


def test_more_rows_than_are_read_at_a_time_come_in_order(room: Room) -> None:
    room.upload("many")
    room.publish(room.claim_one(), *(f"chunk {n}" for n in range(2_500)))
    texts, _ = changes(room, 0)
    assert texts == [f"chunk {n}" for n in range(2_500)]


def test_knowledge_bases_do_not_hear_of_each_other(room: Room) -> None:
    other = room.storage.knowledge_bases.create(TENANT, "other").id
    room.ready("there", kb=other)
    assert room.revision() == 0
    assert changes(room, 0) == ([], 0)


def test_a_knowledge_base_that_is_gone_is_not_found(room: Room) -> None:
    room.storage.delete_knowledge_base(TENANT, room.kb)
    with pytest.raises(NotFound):
        room.storage.feed.head(room.kb)
    late = segment(room, 1)
    assert room.storage.feed.name_segment(late) == [late.id]


def test_the_newest_named_segment_is_the_base(room: Room) -> None:
    room.ready("a", "b")
    first, second = segment(room, 1), segment(room, 2)
    assert room.storage.feed.head(room.kb).segment is None
    assert room.storage.feed.name_segment(first) == []
    assert room.storage.feed.head(room.kb).segment == first
    assert room.storage.feed.name_segment(second) == [first.id]
    assert room.storage.feed.segments() == [second]


def test_a_segment_that_comes_too_late_is_not_named(room: Room) -> None:
    room.ready("a", "b")
    newer, older = segment(room, 2), segment(room, 1)
    room.storage.feed.name_segment(newer)
    assert room.storage.feed.name_segment(older) == [older.id]
    assert room.storage.feed.head(room.kb).segment == newer


def test_segments_named_at_once_leave_the_newest(room: Room) -> None:
    room.ready(*(f"{n}" for n in range(8)))
    made = [segment(room, revision) for revision in range(1, 9)]
    removed: list[str] = []
    works: list[Callable[[], object]] = [
        lambda one=one: removed.extend(room.storage.feed.name_segment(one)) for one in made
    ]
    assert in_threads(*works) == []
    assert room.storage.feed.segments() == [made[-1]]
    assert sorted(removed) == sorted(one.id for one in made[:-1])


def test_tombstones_are_forgotten_only_once_a_base_has_absorbed_them(room: Room) -> None:
    a, b, _ = room.ready("a", "b", "c")
    room.storage.feed.name_segment(segment(room, 3, 3))
    room.storage.delete_document(TENANT, a)
    room.storage.delete_document(TENANT, b)
    assert kept_chunks(room) == 3
    room.storage.feed.name_segment(segment(room, 4, 2))
    assert kept_chunks(room) == 2
    assert changes(room, 4) == ([], 1)
    room.storage.feed.name_segment(segment(room, 5, 1))
    assert kept_chunks(room) == 1
    assert changes(room, 5) == ([], 0)
    assert changes(room, 0) == (["c"], 0)


def test_one_compactor_at_a_time_and_a_dead_one_blocks_nobody_for_long(room: Room) -> None:
    reserved: list[bool] = []
    works: list[Callable[[], object]] = [lambda: reserved.append(room.storage.feed.reserve(room.kb, 60.0))] * 5
    assert in_threads(*works) == []
    assert sorted(reserved) == [False] * 4 + [True]
    room.storage.feed.name_segment(segment(room, 0))
    assert room.storage.feed.reserve(room.kb, 0.0)
    assert room.storage.feed.reserve(room.kb, 60.0)


def test_what_compaction_decides_on_is_counted_since_the_base(room: Room) -> None:
    a, b, _ = room.ready("a", "b", "c")
    assert room.storage.feed.unindexed(room.kb) == (3, 0, 0)
    room.storage.feed.name_segment(segment(room, 3, 3))
    room.ready("d")
    room.storage.delete_document(TENANT, a)
    assert room.storage.feed.unindexed(room.kb) == (1, 1, 3)
    assert b in {d.id for d in room.storage.documents.browse(TENANT, room.kb, None, 9, None).items}


def test_a_chunk_is_told_with_its_documents_first_time_and_its_versions_own_type(room: Room) -> None:
    [document_id] = room.ready("An English text.")
    uploaded_at = room.storage.documents.get(TENANT, document_id).created_at
    blob = room.storage.blobs.put(io.BytesIO("新的一版。".encode()))
    upload = Upload("next.html", "text/html", blob.sha256, blob.bytes)
    room.storage.documents.replace(TENANT, document_id, upload, None, room.storage.blobs.exists)
    room.publish(room.claim_one(), "新的一版。")

    with room.storage.feed.snapshot(room.kb) as snapshot:
        [now], [then] = ([row.attributes for row in rows] for rows in (snapshot.added(0), snapshot.live_at(1, 0)))
    assert now == Attributes(document_id, "zh", "text/html", uploaded_at)
    assert then == Attributes(document_id, "en", "text/plain", uploaded_at)
