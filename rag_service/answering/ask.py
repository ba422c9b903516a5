"""The use case: a question in, an answer with checked citations out, stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

from rag_service.answering import composition, evidence, refusal
from rag_service.answering.events import Cited, Delta, Done, Event, Retrieved
from rag_service.answering.evidence import Evidence
from rag_service.db.answers import Answers
from rag_service.db.conversations import Conversations
from rag_service.db.knowledge_bases import KnowledgeBases
from rag_service.db.sessions import new_id
from rag_service.errors import InvalidInput
from rag_service.ports import Embedder, PassageStore, TokenCounter
from rag_service.retrieval.retriever import Retriever
from rag_service.types import (
    Answer,
    Language,
    Outcome,
    PassageFilter,
    RankedPassage,
    RefusalReason,
    Retrieval,
    Usage,
)

GENERATOR = "extractive"
_PASSAGES = 8
_READ_FOR_SENTENCES = 5
"""Sentences are taken from this many of the best passages (as measured, see `evidence`)."""


@dataclass(frozen=True, slots=True)
class Question:
    tenant: str
    query: str
    knowledge_base_ids: tuple[str, ...]
    conversation_id: str | None = None
    language: Language | None = None
    """Of refusals; None: the question's own."""


class Asker:
    def __init__(
        self,
        knowledge_bases: KnowledgeBases,
        conversations: Conversations,
        answers: Answers,
        retriever: Retriever,
        store: PassageStore,
        embedder: Embedder,
        tokens: TokenCounter,
    ) -> None:
        self._knowledge_bases = knowledge_bases
        self._conversations = conversations
        self._answers = answers
        self._retriever = retriever
        self._store = store
        self._embedder = embedder
        self._tokens = tokens

    def ask(self, question: Question, emit: Callable[[Event], None] = lambda event: None) -> Answer:
        """Raises InvalidInput, NotFound. No database session is open while sentences are embedded."""
        clock = _Clock()
        self.demand_scope(question)
        retrieval = self._retriever.retrieve(
            question.tenant, question.knowledge_base_ids, question.query, _PASSAGES, PassageFilter()
        )
        emit(Retrieved(retrieval))
        clock.lap("retrieve")
        scored = self._scored(retrieval)
        chosen = evidence.sufficient(scored, retrieval.query_language)
        clock.lap("generate")
        answer = self._answer(question, retrieval, scored, self._still_live(question, chosen))
        clock.lap("verify")
        answer = self._record(question, answer, retrieval.passages, clock)
        emit(Delta(answer.text))
        for citation in answer.citations:
            emit(Cited(citation))
        emit(Done(answer))
        return answer

    def demand_scope(self, question: Question) -> None:
        """Raises InvalidInput, NotFound: what can be told before anything is streamed."""
        if not question.knowledge_base_ids:
            raise InvalidInput("name at least one knowledge base")
        self._knowledge_bases.demand(question.tenant, question.knowledge_base_ids)
        if question.conversation_id is not None:
            self._conversations.get(question.tenant, question.conversation_id)

    def _scored(self, retrieval: Retrieval) -> list[Evidence]:
        sentences = evidence.candidates(retrieval.passages[:_READ_FOR_SENTENCES])
        if not sentences:
            return []
        vectors = self._embedder.embed([retrieval.query, *(sentence.text for sentence in sentences)])
        return evidence.score(sentences, vectors[1:], vectors[0], retrieval.term_weights)

    def _still_live(self, question: Question, chosen: Sequence[Evidence]) -> tuple[Evidence, ...]:
        """The gate once more, just before anything is cited: a document may have been deleted since retrieval."""
        ids = [one.sentence.ranked.passage.chunk_id for one in chosen]
        live = self._store.passages(question.tenant, question.knowledge_base_ids, ids, PassageFilter())
        return tuple(one for one in chosen if one.sentence.ranked.passage.chunk_id in live)

    def _answer(
        self, question: Question, retrieval: Retrieval, scored: Sequence[Evidence], chosen: Sequence[Evidence]
    ) -> Answer:
        language = question.language or retrieval.query_language
        outcome: Outcome = "answered" if chosen else "refused"
        reason: RefusalReason | None = None
        composed = composition.compose(chosen)
        text = composed.text
        if not chosen:
            best = scored[0] if scored else None
            floor = evidence.floor(best, retrieval.query_language) if best else 1.0
            reason = refusal.reason_for(best.score if best else None, floor)
            text = refusal.sentence(reason, language)
        return Answer(
            id=new_id(), conversation_id=question.conversation_id or "", query=question.query, outcome=outcome,
            refusal=reason, text=text, language=language, citations=composed.citations, generator=GENERATOR,
            revision=retrieval.revision, usage=Usage(0, self._tokens.count(text)), timings_ms={},
            prompt_sha256=None, created_at=0.0,
        )  # fmt: skip

    def _record(self, question: Question, answer: Answer, shown: Sequence[RankedPassage], clock: _Clock) -> Answer:
        timed = replace(answer, timings_ms=clock.timings())
        return self._answers.record(question.tenant, timed, question.knowledge_base_ids, shown)


class _Clock:
    """Milliseconds of each stage, by name."""

    def __init__(self) -> None:
        self._start = self._last = perf_counter()
        self._laps: dict[str, float] = {"retrieve": 0.0, "pack": 0.0, "generate": 0.0, "verify": 0.0}

    def lap(self, stage: str) -> None:
        moment = perf_counter()
        self._laps[stage] = round((moment - self._last) * 1000, 2)
        self._last = moment

    def timings(self) -> dict[str, float]:
        return {**self._laps, "total": round((perf_counter() - self._start) * 1000, 2)}
