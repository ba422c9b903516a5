"""How much of what a question asks for one piece of text says. Pure.

BM25 adds up what stands anywhere in a passage; a passage that answers tends to say it in one sentence. And a long
document says whom it is about in its first passages, and what of them in others: what it says as a whole counts too.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set

from rag_service.text import Sought, in_document, sentences
from rag_service.types import RankedPassage, Weighed, WeighedConcept

SENTENCE_WEIGHT = 0.3
DOCUMENT_WEIGHT = 0.15
"""How much the best sentence of a passage, and all that was found of its document, count beside the fused score, whose
weight is 1. Of the document only the question's own words count: translations have too many senses for a whole document
to be held to them (R@1 en→ZH .699 without, .686 with them)."""


class Coverage:
    """Of a question, as one knowledge base weighs its words and concepts."""

    def __init__(self, weighed: Weighed) -> None:
        self._legs = [_Leg(weighed.words), _Leg(weighed.concepts)]
        self._sought = Sought.of(
            term for leg in (weighed.words, weighed.concepts) for c in leg for terms, _ in c.ways for term in terms
        )

    def said(self, text: str) -> set[str]:
        """What is asked for of the `index_terms` of `text`: all that the methods below look at."""
        return self._sought.within(text)

    def of(self, terms: Set[str]) -> float:
        """Of a text with these `index_terms`: the weight it says over the weight asked, in [0, 1], in whichever leg
        that is more."""
        return max([leg.share(terms) for leg in self._legs])

    def of_words(self, terms: Set[str]) -> float:
        """As `of`, in the lexical leg alone."""
        return self._legs[0].share(terms)

    def of_best(self, sentences: Iterable[Set[str]]) -> float:
        return max([self.of(terms) for terms in sentences if terms], default=0.0)


class _Leg:
    def __init__(self, concepts: Iterable[WeighedConcept]) -> None:
        self._most = 0.0
        # By a term of each way: most sentences have few of the terms asked for.
        self._ways: dict[str, list[tuple[int, frozenset[str], float]]] = defaultdict(list)
        for number, concept in enumerate(concepts):
            self._most += concept.most
            for terms, worth in concept.ways:
                self._ways[terms[0]].append((number, frozenset(terms), worth))

    def share(self, terms: Set[str]) -> float:
        best: dict[int, float] = {}
        for term in self._ways.keys() & terms:
            for number, needed, worth in self._ways[term]:
                if worth > best.get(number, 0.0) and needed <= terms:
                    best[number] = worth
        # Exactly, because a set has its terms in another order in another process.
        return min(1.0, math.fsum(best.values()) / self._most) if best else 0.0


def by_coverage(passages: Sequence[RankedPassage], coverage: Mapping[str, Coverage]) -> list[float]:
    """A score in [0, 1] for each, in their order; `coverage` is by knowledge base."""
    said: list[list[set[str]]] = []
    of_document: defaultdict[str, set[str]] = defaultdict(set)
    for passage in (ranked.passage for ranked in passages):
        asked, text = coverage[passage.knowledge_base_id], passage.text
        said.append([asked.said(text[start:end]) for start, end in sentences(text)])
        title = asked.said(in_document(passage.filename, passage.headings, ""))
        of_document[passage.document_id].update(title, *said[-1])
    return [
        _mean(ranked, of_sentences, of_document[ranked.passage.document_id], coverage[ranked.passage.knowledge_base_id])
        for ranked, of_sentences in zip(passages, said, strict=True)
    ]


def _mean(ranked: RankedPassage, of_sentences: Iterable[Set[str]], of_document: Set[str], coverage: Coverage) -> float:
    sentence = SENTENCE_WEIGHT * coverage.of_best(of_sentences)
    whole = DOCUMENT_WEIGHT * coverage.of_words(of_document)
    return (ranked.scores.fused + sentence + whole) / (1 + SENTENCE_WEIGHT + DOCUMENT_WEIGHT)
