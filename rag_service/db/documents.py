"""Documents: accepting them (what becomes of uploads is in `registration`), showing them, deleting them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import CompoundSelect, Connection, Row, Select, delete, func, select, union, update

from rag_service import failpoints
from rag_service.db import items, mirrored_files, problems, registration
from rag_service.db.idempotency import Once
from rag_service.db.items import is_open, keeps_bytes
from rag_service.db.jobs import cancel_items
from rag_service.db.knowledge_bases import raise_revision
from rag_service.db.pages import Page, page
from rag_service.db.registration import BlobExists, Registered, Replacement, Upload, demand_knowledge_base
from rag_service.db.sessions import Database, take_turns
from rag_service.db.tables import (
    chunks,
    document_versions,
    documents,
    job_items,
    knowledge_bases,
    now,
    vectors,
)
from rag_service.errors import NotFound, VersionChanged
from rag_service.types import Chunk, Document, DocumentState

_BLOBS = "blobs"
"""Those who refer to stored bytes and those who remove them take turns under this name."""


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
        blob_exists: BlobExists,
        once: Once | None = None,
        *,
        mirrored: bool = False,
    ) -> tuple[str, list[Registered]]:
        """One transaction: documents and job items, all or none; (job id, one entry for each upload, in order).

        Bytes of a live document are a `duplicate` of it, and `refused` while it is about to get others; a document
        that failed is queued again. Bytes that a document is only about to get become one of their own: should they be
        there first, that replacement fails with `content-taken`. `mirrored`: a folder's files, which it may remove
        again; anybody else's upload keeps a mirrored document for good. `blob_exists` is asked inside the transaction:
        from here on the bytes are referenced, and `collect` (which runs inside one too) leaves them alone. Raises
        NotFound, BlobMissing (put the bytes again and call again); with `once` also Replayed, KeyReused.
        """
        with self._database.write() as connection:
            if once is not None:
                once.begin(connection)
            take_turns(connection, _BLOBS, shared=True)
            job_id, registered = registration.register(
                connection, tenant, knowledge_base_id, uploads, blob_exists, mirrored=mirrored
            )
            if once is not None:
                once.end(connection, _made(job_id, registered))
            failpoints.reach("upload.written")
        return job_id, registered

    def replace(
        self,
        tenant: str,
        document_id: str,
        upload: Upload,
        etag: str | None,
        blob_exists: BlobExists,
        once: Once | None = None,
        *,
        mirrored: bool = False,
    ) -> Replacement:
        """The document's next version; the present one answers until that is published. One transaction, as above.

        `etag` is what is meant to be replaced, None: whatever there is. The last accepted wins: an older one that
        waits is cancelled. The bytes it has, or is about to get, are a `duplicate`. `mirrored`: for a folder's file,
        of which a new name alone is a new version, and ContentTaken also where somebody has uploaded the document's
        bytes since. Raises NotFound, VersionChanged, ContentTaken, BlobMissing; with `once` also Replayed, KeyReused.
        """
        with self._database.write() as connection:
            if once is not None:
                once.begin(connection)
            take_turns(connection, _BLOBS, shared=True)
            items.lock_documents(connection, [document_id])
            document = _one(connection, tenant, document_id)
            if etag not in (None, document.etag):
                raise VersionChanged("the document has changed since", etag=document.etag, document_id=document_id)
            made = registration.replace(connection, tenant, document, upload, blob_exists, mirrored=mirrored)
            if once is not None:
                once.end(connection, _made(made.job_id, [made.registered]))
            failpoints.reach("replace.written")
        return made

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
            demand_knowledge_base(connection, tenant, knowledge_base_id)
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

    def delete(self, tenant: str, document_id: str, *, mirrored: bool = False) -> list[str]:
        """When this returns, the document is never retrieved or cited again; returns the SHA-256 of its bytes.

        Text and vectors are erased in the same transaction; what stays until the next compaction are the chunk ids,
        so that every index learns what to forget. A deletion wins over an ingestion under way, and over a new version
        that waits. `mirrored`: because its file is gone. Raises NotFound; then also ContentTaken, where somebody has
        uploaded the document's bytes, too.
        """
        with self._database.write() as connection:
            document = _one(connection, tenant, document_id)
            items.lock_documents(connection, [document_id])
            cancel_items(connection, items.open_of(connection, document_id))
            revision = raise_revision(connection, document.knowledge_base_id)
            if mirrored:
                mirrored_files.demand_not_uploaded(connection, document_id)
            is_live = (documents.c.id == document_id, documents.c.deleted_at.is_(None))
            gone = update(documents).where(*is_live).values(deleted_at=now(), updated_at=now())
            stored = connection.scalar(gone.returning(documents.c.sha256))
            if stored is None:
                raise NotFound("no such document", document_id=document_id)
            _erase(connection, document_id, revision)
            failpoints.reach("delete.written")
            return sorted({stored, *items.newest_bytes(connection, document_id)})

    def collect(self, sha256: str, remove: Callable[[str], None]) -> None:
        """Remove the bytes if nothing uses them, inside the transaction that makes sure of it."""
        with self._database.write() as connection:
            take_turns(connection, _BLOBS)
            # One statement: between two a publication could move the bytes from the one to the other.
            if connection.execute(_in_use(sha256).limit(1)).first() is None:
                remove(sha256)

    def blobs_in_use(self) -> dict[str, int]:
        """SHA-256 to size, of every tenant: what live documents have, are about to get, or may try again to get."""
        with self._database.read() as connection:
            return {row.sha256: row.bytes for row in connection.execute(_in_use())}


def _in_use(sha256: str | None = None) -> CompoundSelect[Any]:
    alive = documents.c.deleted_at.is_(None)
    live = select(documents.c.sha256, documents.c.bytes).where(alive)
    pending = (
        select(job_items.c.sha256, job_items.c.bytes)
        .join(documents, documents.c.id == job_items.c.document_id)
        .where(alive, keeps_bytes())
    )
    if sha256 is not None:
        live, pending = live.where(documents.c.sha256 == sha256), pending.where(job_items.c.sha256 == sha256)
    return union(live, pending)


def _made(job_id: str, registered: Sequence[Registered]) -> dict[str, Any]:
    return {"job_id": job_id, "registered": [asdict(entry) for entry in registered]}


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


_PENDING = (
    select(job_items.c.sha256)
    .where(job_items.c.document_id == documents.c.id, is_open())
    .order_by(job_items.c.id.desc())
    .limit(1)
    .scalar_subquery()
)


def _rows(tenant: str) -> Select[Any]:
    d = documents.c
    return (
        select(
            d.id, d.knowledge_base_id, d.filename, d.media_type, d.bytes, d.sha256, d.version, d.state, d.language,
            d.pages, d.chunks, d.error, d.source_uri, d.created_at, d.updated_at,
            func.coalesce(_PENDING, d.sha256).label("etag"),
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
