"""Every difference between SQL, bytes and index is named, and nothing else is."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from rooms import TENANT, Room
from sqlalchemy import delete, func, select, update
from test_deletion import library_over

from rag_service.db.tables import chunks, document_versions, documents, index_segments, job_items, jobs, vectors
from rag_service.inference.use_multilingual import UseMultilingual


@pytest.fixture
def filled(room: Room) -> Room:
    """Two documents in the base, one in the tail, one deleted since, one that waits."""
    [_, _, doomed] = room.ready("alpha one", "beta two", "gamma three")
    room.storage.delete_document(TENANT, doomed)
    library_over(room).compact()
    room.ready("delta four")
    room.upload("waits")
    assert room.differences() == []
    return room


def change(room: Room, statement: object) -> None:
    with room.storage.database.write() as connection:
        connection.execute(statement)  # type: ignore[call-overload]


def vector_gone(room: Room) -> None:
    change(room, delete(vectors).where(vectors.c.chunk_id == 1))


def vector_changed(room: Room) -> None:
    other = np.ones(UseMultilingual.dimensions, dtype="<f2").tobytes()
    change(room, update(vectors).where(vectors.c.chunk_id == 1).values(vector=other))


def chunk_retired_before_the_base(room: Room) -> None:
    change(room, update(chunks).where(chunks.c.id == 1).values(retired_revision=1))
    change(room, update(documents).values(chunks=0).where(documents.c.filename == "0.txt", documents.c.version == 1))


def chunk_made_before_the_base(room: Room) -> None:
    change(room, update(chunks).where(chunks.c.created_revision > 4).values(created_revision=1))


def text_changed(room: Room) -> None:
    change(room, update(document_versions).where(document_versions.c.text == "alpha one").values(text="alpha onx"))


def deleted_but_live(room: Room) -> None:
    change(room, update(documents).where(documents.c.state == "ready").values(deleted_at=1.0))


def miscounted(room: Room) -> None:
    change(room, update(documents).where(documents.c.state == "ready").values(chunks=7))


def forgotten(room: Room) -> None:
    change(room, delete(job_items).where(job_items.c.state == "queued"))


def never_finished(room: Room) -> None:
    change(room, update(jobs).values(finished_at=None))


def worked_on_twice(room: Room) -> None:
    change(room, update(job_items).where(job_items.c.state == "ready").values(state="queued"))
    change(room, update(job_items).values(document_id=select(func.max(job_items.c.document_id)).scalar_subquery()))


def worked_on_though_deleted(room: Room) -> None:
    change(room, update(documents).where(documents.c.state == "queued").values(deleted_at=1.0))


def failed_though_it_answers(room: Room) -> None:
    change(room, update(documents).where(documents.c.filename == "0.txt").values(state="failed"))


def of_other_bytes(room: Room) -> None:
    change(room, update(document_versions).where(document_versions.c.text == "alpha one").values(sha256="0" * 64))


def blob_gone(room: Room) -> None:
    room.storage.blobs.remove(next(iter(room.storage.documents.blobs_in_use())))


def blob_damaged(room: Room) -> None:
    path = room.storage.blobs.path(next(iter(room.storage.documents.blobs_in_use())))
    path.write_bytes(path.read_bytes()[:-1] + b"~")


def blob_cut(room: Room) -> None:
    room.storage.blobs.path(next(iter(room.storage.documents.blobs_in_use()))).write_bytes(b"~")


def blob_of_nobody(room: Room) -> None:
    room.storage.blobs.put(io.BytesIO(b"nobody's"))


def index_file_damaged(room: Room) -> None:
    file = next(room.storage.index_root.rglob("dense.faiss"))
    file.write_bytes(file.read_bytes()[:-1] + b"~")


def uploaded_at_another_time(room: Room) -> None:
    change(room, update(documents).values(created_at=documents.c.created_at - 1))


def base_older_than_it_says(room: Room) -> None:
    change(room, update(index_segments).values(revision=1))


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (vector_gone, "live and has no vector"),
        (vector_changed, "another vector in the index"),
        (chunk_retired_before_the_base, "in the base and not in SQL"),
        (chunk_made_before_the_base, "in neither base nor tail"),
        (text_changed, "not what its document says"),
        (deleted_but_live, "its document is deleted"),
        (miscounted, "counts 7 chunks and has 1"),
        (forgotten, "no job works on it"),
        (never_finished, "or the other way round"),
        (worked_on_twice, "worked on twice"),
        (worked_on_though_deleted, "is deleted and a job works on it"),
        (failed_though_it_answers, "ready and has no version, or the other way round"),
        (of_other_bytes, "not what its newest version was made of"),
        (blob_gone, "is missing"),
        (blob_damaged, "is damaged"),
        (blob_cut, "does not have its"),
        (blob_of_nobody, "belongs to no document"),
        (index_file_damaged, "does not have its recorded hash"),
        (uploaded_at_another_time, "to filters in the index what it is not in SQL"),
        (base_older_than_it_says, "in the base and came after it"),
    ],
)
def test_a_difference_is_named(filled: Room, harm: Callable[[Room], None], named: str) -> None:
    harm(filled)
    assert any(named in found for found in filled.differences()), filled.differences()
