"""A knowledge base's generations of vectors: which answers, which answered when, and that none mixes two lengths.

Whoever changes a generation holds the lock on its knowledge base's row, as everyone does who raises its revision.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, delete, exists, func, insert, select, update

from rag_service.db.tables import (
    chunks,
    document_versions,
    documents,
    generations,
    knowledge_bases,
    reembeddings,
    vectors,
    was_live_at,
)
from rag_service.errors import NotFound, VectorsForgotten, WrongDimensions
from rag_service.ports import VectorSpace

BYTES_A_NUMBER = 2
_DIMENSIONS = select(generations.c.dimensions).where(
    generations.c.knowledge_base_id == bindparam("in_kb"), generations.c.embedder == bindparam("by_embedder")
)
"""Made once: every document that becomes ready goes through it."""


def lock(connection: Connection, knowledge_base_id: str) -> str:
    """Until the transaction ends; the embedder that answers. Raises NotFound."""
    row = select(knowledge_bases.c.embedder).where(knowledge_bases.c.id == knowledge_base_id)
    embedder = connection.scalar(row.with_for_update(key_share=True))
    if embedder is None:
        raise NotFound("the knowledge base is gone", knowledge_base_id=knowledge_base_id)
    return str(embedder)


def of(connection: Connection, knowledge_base_id: str, embedder: str) -> VectorSpace:
    dimensions = connection.scalar(_DIMENSIONS, {"in_kb": knowledge_base_id, "by_embedder": embedder})
    return VectorSpace(embedder, dimensions)


def demand(connection: Connection, knowledge_base_id: str, embedder: str, dimensions: int, *, answers: bool) -> None:
    """Begin the generation, or make sure that it has vectors of this length. Raises WrongDimensions."""
    known = of(connection, knowledge_base_id, embedder).dimensions
    if known is None:
        row = {"knowledge_base_id": knowledge_base_id, "embedder": embedder, "dimensions": dimensions}
        connection.execute(insert(generations).values(**row, answered=answers))
    elif known != dimensions:
        raise WrongDimensions(
            f"{embedder} made vectors of {dimensions} dimensions, and those that the knowledge base has of it have"
            f" {known}",
            embedder=embedder, dimensions=dimensions, known_dimensions=known,
        )  # fmt: skip


def answer(connection: Connection, knowledge_base_id: str, embedder: str) -> None:
    connection.execute(update(generations).where(*_is(knowledge_base_id, embedder)).values(answered=True))
    connection.execute(
        update(knowledge_bases).where(knowledge_bases.c.id == knowledge_base_id).values(embedder=embedder)
    )


def is_complete(connection: Connection, knowledge_base_id: str, embedder: str) -> bool:
    """Whether every live chunk has a vector of the generation. Raises WrongDimensions where one has not its length."""
    dimensions = of(connection, knowledge_base_id, embedder).dimensions
    unfit = connection.scalar(lacking(knowledge_base_id, embedder, dimensions).limit(1))
    if unfit is None:
        return True
    if connection.scalar(lacking(knowledge_base_id, embedder).limit(1)) is not None:
        return False
    raise WrongDimensions(
        f"the stored vector of chunk {unfit} by {embedder} has not {dimensions} dimensions: forget that generation",
        embedder=embedder, known_dimensions=dimensions,
    )  # fmt: skip


def others(connection: Connection, knowledge_base_id: str, answering: str) -> list[str]:
    """The embedders of the generations that do not answer."""
    mine = generations.c.knowledge_base_id == knowledge_base_id
    return list(connection.scalars(select(generations.c.embedder).where(mine, generations.c.embedder != answering)))


def drop(connection: Connection, knowledge_base_id: str, embedder: str) -> int:
    """Forget the generation and all its vectors; how many there were."""
    mine = select(chunks.c.id).where(chunks.c.knowledge_base_id == knowledge_base_id)
    gone = delete(vectors).where(vectors.c.embedder == embedder, vectors.c.chunk_id.in_(mine))
    dropped = connection.execute(gone).rowcount
    connection.execute(delete(generations).where(*_is(knowledge_base_id, embedder)))
    return dropped


def drop_unless_answered(connection: Connection, knowledge_base_id: str, embedder: str) -> None:
    """What was begun and never finished leaves nothing."""
    answered = select(generations.c.answered).where(*_is(knowledge_base_id, embedder))
    if not connection.scalar(answered):
        drop(connection, knowledge_base_id, embedder)


def lacking(knowledge_base_id: str, embedder: str, dimensions: int | None = None) -> Select[Any]:
    """Ids of live chunks without a vector of `embedder`; given `dimensions`, also those with one of another length."""
    has_one = exists().where(vectors.c.chunk_id == chunks.c.id, vectors.c.embedder == embedder)
    if dimensions is not None:
        has_one = has_one.where(func.length(vectors.c.vector) == BYTES_A_NUMBER * dimensions)
    mine = chunks.c.knowledge_base_id == knowledge_base_id
    return select(chunks.c.id).where(mine, chunks.c.retired_revision.is_(None), ~has_one)


def at(connection: Connection, knowledge_base_id: str, revision: int) -> VectorSpace:
    """Which answered at `revision`. Raises VectorsForgotten unless all its vectors of that time are still there, but
    for those of documents that are deleted by now."""
    embedder = _embedder_at(connection, knowledge_base_id, revision)
    generation = of(connection, knowledge_base_id, embedder)
    if connection.scalar(_forgotten(knowledge_base_id, embedder, revision).limit(1)) is not None:
        raise VectorsForgotten(
            f"{embedder} answered at revision {revision}, and its vectors of that time have been forgotten",
            embedder=embedder, revision=revision,
        )  # fmt: skip
    return generation


def _embedder_at(connection: Connection, knowledge_base_id: str, revision: int) -> str:
    change, kb = reembeddings.c, knowledge_bases.c
    made = select(change.embedder, change.replaced).where(
        change.knowledge_base_id == knowledge_base_id, change.revision.is_not(None)
    )
    last = connection.execute(made.where(change.revision <= revision).order_by(change.revision.desc()).limit(1)).first()
    if last is not None:
        return str(last.embedder)
    following = connection.execute(made.order_by(change.revision).limit(1)).first()
    if following is not None:
        return str(following.replaced)
    return str(connection.execute(select(kb.embedder).where(kb.id == knowledge_base_id)).scalar_one())


def _forgotten(knowledge_base_id: str, embedder: str, revision: int) -> Select[Any]:
    has_one = exists().where(vectors.c.chunk_id == chunks.c.id, vectors.c.embedder == embedder)
    return (
        select(chunks.c.id)
        .join(document_versions, document_versions.c.id == chunks.c.version_id)
        .join(documents, documents.c.id == document_versions.c.document_id)
        .where(
            chunks.c.knowledge_base_id == knowledge_base_id, was_live_at(revision), documents.c.deleted_at.is_(None),
            ~has_one,
        )
    )  # fmt: skip


def _is(knowledge_base_id: str, embedder: str) -> tuple[ColumnElement[bool], ...]:
    return (generations.c.knowledge_base_id == knowledge_base_id, generations.c.embedder == embedder)
