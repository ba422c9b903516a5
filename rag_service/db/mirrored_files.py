"""Which document holds what stood at a path of a mirrored folder when it was last looked at."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass

from sqlalchemy import ColumnElement, Connection, Select, and_, delete, func, insert, or_, select

from rag_service.db.batches import batches
from rag_service.db.items import is_open
from rag_service.db.sessions import Database
from rag_service.db.tables import documents, job_items, knowledge_bases, mirrored_files
from rag_service.errors import ContentTaken, NotFound
from rag_service.types import DocumentState

UPLOADED = "uploaded"
"""In place of a folder, which is an absolute path: whoever uploads bytes that are there has the document, too."""


@dataclass(frozen=True, slots=True)
class MirroredFile:
    """`bytes` and `modified_ns` are those of the file at `path`, or of the archive that this is a member of.

    `owned`: mirroring put the document there, and may remove it.
    """

    path: str
    document_id: str
    sha256: str
    bytes: int
    modified_ns: int
    owned: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """A mirrored file and what has become of its document: `live_sha256` are the bytes that answer now."""

    file: MirroredFile
    state: DocumentState
    live_sha256: str
    filename: str

    @property
    def is_settled(self) -> bool:
        """The document answers with just these bytes."""
        return self.state == "ready" and self.live_sha256 == self.file.sha256


@dataclass(frozen=True, slots=True)
class Holder:
    """A path, of whichever folder, whose content a document has; or, below `UPLOADED`, an upload of it."""

    document_id: str
    root: str
    path: str
    owned: bool


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A live document under a name: a mirrored path of it, or else its own file name."""

    path: str
    document_id: str
    etag: str


class MirroredFiles:
    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, knowledge_base_id: str, root: str) -> dict[str, Standing]:
        """Path to what is there; documents that were deleted since are not."""
        m = mirrored_files.c
        query = (
            select(
                m.path, m.document_id, m.sha256, m.bytes, m.modified_ns, m.owned, documents.c.state,
                documents.c.sha256.label("live_sha256"), documents.c.filename,
            )
            .join(documents, documents.c.id == m.document_id)
            .where(m.knowledge_base_id == knowledge_base_id, m.root == root, documents.c.deleted_at.is_(None))
        )  # fmt: skip
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return {row.path: Standing(MirroredFile(*row[:6]), *row[6:]) for row in rows}

    def put(self, knowledge_base_id: str, root: str, files: Iterable[MirroredFile]) -> None:
        """What is known of these paths from now on; one transaction."""
        rows = {file.path: {"knowledge_base_id": knowledge_base_id, "root": root, **asdict(file)} for file in files}
        with self._database.write() as connection:
            for paths in batches(rows):
                connection.execute(delete(mirrored_files).where(*_at(knowledge_base_id, root, paths)))
                connection.execute(insert(mirrored_files), [rows[path] for path in paths])

    def forget(self, knowledge_base_id: str, root: str, paths: Iterable[str]) -> None:
        with self._database.write() as connection:
            for some in batches(paths):
                connection.execute(delete(mirrored_files).where(*_at(knowledge_base_id, root, some)))

    def holders(self, knowledge_base_id: str, document_ids: Collection[str]) -> list[Holder]:
        """Everything that has one of these documents, whichever folder it is in."""
        m = mirrored_files.c
        query = select(m.document_id, m.root, m.path, m.owned).where(m.knowledge_base_id == knowledge_base_id)
        with self._database.read() as connection:
            return [
                Holder(*row)
                for some in batches(sorted(set(document_ids)))
                for row in connection.execute(query.where(m.document_id.in_(some)))
            ]

    def open_jobs(self, knowledge_base_id: str, root: str) -> list[str]:
        """The jobs that still have something of this folder to do."""
        m = mirrored_files.c
        query = (
            select(job_items.c.job_id)
            .join(mirrored_files, m.document_id == job_items.c.document_id)
            .where(m.knowledge_base_id == knowledge_base_id, m.root == root, is_open())
        )
        with self._database.read() as connection:
            return sorted(set(connection.scalars(query)))

    def known(self, tenant: str, knowledge_base_id: str) -> list[KnownFile]:
        """Every name of every live document, oldest document first. Raises NotFound."""
        with self._database.read() as connection:
            mine = (knowledge_bases.c.id == knowledge_base_id, knowledge_bases.c.tenant == tenant)
            if connection.scalar(select(knowledge_bases.c.id).where(*mine)) is None:
                raise NotFound("no such knowledge base", knowledge_base_id=knowledge_base_id)
            return [KnownFile(*row) for row in connection.execute(_known(knowledge_base_id))]


def note_uploaded(connection: Connection, knowledge_base_id: str, document_ids: Collection[str]) -> None:
    """Their bytes came again, from somebody who is no folder: from now on no folder's changes touch them.

    A row of its own: a mirror may be about to write what it knows of its files. Under the knowledge base's lock.
    """
    m = mirrored_files.c
    mine = (m.knowledge_base_id == knowledge_base_id, m.root == UPLOADED)
    for some in batches(sorted(document_ids)):
        noted = set(connection.scalars(select(m.path).where(*mine, m.path.in_(some))))
        rows = [
            {
                "knowledge_base_id": knowledge_base_id, "root": UPLOADED, "path": document_id,
                "document_id": document_id, "sha256": "", "bytes": 0, "modified_ns": 0, "owned": False,
            }
            for document_id in some
            if document_id not in noted
        ]  # fmt: skip
        if rows:
            connection.execute(insert(mirrored_files), rows)


def demand_not_uploaded(connection: Connection, document_id: str) -> None:
    """Under the knowledge base's lock. Raises ContentTaken."""
    m = mirrored_files.c
    if connection.scalar(select(m.path).where(m.document_id == document_id, m.root == UPLOADED)) is not None:
        raise ContentTaken("somebody else has uploaded these bytes, too", document_id=document_id)


def _at(knowledge_base_id: str, root: str, paths: Collection[str]) -> tuple[ColumnElement[bool], ...]:
    m = mirrored_files.c
    return m.knowledge_base_id == knowledge_base_id, m.root == root, m.path.in_(paths)


def _known(knowledge_base_id: str) -> Select[str, str, str]:
    accepted = (
        select(job_items.c.sha256)
        .where(job_items.c.document_id == documents.c.id, is_open())
        .order_by(job_items.c.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    return (
        select(
            func.coalesce(mirrored_files.c.path, documents.c.filename), documents.c.id,
            func.coalesce(accepted, documents.c.sha256),
        )
        .join(
            mirrored_files,
            and_(mirrored_files.c.document_id == documents.c.id, mirrored_files.c.root != UPLOADED),
            isouter=True,
        )
        .where(
            documents.c.knowledge_base_id == knowledge_base_id,
            documents.c.deleted_at.is_(None),
            or_(mirrored_files.c.path.is_(None), mirrored_files.c.knowledge_base_id == knowledge_base_id),
        )
        .order_by(documents.c.id, mirrored_files.c.root, mirrored_files.c.path)
    )  # fmt: skip
