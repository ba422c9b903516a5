"""Knowledge bases: the scope of every question, and the row whose `revision` orders every commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, delete, func, insert, select, union, update
from sqlalchemy.exc import IntegrityError

from rag_service.db import reembedding_jobs
from rag_service.db.pages import Page, page
from rag_service.db.sessions import Database, new_id
from rag_service.db.tables import chunks, documents, job_items, jobs, knowledge_bases, now
from rag_service.errors import NameTaken, NotFound
from rag_service.types import KnowledgeBase

# Built once: every question begins with it.
_MINE = select(knowledge_bases.c.id).where(
    knowledge_bases.c.tenant == bindparam("of_tenant"),
    knowledge_bases.c.id.in_(bindparam("wanted", expanding=True)),
)


class KnowledgeBases:
    """`embedder` is that of a new knowledge base for which none is named."""

    def __init__(self, database: Database, embedder: str) -> None:
        self._database = database
        self._embedder = embedder
        self._tenant_of: dict[str, str] = {}

    def create(self, tenant: str, name: str, description: str = "", embedder: str | None = None) -> KnowledgeBase:
        """Raises NameTaken."""
        knowledge_base_id = new_id()
        row = {"id": knowledge_base_id, "tenant": tenant, "name": name, "description": description, "revision": 0}
        try:
            with self._database.write() as connection:
                connection.execute(
                    insert(knowledge_bases).values(**row, embedder=embedder or self._embedder, created_at=now())
                )
                return _one(connection, tenant, knowledge_base_id)
        except IntegrityError as error:
            raise NameTaken(f"a knowledge base named {name!r} exists", name=name) from error

    def get(self, tenant: str, knowledge_base_id: str) -> KnowledgeBase:
        """Raises NotFound."""
        with self._database.read() as connection:
            return _one(connection, tenant, knowledge_base_id)

    def named(self, tenant: str, name: str) -> KnowledgeBase:
        """Raises NotFound."""
        with self._database.read() as connection:
            row = connection.execute(_rows(tenant).where(knowledge_bases.c.name == name)).one_or_none()
        if row is None:
            raise NotFound(f"no knowledge base named {name!r}", name=name)
        return _shape(row)

    def browse(self, tenant: str, limit: int, cursor: str | None) -> Page[KnowledgeBase]:
        query = _rows(tenant).order_by(knowledge_bases.c.id).limit(limit + 1)
        if cursor is not None:
            query = query.where(knowledge_bases.c.id > cursor)
        with self._database.read() as connection:
            rows = [_shape(row) for row in connection.execute(query)]
        return page(rows, limit, lambda kb: kb.id)

    def change(
        self, tenant: str, knowledge_base_id: str, *, name: str | None, description: str | None
    ) -> KnowledgeBase:
        """None leaves a member as it is. Raises NotFound, NameTaken."""
        values = {k: v for k, v in (("name", name), ("description", description)) if v is not None}
        try:
            with self._database.write() as connection:
                _one(connection, tenant, knowledge_base_id)
                if values:
                    where = knowledge_bases.c.id == knowledge_base_id
                    connection.execute(update(knowledge_bases).where(where).values(**values))
                return _one(connection, tenant, knowledge_base_id)
        except IntegrityError as error:
            raise NameTaken(f"a knowledge base named {name!r} exists", name=name or "") from error

    def delete(self, tenant: str, knowledge_base_id: str) -> list[str]:
        """Remove it with all its documents; returns the SHA-256 of blobs that may have lost their last use."""
        with self._database.write() as connection:
            _one(connection, tenant, knowledge_base_id)
            # First what a publication takes first: else the two could wait for each other.
            items = select(job_items.c.id).join(jobs).where(jobs.c.knowledge_base_id == knowledge_base_id)
            connection.execute(items.order_by(job_items.c.id).with_for_update(of=job_items))
            reembedding_jobs.lock_all(connection, knowledge_base_id)
            live = select(documents.c.sha256).where(documents.c.knowledge_base_id == knowledge_base_id)
            pending = select(job_items.c.sha256).where(job_items.c.knowledge_base_id == knowledge_base_id)
            hashes = connection.scalars(union(live, pending)).all()
            connection.execute(delete(knowledge_bases).where(knowledge_bases.c.id == knowledge_base_id))
        self._tenant_of.pop(knowledge_base_id, None)
        return list(hashes)

    def demand(self, tenant: str, knowledge_base_ids: Sequence[str]) -> None:
        """Raises NotFound naming those that are not the tenant's.

        A knowledge base never changes hands and its id is never used again, so what was once found to be a tenant's
        is not looked up again; one that has been deleted since has nothing that the gate would let through.
        """
        unknown = {kb for kb in knowledge_base_ids if self._tenant_of.get(kb) != tenant}
        if not unknown:
            return
        with self._database.glance() as connection:
            mine = set(connection.scalars(_MINE, {"of_tenant": tenant, "wanted": list(unknown)}))
        self._tenant_of |= dict.fromkeys(mine, tenant)
        if missing := sorted(unknown - mine):
            raise NotFound("no such knowledge base", knowledge_base_ids=missing)

    def all_ids(self) -> list[str]:
        """Of every tenant: for maintenance, never for callers."""
        with self._database.read() as connection:
            return list(connection.scalars(select(knowledge_bases.c.id).order_by(knowledge_bases.c.id)))


_RAISE = (
    update(knowledge_bases)
    .where(knowledge_bases.c.id == bindparam("of_kb"))
    .values(revision=knowledge_bases.c.revision + 1)
    .returning(knowledge_bases.c.revision)
)
"""Made once: every document that becomes ready goes through it."""


def raise_revision(connection: Connection, knowledge_base_id: str) -> int:
    """The next revision, under the row's lock until the transaction ends. Raises NotFound."""
    revision = connection.scalar(_RAISE, {"of_kb": knowledge_base_id})
    if revision is None:
        raise NotFound("the knowledge base is gone", knowledge_base_id=knowledge_base_id)
    return int(revision)


def _rows(tenant: str) -> Select[Any]:
    kb = knowledge_bases.c
    live_documents = (
        select(func.count())
        .where(documents.c.knowledge_base_id == kb.id, documents.c.deleted_at.is_(None))
        .scalar_subquery()
    )
    live_chunks = (
        select(func.count())
        .where(chunks.c.knowledge_base_id == kb.id, chunks.c.retired_revision.is_(None))
        .scalar_subquery()
    )
    return select(
        kb.id, kb.name, kb.description, kb.revision, kb.embedder, kb.created_at,
        live_documents.label("documents"), live_chunks.label("chunks"),
    ).where(kb.tenant == tenant)  # fmt: skip


def _one(connection: Connection, tenant: str, knowledge_base_id: str) -> KnowledgeBase:
    row = connection.execute(_rows(tenant).where(knowledge_bases.c.id == knowledge_base_id)).one_or_none()
    if row is None:
        raise NotFound("no such knowledge base", knowledge_base_id=knowledge_base_id)
    return _shape(row)


def _shape(row: Row[Any]) -> KnowledgeBase:
    return KnowledgeBase(**row._mapping)
