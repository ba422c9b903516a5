"""What becomes of uploads, in the transaction that accepts them: documents of their own, versions, or duplicates.

Whoever gives a document bytes holds the knowledge base's lock, so of two with the same bytes the second finds the
first. Who is told `duplicate` has a document that keeps these bytes until somebody asks otherwise: never one that is
just being replaced, and never one that is yet to get them and may not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from sqlalchemy import Connection, bindparam, insert, select, update

from rag_service.db import items, mirrored_files
from rag_service.db.batches import batches
from rag_service.db.items import is_open
from rag_service.db.jobs import cancel_items, close_finished, open_job, queue_documents
from rag_service.db.sessions import new_id
from rag_service.db.tables import documents, job_items, knowledge_bases, now
from rag_service.errors import BlobMissing, ContentTaken, NotFound
from rag_service.types import Document

BlobExists = Callable[[str], bool]
Status = Literal["queued", "duplicate", "refused"]


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
    """`refused`: the document has these bytes, and is just getting others; nothing was accepted."""

    document_id: str
    status: Status


@dataclass(frozen=True, slots=True)
class Replacement:
    """`superseded` are the SHA-256 of bytes that may have lost their last use."""

    job_id: str
    registered: Registered
    superseded: tuple[str, ...]


def register(
    connection: Connection,
    tenant: str,
    knowledge_base_id: str,
    uploads: Sequence[Upload],
    blob_exists: BlobExists,
    *,
    mirrored: bool,
) -> tuple[str, list[Registered]]:
    """(job id, one entry for each upload, in order). Raises NotFound, BlobMissing."""
    hashes = {upload.sha256 for upload in uploads}
    broken = _failed(connection, tenant, knowledge_base_id, hashes)
    items.lock_documents(connection, broken)
    demand_knowledge_base(connection, tenant, knowledge_base_id, locked=True)
    broken &= _failed(connection, tenant, knowledge_base_id, hashes)
    job_id = open_job(connection, tenant, knowledge_base_id, "ingest")
    known = _holders(connection, knowledge_base_id, hashes)
    registered = _register_all(connection, knowledge_base_id, job_id, uploads, blob_exists, known, broken)
    close_finished(connection, job_id)
    if not mirrored:
        asked_for = {entry.document_id for entry in registered if entry.status != "refused"}
        mirrored_files.note_uploaded(connection, knowledge_base_id, asked_for & set(known.values()))
    return job_id, registered


def replace(
    connection: Connection,
    tenant: str,
    document: Document,
    upload: Upload,
    blob_exists: BlobExists,
    *,
    mirrored: bool,
) -> Replacement:
    """The document's items are locked. Raises ContentTaken, BlobMissing."""
    renames = mirrored and bool(document.version) and upload.sha256 == document.sha256 and _is_renamed(document, upload)
    if upload.sha256 == document.etag and document.state != "failed" and not renames:
        _forget_error(connection, document)
        return Replacement(_empty_job(connection, tenant, document), Registered(document.id, "duplicate"), ())
    superseded = {document.sha256, *items.newest_bytes(connection, document.id)} - {upload.sha256}
    cancel_items(connection, items.open_of(connection, document.id))
    demand_knowledge_base(connection, tenant, document.knowledge_base_id, locked=True)
    if mirrored:
        mirrored_files.demand_not_uploaded(connection, document.id)
    if document.version and upload.sha256 == document.sha256 and not renames:
        # Back to what is live: what waited is cancelled, and there is nothing to be done.
        _forget_error(connection, document)
        job_id = _empty_job(connection, tenant, document)
        status: Status = "duplicate"
    else:
        _demand_untaken(connection, document, upload.sha256)
        _demand_blob(upload, blob_exists)
        job_id = _queue_version(connection, tenant, document, upload)
        status = "queued"
    return Replacement(job_id, Registered(document.id, status), tuple(sorted(superseded)))


def demand_knowledge_base(connection: Connection, tenant: str, knowledge_base_id: str, *, locked: bool = False) -> None:
    """`locked` against other uploads: of two with the same bytes the second finds the first's document."""
    kb = knowledge_bases.c
    mine = select(kb.id).where(kb.id == knowledge_base_id, kb.tenant == tenant)
    if connection.scalar(mine.with_for_update(key_share=True) if locked else mine) is None:
        raise NotFound("no such knowledge base", knowledge_base_id=knowledge_base_id)


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
    blob_exists: BlobExists,
    known: Mapping[str, str],
    broken: set[str],
) -> list[Registered]:
    """`known` is SHA-256 to document; `broken` are documents to be queued again; their items are locked."""
    changing = _changing(connection, known)
    holders = dict(known)
    registered: list[Registered] = []
    fresh: dict[str, Upload] = {}
    again: dict[str, Upload] = {}
    for upload in uploads:
        document_id = holders.get(upload.sha256)
        if document_id in changing:
            registered.append(Registered(document_id, "refused"))
            continue
        if document_id is not None and (document_id not in broken or document_id in again):
            registered.append(Registered(document_id, "duplicate"))
            continue
        _demand_blob(upload, blob_exists)
        if document_id is None:
            document_id = holders[upload.sha256] = new_id()
            fresh[document_id] = upload
        else:
            again[document_id] = upload
        registered.append(Registered(document_id, "queued"))
    _insert_documents(connection, knowledge_base_id, fresh)
    _requeue_documents(connection, again)
    _insert_items(connection, knowledge_base_id, job_id, {**fresh, **again})
    return registered


def _holders(connection: Connection, knowledge_base_id: str, hashes: Collection[str]) -> dict[str, str]:
    """SHA-256 to the live document that has it."""
    live = select(documents.c.sha256, documents.c.id).where(
        documents.c.knowledge_base_id == knowledge_base_id, documents.c.deleted_at.is_(None)
    )
    found: dict[str, str] = {}
    for some in batches(hashes):
        found |= {row.sha256: row.id for row in connection.execute(live.where(documents.c.sha256.in_(some)))}
    return found


def _changing(connection: Connection, holders: Mapping[str, str]) -> set[str]:
    """Those that are about to get other bytes than they have."""
    query = (
        select(documents.c.id)
        .join(job_items, job_items.c.document_id == documents.c.id)
        .where(is_open(), job_items.c.sha256 != documents.c.sha256)
    )
    found: set[str] = set()
    for some in batches(holders.values()):
        found.update(connection.scalars(query.where(documents.c.id.in_(some))))
    return found


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


def _is_renamed(document: Document, upload: Upload) -> bool:
    return (upload.filename, upload.media_type) != (document.filename, document.media_type)


def _forget_error(connection: Connection, document: Document) -> None:
    """It has just what it is meant to have: what went wrong with something else is of no interest any more."""
    if document.error is not None:
        connection.execute(update(documents).where(documents.c.id == document.id).values(error=None, updated_at=now()))


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
    """No other document has these bytes, or is about to get them."""
    live = select(documents.c.id).where(
        documents.c.knowledge_base_id == document.knowledge_base_id, documents.c.deleted_at.is_(None),
        documents.c.sha256 == sha256, documents.c.id != document.id,
    )  # fmt: skip
    pending = select(job_items.c.document_id).where(
        job_items.c.knowledge_base_id == document.knowledge_base_id, is_open(),
        job_items.c.sha256 == sha256, job_items.c.document_id != document.id,
    )  # fmt: skip
    taken = connection.scalar(live) or connection.scalar(pending)
    if taken is not None:
        raise ContentTaken("another document of the knowledge base has these bytes", document_id=taken)


def _demand_blob(upload: Upload, blob_exists: BlobExists) -> None:
    if not blob_exists(upload.sha256):
        raise BlobMissing("the bytes were collected before they were registered", sha256=upload.sha256)
