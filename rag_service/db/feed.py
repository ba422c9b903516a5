"""What changed in a knowledge base, in revision order: implements `ports.ChangeFeed`, and keeps the segment rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Row, String, and_, bindparam, delete, func, insert, select, update

from rag_service.db.generations import at as answered_at
from rag_service.db.generations import lacking
from rag_service.db.generations import of as space_of
from rag_service.db.sessions import Database
from rag_service.db.tables import (
    chunks,
    document_versions,
    documents,
    generations,
    index_segments,
    knowledge_bases,
    now,
    vectors,
    was_live_at,
)
from rag_service.errors import NotFound
from rag_service.ports import Attributes, Head, IndexRow, Segment, SegmentFile, VectorSpace
from rag_service.text import in_document

_ROWS_AT_A_TIME = 1_000


class SqlSnapshot:
    """One knowledge base inside one read transaction. Rows are those of the generation in `head` alone."""

    def __init__(self, connection: Connection, knowledge_base_id: str) -> None:
        self._connection = connection
        self._knowledge_base_id = knowledge_base_id
        self.head = _head(connection, knowledge_base_id)

    def as_if_answered_by(self, embedder: str) -> SqlSnapshot:
        """The same state with another generation in its head, and no segment."""
        other = SqlSnapshot.__new__(SqlSnapshot)
        other._connection, other._knowledge_base_id = self._connection, self._knowledge_base_id
        space = space_of(self._connection, self._knowledge_base_id, embedder)
        other.head = Head(self.head.revision, space, None)
        return other

    def as_it_answered_at(self, revision: int) -> SqlSnapshot:
        """The same state with the generation in its head that answered at `revision`. Raises VectorsForgotten."""
        return self.as_if_answered_by(answered_at(self._connection, self._knowledge_base_id, revision).embedder)

    def is_complete(self) -> bool:
        """Whether every live chunk has a vector of the generation."""
        bare = lacking(self._knowledge_base_id, self.head.space.embedder)
        return self._connection.scalar(bare.limit(1)) is None

    def added(self, after: int) -> Iterator[IndexRow]:
        return self._rows(chunks.c.created_revision > after, chunks.c.retired_revision.is_(None))

    def live_at(self, revision: int, after: int) -> Iterator[IndexRow]:
        """Chunks live at `revision` that were created at a revision > `after`, by ascending chunk id.

        Those of documents that are deleted by now are not among them: their text and vectors are erased.
        """
        return self._rows(chunks.c.created_revision > after, was_live_at(revision))

    def _rows(self, *conditions: ColumnElement[bool]) -> Iterator[IndexRow]:
        query = (
            select(
                chunks.c.id, document_versions.c.filename, chunks.c.headings, chunks.c.text, vectors.c.vector,
                documents.c.id, chunks.c.language, document_versions.c.media_type, documents.c.created_at,
            )
            .join(vectors, vectors.c.chunk_id == chunks.c.id)
            .join(document_versions, document_versions.c.id == chunks.c.version_id)
            .join(documents, documents.c.id == document_versions.c.document_id)
            .where(vectors.c.embedder == self.head.space.embedder)
            .where(chunks.c.knowledge_base_id == self._knowledge_base_id, *conditions)
            .order_by(chunks.c.id)
            .execution_options(yield_per=_ROWS_AT_A_TIME)
        )  # fmt: skip
        for chunk_id, filename, headings, text, vector, *attributes in self._connection.execute(query):
            said, halves = in_document(filename, headings, text), np.frombuffer(vector, dtype="<f2")
            yield IndexRow(chunk_id, said, halves, Attributes(*attributes))

    def retired(self, after: int) -> list[int]:
        query = select(chunks.c.id).where(
            chunks.c.knowledge_base_id == self._knowledge_base_id, chunks.c.retired_revision > after
        )
        return list(self._connection.scalars(query))

    def retired_by(self, revision: int, after: int) -> list[int]:
        """Ids of chunks retired at a revision > `after`, at the latest at `revision`; not those forgotten since."""
        query = select(chunks.c.id).where(
            chunks.c.knowledge_base_id == self._knowledge_base_id,
            chunks.c.retired_revision > after,
            chunks.c.retired_revision <= revision,
        )
        return list(self._connection.scalars(query))


class SqlChangeFeed:
    def __init__(self, database: Database) -> None:
        self._database = database

    def head(self, knowledge_base_id: str) -> Head:
        with self._database.glance() as connection:
            return _head(connection, knowledge_base_id)

    @contextmanager
    def snapshot(self, knowledge_base_id: str) -> Iterator[SqlSnapshot]:
        with self._database.read() as connection:
            yield SqlSnapshot(connection, knowledge_base_id)

    def segments(self) -> list[Segment]:
        """Every segment SQL names, newest last."""
        with self._database.read() as connection:
            rows = connection.execute(select(index_segments).order_by(index_segments.c.revision)).all()
        return [_segment(row) for row in rows]

    def unindexed(self, knowledge_base_id: str) -> tuple[int, int, int]:
        """(chunks created since the newest segment, retired since, chunks in it): what compaction decides on."""
        with self._database.read() as connection:
            head = _head(connection, knowledge_base_id)
            after = head.segment.revision if head.segment else 0
            mine = chunks.c.knowledge_base_id == knowledge_base_id
            count = select(func.count()).select_from(chunks)
            added = connection.scalar(
                count.where(mine, chunks.c.created_revision > after, chunks.c.retired_revision.is_(None))
            )
            retired = connection.scalar(count.where(mine, chunks.c.retired_revision > after))
        return added or 0, retired or 0, head.segment.chunks if head.segment else 0

    def deleted_since(self, knowledge_base_ids: Sequence[str], moment: float) -> int:
        """How many documents that there were at `moment` are deleted by now: what a look at the past lacks."""
        count = (
            select(func.count())
            .select_from(documents)
            .where(
                documents.c.knowledge_base_id.in_(knowledge_base_ids),
                documents.c.created_at <= moment,
                documents.c.deleted_at > moment,
            )
        )
        with self._database.glance() as connection:
            return connection.scalar(count) or 0

    def reserve(self, knowledge_base_id: str, seconds: float) -> bool:
        """Whether this caller may compact now: one at a time, and a compactor that died blocks nobody for long."""
        kb = knowledge_bases.c
        # Not only before now: the clock of SQLite counts milliseconds.
        is_free = func.coalesce(kb.compacting_until, 0) <= now()
        with self._database.write() as connection:
            done = connection.execute(
                update(knowledge_bases)
                .where(kb.id == knowledge_base_id, is_free)
                .values(compacting_until=now() + seconds)
            )
            return bool(done.rowcount)

    def name_segment(self, segment: Segment) -> list[str]:
        """Make `segment` the base, in one transaction with forgetting what it replaces; returns replaced segment ids.

        A segment older than the one already named, of another knowledge base's past, or of a generation that does not
        answer, is not named: its own id comes back, to be removed. Tombstones it has absorbed go too.
        """
        kb = segment.knowledge_base_id
        mine = index_segments.c.knowledge_base_id == kb
        with self._database.write() as connection:
            # Locked, so that of two who come at once the second sees what the first has named.
            locked = select(knowledge_bases.c.embedder).where(knowledge_bases.c.id == kb)
            if connection.scalar(locked.with_for_update(key_share=True)) != segment.embedder:
                return [segment.id]
            if (connection.scalar(select(func.max(index_segments.c.revision)).where(mine)) or 0) > segment.revision:
                return [segment.id]
            return replace_segments(connection, segment)


def replace_segments(connection: Connection, segment: Segment) -> list[str]:
    """Under the lock on the knowledge base: `segment` is its base from now on; the ids of those that were."""
    kb = segment.knowledge_base_id
    mine = index_segments.c.knowledge_base_id == kb
    replaced = connection.scalars(delete(index_segments).where(mine).returning(index_segments.c.id)).all()
    connection.execute(insert(index_segments).values(**_columns(segment), created_at=now()))
    connection.execute(update(knowledge_bases).where(knowledge_bases.c.id == kb).values(compacting_until=None))
    _forget_tombstones(connection, kb, segment.revision)
    return list(replaced)


def _forget_tombstones(connection: Connection, knowledge_base_id: str, revision: int) -> None:
    """Chunks of deleted documents that no base and no tail can name any more."""
    of_deleted = (
        select(document_versions.c.id)
        .join(documents, documents.c.id == document_versions.c.document_id)
        .where(documents.c.knowledge_base_id == knowledge_base_id, documents.c.deleted_at.is_not(None))
    )
    connection.execute(
        delete(chunks).where(
            chunks.c.knowledge_base_id == knowledge_base_id,
            chunks.c.retired_revision <= revision,
            chunks.c.version_id.in_(of_deleted),
        )
    )


_SCOPE = bindparam("knowledge_base_id", type_=String())
_ANSWERS = knowledge_bases.c.embedder
_NEWEST = (
    select(index_segments.c.id)
    .where(index_segments.c.knowledge_base_id == _SCOPE, index_segments.c.embedder == _ANSWERS)
    .order_by(index_segments.c.revision.desc(), index_segments.c.id.desc())
    .limit(1)
    .correlate(knowledge_bases)
    .scalar_subquery()
)
_HEAD = (
    select(
        knowledge_bases.c.revision.label("head_revision"), _ANSWERS.label("answers"), generations.c.dimensions,
        index_segments,
    )
    .outerjoin(
        generations,
        and_(generations.c.knowledge_base_id == knowledge_bases.c.id, generations.c.embedder == _ANSWERS),
    )
    .outerjoin(index_segments, index_segments.c.id == _NEWEST)
    .where(knowledge_bases.c.id == _SCOPE)
)  # fmt: skip
"""Built once: every search begins with it."""


def _head(connection: Connection, knowledge_base_id: str) -> Head:
    row = connection.execute(_HEAD, {"knowledge_base_id": knowledge_base_id}).one_or_none()
    if row is None:
        raise NotFound("no such knowledge base", knowledge_base_id=knowledge_base_id)
    space = VectorSpace(row.answers, row.dimensions)
    return Head(row.head_revision, space, None if row.id is None else _segment(row))


def _segment(row: Row[Any]) -> Segment:
    files: Sequence[dict[str, Any]] = row.files
    return Segment(
        id=row.id, knowledge_base_id=row.knowledge_base_id, revision=row.revision, chunks=row.chunks,
        embedder=row.embedder, files=tuple(SegmentFile(**file) for file in files),
    )  # fmt: skip


def _columns(segment: Segment) -> dict[str, Any]:
    return {**asdict(segment), "files": [asdict(file) for file in segment.files]}
