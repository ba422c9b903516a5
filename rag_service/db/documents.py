"""Documents: accepting them, showing them, deleting them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update

from rag_service.db import problems
from rag_service.db.jobs import close_finished, open_job
from rag_service.db.knowledge_bases import raise_revision
from rag_service.db.pages import Page, page
from rag_service.db.sessions import Database, new_id, take_turns
from rag_service.db.tables import (
    chunks,
    document_versions,
    documents,
    job_items,
    knowledge_bases,
    now,
    vectors,
)
from rag_service.errors import BlobMissing, NotFound
from rag_service.types import Chunk, Document, DocumentState

_BLOBS = "blobs"
"""Those who refer to stored bytes and those who remove them take turns under this name."""


@dataclass(frozen=True, slots=True)
class Upload:
    """Bytes already in the blob store, waiting to become a document."""

    filename: str
    media_type: str
    sha256: str
    bytes: int
    source_uri: str | None = None


@dataclass(frozen=True, slots=True)
class Registered:
    document_id: str
    status: Literal["queued", "duplicate"]


@dataclass(frozen=True, slots=True)
class TextSlice:
    text: str
    char_start: int
    char_end: int
    total_chars: int
    version: int


class Documents:
    def __init__(self, database: Database) -> None:
        self._database = database

    def register(
        self,
        tenant: str,
        knowledge_base_id: str,
        uploads: Sequence[Upload],
        blob_exists: Callable[[str], bool],
    ) -> tuple[str, list[Registered]]:
        """One transaction: documents and job items, all or none; (job id, one entry for each upload, in order).

        `blob_exists` is asked inside the transaction: from here on the bytes are referenced, and `collect` (which
        runs inside one too) leaves them alone. Raises NotFound, BlobMissing (put the bytes again and call again).
        """
        with self._database.write() as connection:
            take_turns(connection, _BLOBS, shared=True)
            _demand_knowledge_base(connection, tenant, knowledge_base_id, locked=True)
            job_id = open_job(connection, tenant, knowledge_base_id, "ingest")
            items = _register_all(connection, knowledge_base_id, job_id, uploads, blob_exists)
            close_finished(connection, job_id)
        return job_id, items

    def get(self, tenant: str, document_id: str) -> Document:
        """Raises NotFound."""
        with self._database.read() as connection:
            return _one(connection, tenant, document_id)

    def browse(
        self, tenant: str, knowledge_base_id: str, state: DocumentState | None, limit: int, cursor: str | None
    ) -> Page[Document]:
        query = _rows(tenant).where(documents.c.knowledge_base_id == knowledge_base_id)
        if state is not None:
            query = query.where(documents.c.state == state)
        if cursor is not None:
            query = query.where(documents.c.id > cursor)
        with self._database.read() as connection:
            _demand_knowledge_base(connection, tenant, knowledge_base_id)
            rows = [_shape(row) for row in connection.execute(query.order_by(documents.c.id).limit(limit + 1))]
        return page(rows, limit, lambda document: document.id)

    def text(self, tenant: str, document_id: str, start: int, end: int | None) -> TextSlice:
        """Canonical text of the live version; `end` past the text means its end. Raises NotFound."""
        with self._database.read() as connection:
            document = _one(connection, tenant, document_id)
            text = connection.scalar(
                select(document_versions.c.text).where(
                    document_versions.c.document_id == document_id, document_versions.c.version == document.version
                )
            )
        if text is None:
            raise NotFound("the document has no text yet", document_id=document_id, state=document.state)
        stop = len(text) if end is None else min(end, len(text))
        begin = min(start, stop)
        return TextSlice(text[begin:stop], begin, stop, len(text), document.version)

    def chunks(self, tenant: str, document_id: str, limit: int, cursor: str | None) -> Page[Chunk]:
        """In text order. Raises NotFound."""
        query = (
            select(
                chunks.c.id, chunks.c.ordinal, chunks.c.text, chunks.c.char_start, chunks.c.char_end,
                chunks.c.page, chunks.c.headings, chunks.c.language,
            )
            .join(document_versions, document_versions.c.id == chunks.c.version_id)
            .where(
                document_versions.c.document_id == document_id,
                chunks.c.retired_revision.is_(None),
                chunks.c.ordinal > (int(cursor) if cursor else -1),
            )
            .order_by(chunks.c.ordinal)
            .limit(limit + 1)
        )  # fmt: skip
        with self._database.read() as connection:
            _one(connection, tenant, document_id)
            rows = connection.execute(query).mappings().all()
        shaped = [Chunk(**{**row, "id": str(row["id"]), "headings": tuple(row["headings"])}) for row in rows]
        return page(shaped, limit, lambda chunk: str(chunk.ordinal))

    def delete(self, tenant: str, document_id: str) -> str:
        """When this returns, the document is never retrieved or cited again; returns the SHA-256 of its bytes.

        Text and vectors are erased in the same transaction; what stays until the next compaction are the chunk ids,
        so that every index learns what to forget. A deletion wins over an ingestion under way.
        """
        with self._database.write() as connection:
            document = _one(connection, tenant, document_id)
            # Items before the knowledge base, as in publication: else the two could wait for each other.
            _cancel_items(connection, document_id)
            revision = raise_revision(connection, document.knowledge_base_id)
            is_live = (documents.c.id == document_id, documents.c.deleted_at.is_(None))
            gone = update(documents).where(*is_live).values(deleted_at=now(), updated_at=now())
            if connection.execute(gone).rowcount == 0:
                raise NotFound("no such document", document_id=document_id)
            _erase(connection, document_id, revision)
        return document.sha256

    def collect(self, sha256: str, remove: Callable[[str], None]) -> None:
        """Remove the bytes if no live document uses them, inside the transaction that makes sure of it."""
        query = select(documents.c.id).where(documents.c.sha256 == sha256, documents.c.deleted_at.is_(None))
        with self._database.write() as connection:
            take_turns(connection, _BLOBS)
            if connection.execute(query.limit(1)).first() is None:
                remove(sha256)

    def blobs_in_use(self) -> dict[str, int]:
        """SHA-256 to size, of every live document of every tenant."""
        query = select(documents.c.sha256, documents.c.bytes).where(documents.c.deleted_at.is_(None)).distinct()
        with self._database.read() as connection:
            return {row.sha256: row.bytes for row in connection.execute(query)}


def _register_all(
    connection: Connection,
    knowledge_base_id: str,
    job_id: str,
    uploads: Sequence[Upload],
    blob_exists: Callable[[str], bool],
) -> list[Registered]:
    known = _documents_of(connection, knowledge_base_id, {upload.sha256 for upload in uploads})
    registered, rows = [], []
    for upload in uploads:
        status: Literal["queued", "duplicate"] = "duplicate"
        if upload.sha256 not in known:
            if not blob_exists(upload.sha256):
                raise BlobMissing("the bytes were collected before they were registered", sha256=upload.sha256)
            status, known[upload.sha256] = "queued", new_id()
            rows.append({"id": known[upload.sha256], "knowledge_base_id": knowledge_base_id, **asdict(upload)})
        registered.append(Registered(known[upload.sha256], status))
    if rows:
        fresh = insert(documents).values(version=0, state="queued", chunks=0, created_at=now(), updated_at=now())
        connection.execute(fresh, rows)
        items = [{"job_id": job_id, "document_id": row["id"], "state": "queued", "attempts": 0} for row in rows]
        connection.execute(insert(job_items), items)
    return registered


def _documents_of(connection: Connection, knowledge_base_id: str, hashes: set[str]) -> dict[str, str]:
    """SHA-256 to the live document that has it."""
    query = select(documents.c.sha256, documents.c.id).where(
        documents.c.knowledge_base_id == knowledge_base_id,
        documents.c.sha256.in_(hashes),
        documents.c.deleted_at.is_(None),
    )
    return {row.sha256: row.id for row in connection.execute(query)}


def _demand_knowledge_base(
    connection: Connection, tenant: str, knowledge_base_id: str, *, locked: bool = False
) -> None:
    """`locked` against other uploads: of two with the same bytes the second finds the first's document."""
    kb = knowledge_bases.c
    mine = select(kb.id).where(kb.id == knowledge_base_id, kb.tenant == tenant)
    if connection.scalar(mine.with_for_update(key_share=True) if locked else mine) is None:
        raise NotFound("no such knowledge base", knowledge_base_id=knowledge_base_id)


def _erase(connection: Connection, document_id: str, revision: int) -> None:
    versions = select(document_versions.c.id).where(document_versions.c.document_id == document_id)
    of_document = chunks.c.version_id.in_(versions)
    connection.execute(delete(vectors).where(vectors.c.chunk_id.in_(select(chunks.c.id).where(of_document))))
    connection.execute(
        update(chunks)
        .where(of_document)
        .values(text="", headings=[], retired_revision=func.coalesce(chunks.c.retired_revision, revision))
    )
    connection.execute(update(document_versions).where(document_versions.c.document_id == document_id).values(text=""))


def _cancel_items(connection: Connection, document_id: str) -> None:
    open_items = (job_items.c.document_id == document_id, job_items.c.state.in_(("queued", "processing")))
    touched = connection.scalars(
        update(job_items).where(*open_items).values(state="cancelled").returning(job_items.c.job_id)
    )
    for job_id in sorted(touched):
        close_finished(connection, job_id)


def _rows(tenant: str) -> Select[Any]:
    d = documents.c
    return (
        select(
            d.id, d.knowledge_base_id, d.filename, d.media_type, d.bytes, d.sha256, d.version, d.state, d.language,
            d.pages, d.chunks, d.error, d.source_uri, d.created_at, d.updated_at,
        )
        .join(knowledge_bases, knowledge_bases.c.id == d.knowledge_base_id)
        .where(knowledge_bases.c.tenant == tenant, d.deleted_at.is_(None))
    )  # fmt: skip


def _one(connection: Connection, tenant: str, document_id: str) -> Document:
    row = connection.execute(_rows(tenant).where(documents.c.id == document_id)).one_or_none()
    if row is None:
        raise NotFound("no such document", document_id=document_id)
    return _shape(row)


def _shape(row: Row[Any]) -> Document:
    return Document(**{**row._mapping, "error": problems.from_json(row.error)})
