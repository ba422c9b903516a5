"""Answers without a model: the sentences of the passages that answer, word for word."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from rag_service.answering import composition, evidence, refusal, selection
from rag_service.answering.assembly import Assembled
from rag_service.answering.evidence import Evidence
from rag_service.answering.evidence_score import evidence_score, floor
from rag_service.answering.parts import unsaid
from rag_service.answering.question_type import Wanted
from rag_service.ports import Embedder
from rag_service.retrieval.coverage import Coverage
from rag_service.types import Language, Retrieval, Weighed

NAME = "extractive"
_READ_FOR_SENTENCES = 5
"""Sentences are taken from this many of the best passages (as measured, see `evidence`)."""


@dataclass(frozen=True, slots=True)
class Extracts:
    """The sentences that could answer `query`, best first."""

    query: str
    scored: tuple[Evidence, ...]
    language: Language

    @property
    def evidence_score(self) -> float:
        """How sure it is that the passages answer, in [0, 1]; see `evidence_score`."""
        return evidence_score(self.scored)

    @property
    def floor(self) -> float:
        """What the evidence score has to reach for an answer."""
        return floor(self.scored, self.language)

    def chosen(self) -> tuple[Evidence, ...]:
        """In the order in which they are to be read; none where there is no answer."""
        return selection.selected(self.scored) if self.evidence_score >= self.floor else ()

    def answer(self, live: Collection[int], language: Language) -> Assembled:
        """The sentences chosen whose passage's chunk id is in `live`, or why there is no answer, in `language`.

        Partial where the question asks several things and nothing is said of one of them.
        """
        chosen = [e for e in self.chosen() if e.sentence.ranked.passage.chunk_id in live]
        if chosen:
            composed = composition.compose(chosen)
            silent = unsaid(self.query, [one.sentence.text for one in chosen])
            return Assembled(composed.text, composed.citations, "partial" if silent else "answered", None)
        reason = refusal.reason_for(self.evidence_score, self.floor)
        return Assembled(refusal.sentence(reason, language), (), "refused", reason)


def extracts(retrieval: Retrieval, embedder: Embedder) -> Extracts:
    covering = {kb: _Covering(weighed, retrieval.query_language) for kb, weighed in retrieval.weighed.items()}
    read = retrieval.passages[:_READ_FOR_SENTENCES]
    coverages = [covering[ranked.passage.knowledge_base_id].by(ranked.passage.language) for ranked in read]
    found = evidence.promising(evidence.candidates(zip(read, coverages, strict=True)))
    if not found:
        return Extracts(retrieval.query, (), retrieval.query_language)
    vectors = embedder.embed([candidate.sentence.text for candidate in found])
    query = embedder.embed_query(retrieval.query)
    scored = evidence.score(found, vectors, query, Wanted(retrieval.query))
    return Extracts(retrieval.query, tuple(scored), retrieval.query_language)


class _Covering:
    """How much of a question the texts of each language cover.

    What is asked in vain counts against a text, but across languages only where a dictionary knows the word: any other
    is a name that the text may well have, written in its own way (AUROC zh→EN .77 where it counts, .81 where not).
    """

    def __init__(self, weighed: Weighed, asked_in: Language) -> None:
        findable = tuple(concept for concept in weighed.concepts if concept.ways or concept.translated)
        self._asked_in = asked_in
        self._same, self._other = Coverage(weighed), Coverage(replace(weighed, concepts=findable))

    def by(self, language: Language) -> Coverage:
        return self._same if language == self._asked_in else self._other
