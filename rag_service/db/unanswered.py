"""Questions that were refused: what the documents should say and do not."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Select, select, text

from rag_service.db.pages import Page, page
from rag_service.db.sessions import Database
from rag_service.db.tables import answers, knowledge_bases, refusals
from rag_service.errors import NotFound
from rag_service.types import RefusalReason

_QUESTION = (
    answers.c.id, answers.c.query, answers.c.refusal, answers.c.knowledge_base_ids, answers.c.conversation_id,
    answers.c.created_at,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class UnansweredQuestion:
    """`knowledge_base_ids` are all it was asked of, those deleted since among them."""

    answer_id: str
    query: str
    reason: RefusalReason
    knowledge_base_ids: tuple[str, ...]
    conversation_id: str
    created_at: float


class Unanswered:
    def __init__(self, database: Database) -> None:
        self._database = database

    def browse(
        self, tenant: str, knowledge_base_id: str | None, limit: int, cursor: str | None
    ) -> Page[UnansweredQuestion]:
        """Newest first; None: of every knowledge base. Raises NotFound."""
        newest = _of_tenant(tenant) if knowledge_base_id is None else _of_knowledge_base(knowledge_base_id)
        if cursor is not None:
            newest = newest.where(newest.selected_columns[0] < cursor)
        newest = newest.order_by(newest.selected_columns[0].desc()).limit(limit + 1)
        query = select(*_QUESTION).where(answers.c.id.in_(newest)).order_by(answers.c.id.desc())
        with self._database.read() as connection:
            if knowledge_base_id is not None:
                _demand_knowledge_base(connection, tenant, knowledge_base_id)
            rows = connection.execute(query).all()
        questions = [UnansweredQuestion(r[0], r[1], r[2], tuple(r[3]), r[4], r[5]) for r in rows]
        return page(questions, limit, lambda question: question.answer_id)


def _of_tenant(tenant: str) -> Select[str]:
    # Spelt out: only a literal lets SQLite use the index over refused answers.
    return select(answers.c.id).where(answers.c.tenant == tenant, text("answers.outcome = 'refused'"))


def _of_knowledge_base(knowledge_base_id: str) -> Select[str]:
    """A knowledge base is asked by its own tenant alone."""
    return select(refusals.c.answer_id).where(refusals.c.knowledge_base_id == knowledge_base_id)


def _demand_knowledge_base(connection: Connection, tenant: str, knowledge_base_id: str) -> None:
    kb = knowledge_bases.c
    if connection.scalar(select(kb.id).where(kb.id == knowledge_base_id, kb.tenant == tenant)) is None:
        raise NotFound("no such knowledge base", knowledge_base_id=knowledge_base_id)
