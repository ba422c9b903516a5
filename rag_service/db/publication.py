"""The one transaction in which a document version, its chunks and their vectors become visible."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from sqlalchemy import Connection, func, insert, select, update

from rag_service.db.jobs import Claim, finish_item
from rag_service.db.knowledge_bases import raise_revision
from rag_service.db.sessions import Database
from rag_service.db.tables import chunks, document_versions, documents, now, vectors
from rag_service.errors import InvalidInput
from rag_service.ports import Vectors
from rag_service.types import ChunkDraft, ParsedDocument


class Publisher:
    def __init__(self, database: Database, embedder: str) -> None:
        self._database = database
        self._embedder = embedder

    def publish(self, claim: Claim, parsed: ParsedDocument, drafts: Sequence[ChunkDraft], embedded: Vectors) -> int:
        """`embedded` is float32 [len(drafts), dimensions]. Returns the knowledge base's new revision.

        All or nothing: version, chunks, vectors, the older version retired, document and item `ready`, revision + 1.
        Raises LeaseLost when the claim no longer holds (then nothing changed).
        """
        if len(drafts) != len(embedded):
            raise InvalidInput("one vector a chunk", chunks=len(drafts), vectors=len(embedded))
        with self._database.write() as connection:
            finish_item(connection, claim, "ready")
            revision = raise_revision(connection, claim.knowledge_base_id)
            version = _next_version(connection, claim.document_id)
            if version > 1:
                _retire_older(connection, claim.document_id, revision)
            version_id = _insert_version(connection, claim, parsed, version)
            if drafts:
                ids = _insert_chunks(connection, claim, version_id, revision, drafts)
                _insert_vectors(connection, ids, embedded, self._embedder)
            connection.execute(
                update(documents)
                .where(documents.c.id == claim.document_id)
                .values(
                    version=version, state="ready", error=None, chunks=len(drafts), pages=parsed.pages,
                    language=_main_language(drafts), updated_at=now(),
                )
            )  # fmt: skip
        return revision


def _next_version(connection: Connection, document_id: str) -> int:
    last = select(func.max(document_versions.c.version)).where(document_versions.c.document_id == document_id)
    return int(connection.scalar(last) or 0) + 1


def _retire_older(connection: Connection, document_id: str, revision: int) -> None:
    older = select(document_versions.c.id).where(document_versions.c.document_id == document_id)
    live = (chunks.c.version_id.in_(older), chunks.c.retired_revision.is_(None))
    connection.execute(update(chunks).where(*live).values(retired_revision=revision))


def _insert_version(connection: Connection, claim: Claim, parsed: ParsedDocument, version: int) -> int:
    return int(
        connection.execute(
            insert(document_versions)
            .values(
                document_id=claim.document_id, version=version, sha256=claim.sha256, bytes=claim.bytes,
                media_type=claim.media_type, text=parsed.text, pages=parsed.pages, parser=parsed.parser,
                created_at=now(),
            )
            .returning(document_versions.c.id)
        ).scalar_one()
    )  # fmt: skip


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
    statement = insert(chunks).returning(chunks.c.id, sort_by_parameter_order=True)
    return list(connection.scalars(statement, rows))


def _insert_vectors(connection: Connection, ids: Sequence[int], embedded: Vectors, embedder: str) -> None:
    halves = embedded.astype("<f2")
    connection.execute(
        insert(vectors),
        [
            {"chunk_id": chunk_id, "embedder": embedder, "vector": np.ascontiguousarray(row).tobytes()}
            for chunk_id, row in zip(ids, halves, strict=True)
        ],
    )


def _main_language(drafts: Sequence[ChunkDraft]) -> str | None:
    """The language most of the text is in."""
    weights: Counter[str] = Counter()
    for draft in drafts:
        weights[draft.language] += draft.tokens
    return weights.most_common(1)[0][0] if weights else None
