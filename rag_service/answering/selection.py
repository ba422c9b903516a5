"""Which sentences are quoted, and in what order. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rag_service.answering.evidence import Evidence
from rag_service.text import fold, lexical_terms

MOST_SENTENCES = 3
BESIDE_THE_BEST = 0.8
"""A further sentence is quoted when it scores at least this share of the best one."""
SAME_SENTENCE = 0.8
"""Share of the shorter sentence's terms from which the other one says it too, unless their figures differ."""

# What points back, at the beginning of a sentence: to read it alone is to wonder who or what is meant.
_LEANS = re.compile(
    r"[“\"(（]?(?:[他她它此该其这那]|后者|前者|上述|因此|所以|但是?|然而|不过"
    r"|(?:he|she|it|they|this|that|these|those|his|her|its|their|such|however|therefore|but|then)\b)",
    re.IGNORECASE,
)
_FIGURES = re.compile(r"\d+")


def selected(scored: Sequence[Evidence]) -> tuple[Evidence, ...]:
    """Up to three of the sentences, given best first: passages in the order of their best sentence, the sentences of
    one passage as they stand in it."""
    kept: list[Evidence] = []
    for evidence in scored:
        if len(kept) == MOST_SENTENCES or evidence.score < BESIDE_THE_BEST * scored[0].score:
            break
        if not any(_repeats(evidence, other) for other in kept):
            kept.append(evidence)
    return tuple(_in_reading_order(_with_what_they_lean_on(kept, scored)))


def _with_what_they_lean_on(kept: Sequence[Evidence], scored: Sequence[Evidence]) -> list[Evidence]:
    """The sentence before a kept one that points back, as long as there is room."""
    place = {(_chunk_id(evidence), evidence.sentence.number): evidence for evidence in scored}
    made = list(kept)
    for evidence in kept:
        before = place.get((_chunk_id(evidence), evidence.sentence.number - 1))
        if len(made) < MOST_SENTENCES and before and before not in made and _LEANS.match(evidence.sentence.text):
            made.append(before)
    return made


def _in_reading_order(kept: Iterable[Evidence]) -> list[Evidence]:
    by_passage: dict[int, list[Evidence]] = {}
    for evidence in kept:
        by_passage.setdefault(_chunk_id(evidence), []).append(evidence)
    return [one for group in by_passage.values() for one in sorted(group, key=lambda e: e.sentence.start)]


def _repeats(one: Evidence, other: Evidence) -> bool:
    mine, others = (fold(evidence.sentence.text) for evidence in (one, other))
    a, b = frozenset(lexical_terms(mine)), frozenset(lexical_terms(others))
    if frozenset(_FIGURES.findall(mine)) != frozenset(_FIGURES.findall(others)):
        return False
    return len(a & b) >= SAME_SENTENCE * min(len(a), len(b))


def _chunk_id(evidence: Evidence) -> int:
    return evidence.sentence.ranked.passage.chunk_id
