"""What a person says of an answer: one judgement an answer, the latest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, insert, select, update

from rag_service.db.sessions import Database
from rag_service.db.tables import answers, citations, feedback, now
from rag_service.errors import InvalidInput, NotFound


@dataclass(frozen=True, slots=True)
class Judgement:
    """`wrong_citations` are markers of the answer's citations, ascending, each once."""

    answer_id: str
    rating: Literal[1, -1]
    comment: str | None
    wrong_citations: tuple[int, ...]
    created_at: float


class Feedback:
    def __init__(self, database: Database) -> None:
        self._database = database

    def put(
        self, tenant: str, answer_id: str, rating: Literal[1, -1], comment: str | None, wrong_citations: Iterable[int]
    ) -> Judgement:
        """Replaces what was said before. Raises NotFound, InvalidInput for a marker the answer does not have."""
        wrong = sorted(set(wrong_citations))
        values = {"rating": rating, "comment": comment, "wrong_citations": wrong, "created_at": now()}
        with self._database.write() as connection:
            _lock(connection, tenant, answer_id)
            _demand_markers(connection, answer_id, wrong)
            of_answer = feedback.c.answer_id == answer_id
            if connection.execute(update(feedback).where(of_answer).values(**values)).rowcount == 0:
                connection.execute(insert(feedback).values(answer_id=answer_id, **values))
            created_at = connection.scalar(select(feedback.c.created_at).where(of_answer))
        assert created_at is not None
        return Judgement(answer_id, rating, comment, tuple(wrong), created_at)

    def get(self, tenant: str, answer_id: str) -> Judgement | None:
        """None for an answer that nobody has judged. Raises NotFound."""
        query = (
            select(answers.c.id.label("answer"), feedback)
            .outerjoin(feedback, feedback.c.answer_id == answers.c.id)
            .where(answers.c.id == answer_id, answers.c.tenant == tenant)
        )
        with self._database.glance() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFound("no such answer", answer_id=answer_id)
        if row.rating is None:
            return None
        return Judgement(answer_id, row.rating, row.comment, tuple(row.wrong_citations), row.created_at)


def _lock(connection: Connection, tenant: str, answer_id: str) -> None:
    """Of two who judge one answer at once the second finds the first's row; and the answer cannot go meanwhile. A
    deletion, too, locks the answer before its feedback."""
    mine = select(answers.c.id).where(answers.c.id == answer_id, answers.c.tenant == tenant)
    if connection.scalar(mine.with_for_update(key_share=True)) is None:
        raise NotFound("no such answer", answer_id=answer_id)


def _demand_markers(connection: Connection, answer_id: str, wrong: list[int]) -> None:
    known = set(connection.scalars(select(citations.c.marker).where(citations.c.answer_id == answer_id)))
    unknown = [str(marker) for marker in wrong if marker not in known]
    if unknown:
        detail = f"the answer has no citation {', '.join(f'[{marker}]' for marker in unknown)}"
        raise InvalidInput(detail, answer_id=answer_id, unknown_citations=unknown)
