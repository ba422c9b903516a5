"""Which sentences could answer, and how well each does. Pure: vectors in, evidence out.

A sentence is worth what it says of the question (cosine, and coverage in its own language or translated), what it says
together with its neighbours, what its passage is worth, and whether it has the kind of thing that is asked for. The
weights were chosen on the XQuAD questions over ZH (3,344 passages) and EN (5,774) (2026-11-26), looking at all of
them: on others expect a little less. The up to three sentences that `selection` takes hold the gold answer for
92, 92, 77, 74 % of all questions (zh→ZH, en→EN, zh→EN, en→ZH; refusals left out of account); before there was a
dictionary, neighbours and kinds, one of the best three did for 90, 93, 50, 53 %.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rag_service.answering.question_type import Wanted
from rag_service.ports import Vectors
from rag_service.retrieval.coverage import Coverage
from rag_service.text import index_terms, lexical_terms, sentences
from rag_service.types import RankedPassage

PASSAGE_WEIGHT = 1.0
COSINE_WEIGHT = 0.6
COVERAGE_WEIGHT = 0.4
NEARBY_WEIGHT = 0.3
"""Of what the sentence says together with the one before and the one after it: names are said once and then meant."""
KIND_WEIGHT = 0.1
"""More costs more than it brings: the kinds are told by rules."""
_ALL_WEIGHTS = PASSAGE_WEIGHT + COSINE_WEIGHT + COVERAGE_WEIGHT + NEARBY_WEIGHT + KIND_WEIGHT
FEWEST_TERMS = 3
"""A sentence of fewer terms, or of nothing but figures, is a label or a fragment."""
MOST_READ = 12
"""Sentences that get a vector. All of them, 24 to 31, hold no more of the answers (differences below .002)."""

_LEAD_IN = re.compile(r"(?:[-*+>•·]\s+|\d{1,3}[.)、](?!\d)\s*|\[[ x]\]\s+)+")
_NO_SENTENCE = re.compile(r"#{1,6}\s|[|\s:-]+$")


@dataclass(frozen=True, slots=True)
class Sentence:
    """`ranked.passage.text[start:end]`, the `number`-th, from 0, of those in its passage that could answer."""

    ranked: RankedPassage
    start: int
    end: int
    number: int = 0

    @property
    def text(self) -> str:
        return self.ranked.passage.text[self.start : self.end]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence with the share of what is asked that it covers, and that it covers together with its neighbours."""

    sentence: Sentence
    covered: float
    nearby: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """A sentence with its score in [0, 1]."""

    sentence: Sentence
    score: float


def candidates(passages: Iterable[tuple[RankedPassage, Coverage]]) -> list[Candidate]:
    """The sentences of the passages that could stand as an answer: no headings, rules, labels, each text once.

    Each passage comes with how its knowledge base and language cover the question.
    """
    found: dict[str, Candidate] = {}
    for ranked, coverage in passages:
        for candidate in _of_passage(ranked, coverage):
            found.setdefault(candidate.sentence.text, candidate)
    return list(found.values())


def promising(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Those worth reading closer, as far as words tell: the best of each passage, and the best of the others up to
    `MOST_READ`. In no order."""
    by_words = sorted(candidates, key=lambda candidate: -_by_words(candidate))
    best: dict[int, Candidate] = {}
    others: list[Candidate] = []
    for candidate in by_words:
        chunk_id = candidate.sentence.ranked.passage.chunk_id
        if chunk_id in best:
            others.append(candidate)
        else:
            best[chunk_id] = candidate
    return [*best.values(), *others[: max(0, MOST_READ - len(best))]]


def score(
    candidates: Sequence[Candidate], vectors: Vectors, query: NDArray[np.float32], wanted: Wanted
) -> list[Evidence]:
    """Every candidate scored, best first. `vectors` is [len(candidates), d], `query` is [d], all of unit length."""
    cosines = np.clip(vectors @ query, 0.0, 1.0)
    scored = []
    for candidate, cosine in zip(candidates, cosines, strict=True):
        kind = KIND_WEIGHT * wanted.given_by(candidate.sentence.text)
        mixed = (_by_words(candidate) + COSINE_WEIGHT * float(cosine) + kind) / _ALL_WEIGHTS
        scored.append(Evidence(candidate.sentence, mixed))
    return sorted(scored, key=lambda evidence: -evidence.score)


def _by_words(candidate: Candidate) -> float:
    said = COVERAGE_WEIGHT * candidate.covered + NEARBY_WEIGHT * candidate.nearby
    return said + PASSAGE_WEIGHT * candidate.sentence.ranked.score


def _of_passage(ranked: RankedPassage, coverage: Coverage) -> Iterator[Candidate]:
    text = ranked.passage.text
    spans = list(_spans(text))
    terms = [frozenset(index_terms(text[start:end])) for start, end in spans]
    for number, (start, end) in enumerate(spans):
        around = frozenset[str]().union(*terms[max(0, number - 1) : number + 2])
        yield Candidate(Sentence(ranked, start, end, number), coverage.of(terms[number]), coverage.of(around))


def _spans(text: str) -> Iterator[tuple[int, int]]:
    for start, end in sentences(text):
        lead_in = _LEAD_IN.match(text, start, end)
        begin = lead_in.end() if lead_in else start
        terms = lexical_terms(text[begin:end])
        words = any(not term[0].isdigit() for term in terms)
        if words and len(terms) >= FEWEST_TERMS and not _NO_SENTENCE.match(text, begin, end):
            yield begin, end
