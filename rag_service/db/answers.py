"""Answers with their citations, the passages they were made from and how they were made: one transaction for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from rag_service.db.conversations import open_conversation
from rag_service.db.packing_reports import keep_report, kept_report
from rag_service.db.sessions import Database
from rag_service.db.tables import answer_passages, answers, citations, conversations, messages, now, refusals
from rag_service.errors import NotFound
from rag_service.types import Answer, Citation, Language, PackingReport, RankedPassage, Sampling, Scores, Turn, Usage


@dataclass(frozen=True, slots=True)
class Provenance:
    """How an answer was made, as far as the answer itself does not say: with it, it can be made again.

    `reply` is the model's text before anything was verified or removed; it, `sampling` and `report` are None where
    no model was asked. `history` are the ids of the answers whose turns stood in the conversation, newest last.
    `given` are the turns that the caller brought along instead of having a conversation here.
    `base_revision` is, for each knowledge base, that of the base segment which was searched (0: there was none):
    lexical statistics depend on it; empty where it is not known. `retrieval_context` are the terms of the conversation
    that were asked for beside the query.
    """

    retrieval_query: str
    reply: str | None = None
    sampling: Sampling | None = None
    report: PackingReport | None = None
    history: tuple[str, ...] = ()
    given: tuple[Turn, ...] = ()
    asked_language: Language | None = None
    base_revision: dict[str, int] = field(default_factory=dict)
    retrieval_context: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ShownPassage:
    """Which passage it was, and its scores; its text is behind the gate."""

    chunk_id: int
    document_id: str
    document_version: int
    scores: Scores


@dataclass(frozen=True, slots=True)
class Origin:
    """What went into an answer; `shown` best first."""

    provenance: Provenance
    knowledge_base_ids: tuple[str, ...]
    shown: tuple[ShownPassage, ...]


class Answers:
    def __init__(self, database: Database) -> None:
        self._database = database

    def record(
        self,
        tenant: str,
        answer: Answer,
        knowledge_base_ids: Sequence[str],
        shown: Sequence[RankedPassage],
        provenance: Provenance,
    ) -> Answer:
        """Question, answer, citations, all that went into it, and the conversation's messages; returns it as stored.

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
            columns = _columns(stored, tenant, knowledge_base_ids) | _provenance_columns(provenance)
            connection.execute(insert(answers).values(**columns))
            _insert_parts(connection, stored, shown)
            if provenance.report is not None:
                keep_report(connection, stored.id, provenance.report)
            if stored.outcome == "refused":
                _list_refusal(connection, stored.id, knowledge_base_ids)
        return stored

    def get(self, tenant: str, answer_id: str) -> Answer:
        """Raises NotFound."""
        with self._database.read() as connection:
            row = _one(connection, tenant, answer_id)
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

    def origin(self, tenant: str, answer_id: str) -> Origin:
        """What a replay starts from. Raises NotFound."""
        with self._database.read() as connection:
            row = _one(connection, tenant, answer_id)
            passages = answer_passages.c
            shown = connection.execute(
                select(answer_passages).where(passages.answer_id == answer_id).order_by(passages.rank)
            ).all()
            report = kept_report(connection, answer_id)
        provenance = Provenance(
            retrieval_query=row.retrieval_query, reply=row.reply, sampling=_sampling(row.sampling), report=report,
            history=tuple(row.history), given=tuple(Turn(**turn) for turn in row.given),
            asked_language=row.asked_language, base_revision=row.base_revision,
            retrieval_context=row.retrieval_context,
        )  # fmt: skip
        return Origin(provenance, tuple(row.knowledge_base_ids), tuple(map(_shown, shown)))


def _one(connection: Connection, tenant: str, answer_id: str) -> Row[Any]:
    mine = select(answers).where(answers.c.id == answer_id, answers.c.tenant == tenant)
    row = connection.execute(mine).one_or_none()
    if row is None:
        raise NotFound("no such answer", answer_id=answer_id)
    return row


def _columns(answer: Answer, tenant: str, knowledge_base_ids: Sequence[str]) -> dict[str, Any]:
    whole = asdict(answer)
    del whole["citations"]
    return {**whole, "tenant": tenant, "knowledge_base_ids": list(knowledge_base_ids)}


def _provenance_columns(provenance: Provenance) -> dict[str, Any]:
    whole = asdict(provenance)
    del whole["report"]
    return whole


def _list_refusal(connection: Connection, answer_id: str, knowledge_base_ids: Sequence[str]) -> None:
    rows = [{"knowledge_base_id": kb, "answer_id": answer_id} for kb in dict.fromkeys(knowledge_base_ids)]
    if rows:
        connection.execute(insert(refusals), rows)


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
        **asdict(ranked.scores),
    }  # fmt: skip


def _shown(row: Row[Any]) -> ShownPassage:
    scores = Scores(row.dense, row.lexical, row.fused, row.rerank)
    return ShownPassage(row.chunk_id, row.document_id, row.document_version, scores)


def _sampling(members: dict[str, Any] | None) -> Sampling | None:
    if members is None:
        return None
    return Sampling(**{**members, "stop": tuple(members["stop"]), "stop_ids": tuple(members["stop_ids"])})


def _demand_conversation(connection: Connection, tenant: str, conversation_id: str) -> None:
    mine = (conversations.c.id == conversation_id, conversations.c.tenant == tenant)
    kept = select(conversations.c.id).where(*mine).with_for_update(read=True, key_share=True)
    if connection.scalar(kept) is None:
        raise NotFound("no such conversation", conversation_id=conversation_id)


def _citation(row: dict[str, Any]) -> Citation:
    row["headings"] = tuple(row["headings"])
    del row["answer_id"], row["position"]
    return Citation(**row)
