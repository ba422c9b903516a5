"""SQL ⇔ blobs ⇔ index: every difference, by name. Empty means exact equality."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sqlalchemy import func, or_, select

from rag_service.bootstrap import Storage
from rag_service.db.generations import BYTES_A_NUMBER
from rag_service.db.items import is_open
from rag_service.db.tables import (
    chunks,
    document_versions,
    documents,
    generations,
    job_items,
    jobs,
    knowledge_bases,
    reembeddings,
    vectors,
)
from rag_service.errors import BlobMissing, IndexDamaged
from rag_service.index import segments


@dataclass(frozen=True, slots=True)
class Difference:
    """`where` is sql, blobs or index; `what` says which thing differs and how."""

    where: str
    what: str


def differences(storage: Storage, deep: bool) -> Iterator[Difference]:
    """`deep` also reads every uploaded byte and compares every vector and every chunk with what it was cut from."""
    yield from _sql(storage)
    yield from _versions(storage)
    yield from _jobs(storage)
    yield from _blobs(storage, deep)
    for knowledge_base_id in storage.knowledge_bases.all_ids():
        yield from _index(storage, knowledge_base_id, deep)
    if deep:
        yield from _texts(storage)
        yield from _vectors(storage)


def _sql(storage: Storage) -> Iterator[Difference]:
    live = chunks.c.retired_revision.is_(None)
    with storage.database.read() as connection:
        answers = (vectors.c.chunk_id == chunks.c.id) & (vectors.c.embedder == knowledge_bases.c.embedder)
        bare = (
            select(chunks.c.id)
            .join(knowledge_bases, knowledge_bases.c.id == chunks.c.knowledge_base_id)
            .outerjoin(vectors, answers)
        )
        for chunk_id in connection.scalars(bare.where(live, vectors.c.chunk_id.is_(None))):
            yield Difference("sql", f"chunk {chunk_id} is live and has no vector")
        of_deleted = (
            select(chunks.c.id)
            .join(document_versions, document_versions.c.id == chunks.c.version_id)
            .join(documents, documents.c.id == document_versions.c.document_id)
        )
        for chunk_id in connection.scalars(of_deleted.where(live, documents.c.deleted_at.is_not(None))):
            yield Difference("sql", f"chunk {chunk_id} is live and its document is deleted")
        counted = (
            select(documents.c.id, documents.c.chunks, func.count(chunks.c.id).label("found"))
            .outerjoin(document_versions, document_versions.c.document_id == documents.c.id)
            .outerjoin(chunks, (chunks.c.version_id == document_versions.c.id) & live)
            .where(documents.c.deleted_at.is_(None))
            .group_by(documents.c.id, documents.c.chunks)
        )
        for row in connection.execute(counted):
            if row.chunks != row.found:
                yield Difference("sql", f"document {row.id} counts {row.chunks} chunks and has {row.found}")


def _jobs(storage: Storage) -> Iterator[Difference]:
    with storage.database.read() as connection:
        mine = select(job_items.c.id).where(job_items.c.document_id == documents.c.id, is_open())
        live = documents.c.deleted_at.is_(None)
        waiting = documents.c.state.in_(("queued", "processing"))
        for document_id in connection.scalars(select(documents.c.id).where(live, waiting, ~mine.exists())):
            yield Difference("sql", f"document {document_id} waits and no job works on it")
        answering = select(documents.c.id).where(live, (documents.c.version > 0) != (documents.c.state == "ready"))
        for document_id in connection.scalars(answering):
            yield Difference("sql", f"document {document_id} is ready and has no version, or the other way round")
        for document_id in connection.scalars(select(documents.c.id).where(~live, mine.exists())):
            yield Difference("sql", f"document {document_id} is deleted and a job works on it")
        several = select(job_items.c.document_id).where(is_open()).group_by(job_items.c.document_id)
        for document_id in connection.scalars(several.having(func.count() > 1)):
            yield Difference("sql", f"document {document_id} is worked on twice")
        open_items = select(job_items.c.id).where(job_items.c.job_id == jobs.c.id, is_open()).exists()
        changing = select(reembeddings.c.job_id).where(
            reembeddings.c.job_id == jobs.c.id, reembeddings.c.state.in_(("queued", "processing"))
        )
        at_work = or_(open_items, changing.exists())
        for job_id in connection.scalars(select(jobs.c.id).where(jobs.c.finished_at.is_(None) != at_work)):
            yield Difference("sql", f"job {job_id} is finished and has open items, or the other way round")


def _versions(storage: Storage) -> Iterator[Difference]:
    """A document is what its newest version was made of."""
    versions = document_versions.alias("versions")
    newest = select(func.max(versions.c.version)).where(versions.c.document_id == documents.c.id)
    differs = (document_versions.c.version != documents.c.version) | (document_versions.c.sha256 != documents.c.sha256)
    query = (
        select(documents.c.id)
        .join(document_versions, document_versions.c.document_id == documents.c.id)
        .where(documents.c.deleted_at.is_(None), document_versions.c.version == newest.scalar_subquery(), differs)
    )
    with storage.database.read() as connection:
        for document_id in connection.scalars(query):
            yield Difference("sql", f"document {document_id} is not what its newest version was made of")


def _blobs(storage: Storage, deep: bool) -> Iterator[Difference]:
    in_use = storage.documents.blobs_in_use()
    stored = set(storage.blobs.all())
    for sha256 in sorted(stored - in_use.keys()):
        yield Difference("blobs", f"{sha256} belongs to no document")
    for sha256, size in sorted(in_use.items()):
        if sha256 not in stored:
            yield Difference("blobs", f"{sha256} is missing")
        elif storage.blobs.path(sha256).stat().st_size != size:
            yield Difference("blobs", f"{sha256} does not have its {size} bytes")
        elif deep and not _is_intact(storage, sha256):
            yield Difference("blobs", f"{sha256} is damaged")


def _is_intact(storage: Storage, sha256: str) -> bool:
    try:
        return storage.blobs.is_intact(sha256)
    except BlobMissing:
        return False


def _index(storage: Storage, knowledge_base_id: str, deep: bool) -> Iterator[Difference]:
    """The base must hold exactly what was live at its revision: live now and created by then, or retired since."""
    with storage.feed.snapshot(knowledge_base_id) as snapshot:
        segment = snapshot.head.segment
        if segment is None:
            return
        try:
            base = segments.load(storage.index_root, segment)
        except IndexDamaged as error:
            # A compaction that ended since this snapshot has removed what it replaced: then there is a newer one.
            if storage.feed.head(knowledge_base_id).segment == segment:
                yield Difference("index", error.detail)
            else:
                yield from _index(storage, knowledge_base_id, deep)
            return
        tail = {row.chunk_id for row in snapshot.added(segment.revision)}
        retired = set(snapshot.retired(segment.revision))
        in_base = set(base.dense.ids.tolist())
        in_lexical = set(base.lexical.chunk_ids().tolist())
        if in_base != in_lexical:
            yield Difference("index", f"segment {segment.id}: dense and lexical hold different chunks")
        seen: set[int] = set()
        for row in snapshot.added(0):
            seen.add(row.chunk_id)
            if row.chunk_id in tail:
                continue
            if row.chunk_id not in in_base:
                yield Difference("index", f"chunk {row.chunk_id} is live and in neither base nor tail")
            elif deep and not np.array_equal(base.dense.vector(row.chunk_id), row.vector):
                yield Difference("index", f"chunk {row.chunk_id} has another vector in the index than in SQL")
            elif deep and base.attributes_of(row.chunk_id) != row.attributes:
                yield Difference("index", f"chunk {row.chunk_id} is to filters in the index what it is not in SQL")
        for chunk_id in sorted(in_base & tail):
            yield Difference("index", f"chunk {chunk_id} is in the base and came after it")
        for chunk_id in sorted(in_base - seen - retired):
            yield Difference("index", f"chunk {chunk_id} is in the base and not in SQL")


def _texts(storage: Storage) -> Iterator[Difference]:
    """Every live chunk is what its version's canonical text says at its offsets."""
    columns = (chunks.c.id, chunks.c.char_start, chunks.c.char_end, chunks.c.text, chunks.c.version_id)
    query = select(*columns).where(chunks.c.retired_revision.is_(None)).order_by(chunks.c.version_id)
    loaded, text = None, ""
    with storage.database.read() as connection:
        for row in connection.execute(query.execution_options(yield_per=1_000)):
            if row.version_id != loaded:
                whole = select(document_versions.c.text).where(document_versions.c.id == row.version_id)
                loaded, text = row.version_id, connection.scalar(whole) or ""
            if text[row.char_start : row.char_end] != row.text:
                yield Difference("sql", f"chunk {row.id} is not what its document says at its offsets")


def _vectors(storage: Storage) -> Iterator[Difference]:
    """Every vector is of a generation, has its length, and is one that can be compared."""
    of_generation = (generations.c.knowledge_base_id == chunks.c.knowledge_base_id) & (
        generations.c.embedder == vectors.c.embedder
    )
    query = (
        select(vectors.c.chunk_id, vectors.c.embedder, vectors.c.vector, generations.c.dimensions)
        .join(chunks, chunks.c.id == vectors.c.chunk_id)
        .outerjoin(generations, of_generation)
        .execution_options(yield_per=1_000)
    )
    with storage.database.read() as connection:
        for row in connection.execute(query):
            where = f"chunk {row.chunk_id} has a vector of {row.embedder}"
            if row.dimensions is None:
                yield Difference("sql", f"{where}, of which there is no generation")
            elif len(row.vector) != BYTES_A_NUMBER * row.dimensions:
                yield Difference("sql", f"{where} that has not its {row.dimensions} dimensions")
            elif not np.isfinite(np.frombuffer(row.vector, "<f2")).all():
                yield Difference("sql", f"{where} with a NaN or infinity in it")
