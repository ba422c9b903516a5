"""The one transaction in which a document version, its chunks and their vectors become visible."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, func, insert, select, update

from rag_service import failpoints
from rag_service.db import generations
from rag_service.db.batches import batches
from rag_service.db.jobs import Claim, finish_item
from rag_service.db.knowledge_bases import raise_revision
from rag_service.db.sessions import Database
from rag_service.db.tables import chunks, document_versions, documents, knowledge_bases, now, vectors
from rag_service.errors import ContentTaken, EmbedderChanged, InvalidInput, NotFound, Overloaded, StorageFull
from rag_service.ports import Vectors
from rag_service.types import ChunkDraft, ParsedDocument

Halves = NDArray[np.float16]
_HALF = np.dtype("<f2")


class Publisher:
    """`collect` is told the SHA-256 of bytes that a new version has superseded."""

    def __init__(self, database: Database, collect: Callable[[str], None] | None = None) -> None:
        self._database = database
        self._collect = collect

    def embedder_of(self, knowledge_base_id: str) -> str:
        """The one that is to embed its documents. Raises NotFound."""
        with self._database.glance() as connection:
            embedder = connection.scalar(_EMBEDDER, {"in_kb": knowledge_base_id})
        if embedder is None:
            raise NotFound("the knowledge base is gone", knowledge_base_id=knowledge_base_id)
        return str(embedder)

    def known_vectors(self, text_sha256s: Collection[str], embedder: str) -> dict[str, Halves]:
        """float16 [dimensions] of every text among these that this embedder has embedded before and SQL still has."""
        found: dict[str, Halves] = {}
        with self._database.read() as connection:
            for some in batches(set(text_sha256s)):
                rows = connection.execute(_KNOWN_VECTORS, {"of_texts": some, "by_embedder": embedder})
                found |= {row.text_sha256: np.frombuffer(row.vector, _HALF) for row in rows}
        return found

    def publish(
        self,
        claim: Claim,
        parsed: ParsedDocument,
        drafts: Sequence[ChunkDraft],
        embedded: Vectors | Halves,
        embedder: str,
        text_sha256s: Sequence[str] | None = None,
    ) -> int:
        """`embedded` is float32 or float16 [len(drafts), dimensions], `text_sha256s` are of what was embedded.

        All or nothing: version, chunks, vectors, the older version retired, document and item `ready`, revision + 1.
        Returns that revision. Raises LeaseLost when the claim no longer holds, ContentTaken when another document has
        got these bytes meanwhile, EmbedderChanged when it is another's vectors that answer by now, WrongDimensions;
        then nothing changed.
        """
        hashes = [None] * len(drafts) if text_sha256s is None else text_sha256s
        if not len(drafts) == len(embedded) == len(hashes):
            raise InvalidInput("one vector a chunk, and one hash", chunks=len(drafts), vectors=len(embedded))
        with self._database.write() as connection:
            finish_item(connection, claim, "ready")
            revision = raise_revision(connection, claim.knowledge_base_id)
            _demand_untaken(connection, claim)
            _demand_answering(connection, claim, embedder)
            version = _next_version(connection, claim.document_id)
            if version > 1:
                _retire_older(connection, claim.document_id, revision)
            version_id = _insert_version(connection, claim, parsed, version)
            if drafts:
                generations.demand(connection, claim.knowledge_base_id, embedder, embedded.shape[1], answers=True)
                ids = _insert_chunks(connection, claim, version_id, revision, drafts)
                _insert_vectors(connection, ids, embedded, hashes, embedder)
            superseded = _set_document(connection, claim, parsed, drafts, version)
            failpoints.reach("publish.written")
        failpoints.reach("publish.committed")
        if superseded != claim.sha256 and self._collect is not None:
            # What cannot be removed now is when the next worker starts.
            with suppress(StorageFull, Overloaded):
                self._collect(superseded)
            failpoints.reach("publish.bytes-removed")
        return revision


# Statements stand here, made once: every document goes through each of them, and making them anew took as long as
# running them.
_EMBEDDER = select(knowledge_bases.c.embedder).where(knowledge_bases.c.id == bindparam("in_kb"))
_BY_EMBEDDER = vectors.c.embedder == bindparam("by_embedder")
# One chunk of a text is enough, however many thousand documents have it.
_LAST_OF_TEXT = (
    select(func.max(vectors.c.chunk_id))
    .where(vectors.c.text_sha256.in_(bindparam("of_texts", expanding=True)), _BY_EMBEDDER)
    .group_by(vectors.c.text_sha256)
)
_KNOWN_VECTORS = select(vectors.c.text_sha256, vectors.c.vector).where(
    vectors.c.chunk_id.in_(_LAST_OF_TEXT), _BY_EMBEDDER
)
_OTHERS_WITH_BYTES = select(documents.c.id).where(
    documents.c.knowledge_base_id == bindparam("in_kb"), documents.c.sha256 == bindparam("with_sha256"),
    documents.c.deleted_at.is_(None), documents.c.id != bindparam("but_id"),
)  # fmt: skip
_LAST_VERSION = select(func.max(document_versions.c.version)).where(
    document_versions.c.document_id == bindparam("of_document")
)
_RETIRE = (
    update(chunks)
    .where(
        chunks.c.version_id.in_(
            select(document_versions.c.id).where(document_versions.c.document_id == bindparam("of_document"))
        ),
        chunks.c.retired_revision.is_(None),
    )
    .values(retired_revision=bindparam("by_revision"))
)
_INSERT_VERSION = insert(document_versions).values(created_at=now()).returning(document_versions.c.id)
_INSERT_CHUNKS = insert(chunks).returning(chunks.c.id, sort_by_parameter_order=True)
_INSERT_VECTORS = insert(vectors)
_BYTES = select(documents.c.sha256).where(documents.c.id == bindparam("of_document"))
_SET_DOCUMENT = (
    update(documents)
    .where(documents.c.id == bindparam("of_document"))
    .values(state="ready", error=None, updated_at=now())
)


def _demand_untaken(connection: Connection, claim: Claim) -> None:
    """Under the knowledge base's lock, which everyone holds who gives a document bytes."""
    mine = {"in_kb": claim.knowledge_base_id, "with_sha256": claim.sha256, "but_id": claim.document_id}
    taken = connection.scalar(_OTHERS_WITH_BYTES, mine)
    if taken is not None:
        raise ContentTaken("another document of the knowledge base has these bytes", document_id=taken)


def _demand_answering(connection: Connection, claim: Claim, embedder: str) -> None:
    answering = connection.scalar(_EMBEDDER, {"in_kb": claim.knowledge_base_id})
    if answering != embedder:
        raise EmbedderChanged(
            f"embedded by {embedder}, while {answering} is the knowledge base's embedder by now",
            embedder=embedder, answering=answering,
        )  # fmt: skip


def _set_document(
    connection: Connection, claim: Claim, parsed: ParsedDocument, drafts: Sequence[ChunkDraft], version: int
) -> str:
    """The SHA-256 of the bytes it had before."""
    before = connection.scalar(_BYTES, {"of_document": claim.document_id})
    connection.execute(
        _SET_DOCUMENT,
        {
            "of_document": claim.document_id, "filename": claim.filename, "media_type": claim.media_type,
            "bytes": claim.bytes, "sha256": claim.sha256, "version": version, "chunks": len(drafts),
            "pages": parsed.pages, "language": _main_language(drafts),
        },
    )  # fmt: skip
    return str(before)


def _next_version(connection: Connection, document_id: str) -> int:
    return int(connection.scalar(_LAST_VERSION, {"of_document": document_id}) or 0) + 1


def _retire_older(connection: Connection, document_id: str, revision: int) -> None:
    connection.execute(_RETIRE, {"of_document": document_id, "by_revision": revision})


def _insert_version(connection: Connection, claim: Claim, parsed: ParsedDocument, version: int) -> int:
    made = connection.execute(
        _INSERT_VERSION,
        {
            "document_id": claim.document_id, "version": version, "filename": claim.filename, "sha256": claim.sha256,
            "bytes": claim.bytes, "media_type": claim.media_type, "text": parsed.text, "pages": parsed.pages,
            "parser": parsed.parser,
        },
    )  # fmt: skip
    return int(made.scalar_one())


def _insert_chunks(
    connection: Connection, claim: Claim, version_id: int, revision: int, drafts: Sequence[ChunkDraft]
) -> list[int]:
    rows = [
        {
            "knowledge_base_id": claim.knowledge_base_id, "version_id": version_id, "ordinal": draft.ordinal,
            "text": draft.text, "char_start": draft.char_start, "char_end": draft.char_end, "page": draft.page,
            "headings": list(draft.headings), "language": draft.language, "tokens": draft.tokens,
            "created_revision": revision,
        }
        for draft in drafts
    ]  # fmt: skip
    return list(connection.scalars(_INSERT_CHUNKS, rows))


def _insert_vectors(
    connection: Connection,
    ids: Sequence[int],
    embedded: Vectors | Halves,
    hashes: Sequence[str | None],
    embedder: str,
) -> None:
    halves = np.ascontiguousarray(embedded, _HALF)
    connection.execute(
        _INSERT_VECTORS,
        [
            {"chunk_id": chunk_id, "embedder": embedder, "vector": row.tobytes(), "text_sha256": text_sha256}
            for chunk_id, row, text_sha256 in zip(ids, halves, hashes, strict=True)
        ],
    )


def _main_language(drafts: Sequence[ChunkDraft]) -> str | None:
    """The language most of the text is in."""
    weights: Counter[str] = Counter()
    for draft in drafts:
        weights[draft.language] += draft.tokens
    return weights.most_common(1)[0][0] if weights else None
