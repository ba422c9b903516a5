"""Which sentences of a passage a claim could have been made from, and how much of it they say. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rag_service.answering.verification.reading import ReadPassage, Said
from rag_service.answering.verification.tokens import Reading
from rag_service.types import Language

MOST_SENTENCES = 3
LEAST_COVERAGE_GAIN = 0.06
"""A further sentence belongs to it when it says at least this much more of the claim, by weight of its terms; …"""
LEAST_COSINE_GAIN = 0.03
"""… across languages, when the sum of the vectors comes this much closer to the claim's."""


@dataclass(frozen=True, slots=True)
class Scope:
    """`at` are indexes of the passage's sentences, rising; `best` is the one that says most. Figures are in [0, 1]."""

    at: tuple[int, ...]
    best: int
    across: bool
    """Whether the claim and the best sentence are in two languages."""
    coverage: float
    cosine: float

    @property
    def content(self) -> float:
        """How much of what the claim says is there, from shared terms and the embedder's view of the whole.

        Within a language words decide; across languages only numbers and Latin names can be shared, so the cosine does.
        """
        if self.across:
            return min(1.0, self.cosine + 0.5 * self.coverage)
        return (2 * self.coverage + self.cosine) / 3


def scope_of(claim: Reading, language: Language, vector: NDArray[np.float32], passage: ReadPassage) -> Scope:
    """`vector` is the claim's, [d]. The passage has at least one sentence."""
    cosines = passage.vectors @ vector
    nearest = _with_clauses(cosines, vector, passage)
    alone = np.array([coverage(claim, [one], passage) for one in passage.said])
    best = int(np.argmax(alone + np.clip(nearest, 0.0, 1.0)))
    across = passage.said[best].language != language
    if across:
        chosen, cosine = _by_vectors(best, cosines, passage)
        cosine = max(cosine, float(nearest[best]))
    else:
        chosen, cosine = _by_terms(claim, best, cosines, passage), float(cosines[best])
    found = tuple(sorted(chosen))
    reach = coverage(claim, [passage.said[at] for at in found], passage)
    return Scope(found, best, across, reach, min(max(cosine, 0.0), 1.0))


def _with_clauses(
    cosines: NDArray[np.float32], vector: NDArray[np.float32], passage: ReadPassage
) -> NDArray[np.float32]:
    """Every sentence as near as the nearest of its clauses."""
    nearest = cosines.copy()
    np.maximum.at(nearest, np.array(passage.clause_of, dtype=int), passage.clause_vectors @ vector)
    return nearest


def coverage(claim: Reading, said: Iterable[Said], passage: ReadPassage) -> float:
    """Share of the claim's term weight that the sentences or the passage's headings hold."""
    held = [one.reading.terms for one in said]
    total = sum(claim.terms.values())
    found = sum(w for term, w in claim.terms.items() if term in passage.context or any(term in terms for terms in held))
    return found / total if total else 0.0


def quoted(scope: Scope) -> tuple[int, int]:
    """The run of at most three adjacent sentences that holds the best one and most of the others, as an index range."""
    kept = [scope.best]
    for at in sorted(scope.at, key=lambda at: abs(at - scope.best)):
        if max(*kept, at) - min(*kept, at) < MOST_SENTENCES:
            kept.append(at)
    return min(kept), max(kept) + 1


def _by_terms(claim: Reading, best: int, cosines: NDArray[np.float32], passage: ReadPassage) -> list[int]:
    chosen = [best]
    missing = {
        t: w for t, w in claim.terms.items() if t not in passage.context and t not in passage.said[best].reading.terms
    }
    total = sum(claim.terms.values()) or 1.0
    while len(chosen) < MOST_SENTENCES and missing:
        gains = [sum(w for term, w in missing.items() if term in one.reading.terms) for one in passage.said]
        at = max(range(len(gains)), key=lambda k: (gains[k], float(cosines[k])))
        if gains[at] < LEAST_COVERAGE_GAIN * total:
            break
        chosen.append(at)
        missing = {term: w for term, w in missing.items() if term not in passage.said[at].reading.terms}
    return chosen


def _by_vectors(best: int, cosines: NDArray[np.float32], passage: ReadPassage) -> tuple[list[int], float]:
    chosen, reached = [best], float(cosines[best])
    total, near = passage.vectors[best], float(cosines[best])
    while len(chosen) < MOST_SENTENCES:
        sums = total + passage.vectors
        joint = (near + cosines) / np.maximum(np.linalg.norm(sums, axis=1), 1e-6)
        joint[chosen] = -1.0
        at = int(np.argmax(joint))
        if joint[at] < reached + LEAST_COSINE_GAIN:
            break
        chosen.append(at)
        reached, total, near = float(joint[at]), sums[at], near + float(cosines[at])
    return chosen, reached
