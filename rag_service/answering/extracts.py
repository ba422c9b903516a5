"""Answers without a model: the sentences of the passages that answer, word for word."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rag_service.answering import composition, evidence, refusal
from rag_service.answering.assembly import Assembled
from rag_service.answering.evidence import Evidence
from rag_service.ports import Embedder
from rag_service.types import Language, Retrieval

NAME = "extractive"
_READ_FOR_SENTENCES = 5
"""Sentences are taken from this many of the best passages (as measured, see `evidence`)."""


@dataclass(frozen=True, slots=True)
class Extracts:
    """Every sentence that could answer, best first, for a question in `language`."""

    scored: tuple[Evidence, ...]
    language: Language

    @property
    def best_score(self) -> float | None:
        return self.scored[0].score if self.scored else None

    @property
    def floor(self) -> float:
        """What the best sentence has to reach to be an answer."""
        return evidence.floor(self.scored[0], self.language) if self.scored else 1.0

    def chosen(self) -> tuple[Evidence, ...]:
        return evidence.sufficient(self.scored, self.language)

    def answer(self, live: Collection[int], language: Language) -> Assembled:
        """The sentences chosen whose passage's chunk id is in `live`, or why there is no answer, in `language`."""
        chosen = [e for e in self.chosen() if e.sentence.ranked.passage.chunk_id in live]
        if chosen:
            composed = composition.compose(chosen)
            return Assembled(composed.text, composed.citations, "answered", None)
        reason = refusal.reason_for(self.best_score, self.floor)
        return Assembled(refusal.sentence(reason, language), (), "refused", reason)


def extracts(retrieval: Retrieval, embedder: Embedder) -> Extracts:
    found = evidence.candidates(retrieval.passages[:_READ_FOR_SENTENCES])
    return Extracts(tuple(_scored(found, retrieval, embedder)), retrieval.query_language)


def _scored(found: Sequence[evidence.Sentence], retrieval: Retrieval, embedder: Embedder) -> list[Evidence]:
    if not found:
        return []
    vectors = embedder.embed([retrieval.query, *(sentence.text for sentence in found)])
    return evidence.score(found, vectors[1:], vectors[0], retrieval.term_weights)
