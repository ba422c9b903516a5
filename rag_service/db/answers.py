"""Answers with their citations and the passages they were made from: one transaction for all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection, insert, select

from rag_service.db.conversations import open_conversation
from rag_service.db.sessions import Database
from rag_service.db.tables import answer_passages, answers, citations, conversations, messages, now
from rag_service.errors import NotFound
from rag_service.types import Answer, Citation, RankedPassage, Usage


class Answers:
    def __init__(self, database: Database) -> None:
        self._database = database

    def record(
        self, tenant: str, answer: Answer, knowledge_base_ids: Sequence[str], shown: Sequence[RankedPassage]
    ) -> Answer:
        """Question, answer, citations, shown passages and the conversation's messages; returns the answer as stored.

        An answer without a conversation opens one, titled with the question. Raises NotFound when the conversation
        has been deleted since.
        """
        with self._database.write() as connection:
            conversation_id = answer.conversation_id or open_conversation(
                connection, tenant, answer.query, knowledge_base_ids
            )
            _demand_conversation(connection, tenant, conversation_id)
            created_at = connection.scalar(select(now()))
            assert created_at is not None
            stored = replace(answer, conversation_id=conversation_id, created_at=created_at)
            connection.execute(insert(answers).values(**_columns(stored, tenant, knowledge_base_ids)))
            _insert_parts(connection, stored, shown)
        return stored

    def get(self, tenant: str, answer_id: str) -> Answer:
        """Raises NotFound."""
        with self._database.read() as connection:
            row = connection.execute(
                select(answers).where(answers.c.id == answer_id, answers.c.tenant == tenant)
            ).one_or_none()
            if row is None:
                raise NotFound("no such answer", answer_id=answer_id)
            cited = connection.execute(
                select(citations).where(citations.c.answer_id == answer_id).order_by(citations.c.position)
            ).mappings()
            return Answer(
                id=row.id, conversation_id=row.conversation_id, query=row.query, outcome=row.outcome,
                refusal=row.refusal, text=row.text, language=row.language,
                citations=tuple(_citation(dict(c)) for c in cited), generator=row.generator, revision=row.revision,
                usage=Usage(**row.usage), timings_ms=row.timings_ms, prompt_sha256=row.prompt_sha256,
                created_at=row.created_at,
            )  # fmt: skip


def _columns(answer: Answer, tenant: str, knowledge_base_ids: Sequence[str]) -> dict[str, Any]:
    whole = asdict(answer)
    del whole["citations"]
    return {**whole, "tenant": tenant, "knowledge_base_ids": list(knowledge_base_ids)}


def _insert_parts(connection: Connection, answer: Answer, shown: Sequence[RankedPassage]) -> None:
    if answer.citations:
        rows = [
            {**asdict(c), "headings": list(c.headings), "answer_id": answer.id, "position": position}
            for position, c in enumerate(answer.citations)
        ]
        connection.execute(insert(citations), rows)
    if shown:
        connection.execute(insert(answer_passages), [_passage_row(answer.id, i, p) for i, p in enumerate(shown)])
    turn = {"conversation_id": answer.conversation_id, "created_at": answer.created_at}
    connection.execute(insert(messages).values(role="user", content=answer.query, **turn))
    connection.execute(insert(messages).values(role="assistant", content=answer.text, answer_id=answer.id, **turn))


def _passage_row(answer_id: str, rank: int, ranked: RankedPassage) -> dict[str, Any]:
    return {
        "answer_id": answer_id, "rank": rank, "chunk_id": ranked.passage.chunk_id,
        "document_id": ranked.passage.document_id, "document_version": ranked.passage.document_version,
        "dense": ranked.scores.dense, "lexical": ranked.scores.lexical, "fused": ranked.scores.fused,
    }  # fmt: skip


def _demand_conversation(connection: Connection, tenant: str, conversation_id: str) -> None:
    mine = (conversations.c.id == conversation_id, conversations.c.tenant == tenant)
    kept = select(conversations.c.id).where(*mine).with_for_update(read=True, key_share=True)
    if connection.scalar(kept) is None:
        raise NotFound("no such conversation", conversation_id=conversation_id)


def _citation(row: dict[str, Any]) -> Citation:
    row["headings"] = tuple(row["headings"])
    del row["answer_id"], row["position"]
    return Citation(**row)
