"""The one gate. No other code reads passage text for an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, false, or_, select

from rag_service.db.sessions import Database
from rag_service.db.tables import chunks, document_versions, documents, knowledge_bases, was_live_at
from rag_service.types import Passage, PassageFilter

_IN_SCOPE = (
    select(
        chunks.c.id.label("chunk_id"), chunks.c.knowledge_base_id, documents.c.id.label("document_id"),
        document_versions.c.version.label("document_version"), document_versions.c.filename,
        document_versions.c.media_type, chunks.c.page, chunks.c.headings, chunks.c.language,
        chunks.c.char_start, chunks.c.char_end, chunks.c.text,
    )
    .join(document_versions, document_versions.c.id == chunks.c.version_id)
    .join(documents, documents.c.id == document_versions.c.document_id)
    .join(knowledge_bases, knowledge_bases.c.id == documents.c.knowledge_base_id)
    .where(
        chunks.c.id.in_(bindparam("chunk_ids", expanding=True)),
        knowledge_bases.c.tenant == bindparam("of_tenant"),
        knowledge_bases.c.id.in_(bindparam("scope", expanding=True)),
        documents.c.deleted_at.is_(None),
    )
)  # fmt: skip
# Built once: putting the statement together took longer than running it.
_GATE = _IN_SCOPE.where(chunks.c.retired_revision.is_(None))


class SqlPassageStore:
    """Implements `ports.PassageStore` with one statement: tenant, knowledge base, document live, filter."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def passages(
        self, tenant: str, knowledge_base_ids: Sequence[str], chunk_ids: Sequence[int], only: PassageFilter
    ) -> dict[int, Passage]:
        return _let_through(self._database, _GATE, tenant, knowledge_base_ids, chunk_ids, only)


class PastPassageStore:
    """The gate as it stood at a revision of each knowledge base, for replays. Implements `ports.PassageStore`.

    A superseded version is let through if it was live then; a document that is deleted by now never is, nor is
    anything of a knowledge base without a revision here.
    """

    def __init__(self, database: Database, revisions: Mapping[str, int]) -> None:
        self._database = database
        then = (and_(chunks.c.knowledge_base_id == kb, was_live_at(revision)) for kb, revision in revisions.items())
        self._gate = _IN_SCOPE.where(or_(false(), *then))

    def passages(
        self, tenant: str, knowledge_base_ids: Sequence[str], chunk_ids: Sequence[int], only: PassageFilter
    ) -> dict[int, Passage]:
        return _let_through(self._database, self._gate, tenant, knowledge_base_ids, chunk_ids, only)


def _let_through(
    database: Database,
    gate: Select[Any],
    tenant: str,
    knowledge_base_ids: Sequence[str],
    chunk_ids: Sequence[int],
    only: PassageFilter,
) -> dict[int, Passage]:
    if not chunk_ids:
        return {}
    query = gate if only.is_open() else gate.where(*_conditions(only))
    asked = {"chunk_ids": list(chunk_ids), "of_tenant": tenant, "scope": list(knowledge_base_ids)}
    with database.glance() as connection:
        rows = connection.execute(query, asked).all()
    return {row[0]: _passage(*row) for row in rows}


def _passage(*columns: Any) -> Passage:
    """The columns stand in the order of the passage's members."""
    members: tuple[Any, ...] = (*columns[:7], tuple(columns[7]), *columns[8:])
    return Passage(*members)


def _conditions(only: PassageFilter) -> list[ColumnElement[Any]]:
    conditions: list[ColumnElement[Any]] = []
    pairs = (
        (documents.c.id, only.document_ids),
        (chunks.c.language, only.languages),
        (document_versions.c.media_type, only.media_types),
    )
    conditions += [column.in_(sorted(values)) for column, values in pairs if values is not None]
    if only.created_from is not None:
        conditions.append(documents.c.created_at >= only.created_from)
    if only.created_before is not None:
        conditions.append(documents.c.created_at < only.created_before)
    return conditions
