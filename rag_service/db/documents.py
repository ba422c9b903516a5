"""Documents: accepting them, showing them, deleting them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import CompoundSelect, Connection, Row, Select, bindparam, delete, func, insert, select, union, update

from rag_service import failpoints
from rag_service.db import items, problems
from rag_service.db.batches import batches
from rag_service.db.idempotency import Once
from rag_service.db.items import is_newest, is_open, keeps_bytes
from rag_service.db.jobs import cancel_items, close_finished, open_job, queue_documents
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
from rag_service.errors import BlobMissing, ContentTaken, NotFound, VersionChanged
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


Status = Literal["queued", "duplicate"]


@dataclass(frozen=True, slots=True)
class Registered:
    document_id: str
    status: Status


@dataclass(frozen=True, slots=True)
class Replacement:
    """`superseded` are the SHA-256 of bytes that may have lost their last use."""

    job_id: str
    registered: Registered
    superseded: tuple[str, ...]


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
        once: Once | None = None,
    ) -> tuple[str, list[Registered]]:
        """One transaction: documents and job items, all or none; (job id, one entry for each upload, in order).

        Bytes of a live document, or of one that is about to get them, are a `duplicate` of it; a document that failed
        is queued again. `blob_exists` is asked inside the transaction: from here on the bytes are referenced, and
        `collect` (which runs inside one too) leaves them alone. Raises NotFound, BlobMissing (put the bytes again and
        call again); with `once` also Replayed, KeyReused.
        """
        hashes = {upload.sha256 for upload in uploads}
        with self._database.write() as connection:
            if once is not None:
                once.begin(connection)
            take_turns(connection, _BLOBS, shared=True)
            broken = _failed(connection, tenant, knowledge_base_id, hashes)
            items.lock_documents(connection, broken)
            _demand_knowledge_base(connection, tenant, knowledge_base_id, locked=True)
            broken &= _failed(connection, tenant, knowledge_base_id, hashes)
            job_id = open_job(connection, tenant, knowledge_base_id, "ingest")
            registered = _register_all(connection, knowledge_base_id, job_id, uploads, blob_exists, broken)
            close_finished(connection, job_id)
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
        blob_exists: Callable[[str], bool],
        once: Once | None = None,
    ) -> Replacement:
        """The document's next version; the present one answers until that is published. One transaction, as above.

        `etag` is what is meant to be replaced, None: whatever there is. The last accepted wins: an older one that
        waits is cancelled. The bytes it has, or is about to get, are a `duplicate`. Raises NotFound, VersionChanged,
        ContentTaken, BlobMissing; with `once` also Replayed, KeyReused.
        """
        with self._database.write() as connection:
            if once is not None:
                once.begin(connection)
            take_turns(connection, _BLOBS, shared=True)
            items.lock_documents(connection, [document_id])
            document = _one(connection, tenant, document_id)
            if etag not in (None, document.etag):
                raise VersionChanged("the document has changed since", etag=document.etag, document_id=document_id)
            made = _replace(connection, tenant, document, upload, blob_exists)
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

    def delete(self, tenant: str, document_id: str) -> list[str]:
        """When this returns, the document is never retrieved or cited again; returns the SHA-256 of its bytes.

        Text and vectors are erased in the same transaction; what stays until the next compaction are the chunk ids,
        so that every index learns what to forget. A deletion wins over an ingestion under way, and over a new version
        that waits.
        """
        with self._database.write() as connection:
            document = _one(connection, tenant, document_id)
            items.lock_documents(connection, [document_id])
            cancel_items(connection, _open_items(connection, document_id))
            revision = raise_revision(connection, document.knowledge_base_id)
            is_live = (documents.c.id == document_id, documents.c.deleted_at.is_(None))
            gone = update(documents).where(*is_live).values(deleted_at=now(), updated_at=now())
            stored = connection.scalar(gone.returning(documents.c.sha256))
            if stored is None:
                raise NotFound("no such document", document_id=document_id)
            _erase(connection, document_id, revision)
            failpoints.reach("delete.written")
            return sorted({stored, *_newest_bytes(connection, document_id)})

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


def _failed(connection: Connection, tenant: str, knowledge_base_id: str, hashes: Collection[str]) -> set[str]:
    """Documents with these bytes that have come to nothing."""
    query = (
        select(documents.c.id)
        .join(knowledge_bases, knowledge_bases.c.id == documents.c.knowledge_base_id)
        .where(
            knowledge_bases.c.tenant == tenant, documents.c.knowledge_base_id == knowledge_base_id,
            documents.c.state == "failed", documents.c.deleted_at.is_(None),
        )
    )  # fmt: skip
    found: set[str] = set()
    for some in batches(hashes):
        found.update(connection.scalars(query.where(documents.c.sha256.in_(some))))
    return found


def _register_all(
    connection: Connection,
    knowledge_base_id: str,
    job_id: str,
    uploads: Sequence[Upload],
    blob_exists: Callable[[str], bool],
    broken: set[str],
) -> list[Registered]:
    """`broken` are documents to be queued again; their items are locked."""
    known = _documents_of(connection, knowledge_base_id, {upload.sha256 for upload in uploads})
    registered: list[Registered] = []
    fresh: dict[str, Upload] = {}
    again: dict[str, Upload] = {}
    for upload in uploads:
        document_id = known.get(upload.sha256)
        if document_id is not None and (document_id not in broken or document_id in again):
            registered.append(Registered(document_id, "duplicate"))
            continue
        _demand_blob(upload, blob_exists)
        if document_id is None:
            document_id = known[upload.sha256] = new_id()
            fresh[document_id] = upload
        else:
            again[document_id] = upload
        registered.append(Registered(document_id, "queued"))
    _insert_documents(connection, knowledge_base_id, fresh)
    _requeue_documents(connection, again)
    _insert_items(connection, knowledge_base_id, job_id, {**fresh, **again})
    return registered


def _insert_documents(connection: Connection, knowledge_base_id: str, fresh: Mapping[str, Upload]) -> None:
    rows = [{"id": key, "knowledge_base_id": knowledge_base_id, **asdict(upload)} for key, upload in fresh.items()]
    if rows:
        queued = insert(documents).values(version=0, state="queued", chunks=0, created_at=now(), updated_at=now())
        connection.execute(queued, rows)


def _requeue_documents(connection: Connection, again: Mapping[str, Upload]) -> None:
    """A document without a version is what was last accepted for it, its name included."""
    columns = ("filename", "media_type", "bytes", "sha256")
    statement = (
        update(documents)
        .where(documents.c.id == bindparam("document"))
        .values(state="queued", error=None, updated_at=now(), **{name: bindparam(f"new_{name}") for name in columns})
    )
    rows = [
        {"document": key, **{f"new_{name}": getattr(upload, name) for name in columns}} for key, upload in again.items()
    ]
    if rows:
        connection.execute(statement, rows)


def _insert_items(connection: Connection, knowledge_base_id: str, job_id: str, uploads: Mapping[str, Upload]) -> None:
    rows = [
        {
            "job_id": job_id, "document_id": document_id, "state": "queued", "attempts": 0,
            "knowledge_base_id": knowledge_base_id, "filename": upload.filename, "media_type": upload.media_type,
            "bytes": upload.bytes, "sha256": upload.sha256,
        }
        for document_id, upload in uploads.items()
    ]  # fmt: skip
    if rows:
        connection.execute(insert(job_items), rows)


def _replace(
    connection: Connection, tenant: str, document: Document, upload: Upload, blob_exists: Callable[[str], bool]
) -> Replacement:
    """The document's items are locked."""
    if upload.sha256 == document.etag and document.state != "failed":
        return Replacement(_empty_job(connection, tenant, document), Registered(document.id, "duplicate"), ())
    superseded = {document.sha256, *_newest_bytes(connection, document.id)} - {upload.sha256}
    cancel_items(connection, _open_items(connection, document.id))
    _demand_knowledge_base(connection, tenant, document.knowledge_base_id, locked=True)
    if document.version and upload.sha256 == document.sha256:
        # Back to what is live: what waited is cancelled, and there is nothing to be done.
        job_id = _empty_job(connection, tenant, document)
        status: Status = "duplicate"
    else:
        _demand_untaken(connection, document, upload.sha256)
        _demand_blob(upload, blob_exists)
        job_id = _queue_version(connection, tenant, document, upload)
        status = "queued"
    return Replacement(job_id, Registered(document.id, status), tuple(sorted(superseded)))


def _queue_version(connection: Connection, tenant: str, document: Document, upload: Upload) -> str:
    job_id = open_job(connection, tenant, document.knowledge_base_id, "ingest")
    if document.version == 0:
        _requeue_documents(connection, {document.id: upload})
    else:
        queue_documents(connection, [document.id])
    _insert_items(connection, document.knowledge_base_id, job_id, {document.id: upload})
    return job_id


def _empty_job(connection: Connection, tenant: str, document: Document) -> str:
    job_id = open_job(connection, tenant, document.knowledge_base_id, "ingest")
    close_finished(connection, job_id)
    return job_id


def _demand_untaken(connection: Connection, document: Document, sha256: str) -> None:
    taken = _documents_of(connection, document.knowledge_base_id, {sha256}).get(sha256, document.id)
    if taken != document.id:
        raise ContentTaken("another document of the knowledge base has these bytes", document_id=taken)


def _demand_blob(upload: Upload, blob_exists: Callable[[str], bool]) -> None:
    if not blob_exists(upload.sha256):
        raise BlobMissing("the bytes were collected before they were registered", sha256=upload.sha256)


def _open_items(connection: Connection, document_id: str) -> list[int]:
    return list(connection.scalars(select(job_items.c.id).where(job_items.c.document_id == document_id, is_open())))


def _newest_bytes(connection: Connection, document_id: str) -> list[str]:
    """What was last accepted for it; of anything older only what is live is kept."""
    newest = select(job_items.c.sha256).where(job_items.c.document_id == document_id, is_newest())
    return list(connection.scalars(newest))


def _documents_of(connection: Connection, knowledge_base_id: str, hashes: Collection[str]) -> dict[str, str]:
    """SHA-256 to the live document that has it, or else to that which is about to get it."""
    live = select(documents.c.sha256, documents.c.id).where(
        documents.c.knowledge_base_id == knowledge_base_id, documents.c.deleted_at.is_(None)
    )
    pending = select(job_items.c.sha256, job_items.c.document_id.label("id")).where(
        job_items.c.knowledge_base_id == knowledge_base_id, is_open()
    )
    found: dict[str, str] = {}
    for some in batches(hashes):
        rows = [
            *connection.execute(pending.where(job_items.c.sha256.in_(some))),
            *connection.execute(live.where(documents.c.sha256.in_(some))),
        ]
        found |= {row.sha256: row.id for row in rows}
    return found


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
