"""The BM25 arithmetic that tantivy's base and the in-memory tail share, so that a chunk scores the same in either.

A leg asks for concepts. A concept is scored by the best of its ways that a chunk has, a way by its rarest term: the
others it is made of would seldom stand elsewhere. Where every concept has one way of one term, that is plain BM25.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rag_service.types import Concept, WeighedConcept

Integers = NDArray[np.int64]
Reals = NDArray[np.float64]

# Fixed inside tantivy (src/query/bm25.rs), hence here too.
K1 = 1.2
B = 0.75

MOST_WAYS = 256
"""A leg asks in at most this many ways, the rarest: a pasted page must not cost a hundred questions."""
OWN_RARITY = 0.4
"""How much of a way's weight is its own rarity; the rest is that of its concept, said in any way. A rare translation is
rare because hardly anybody means it by the word (R@1 en→ZH over ZH .660 with 1, .684 with .4, .678 with 0)."""


TRANSLATED = 0.5
"""Where a word itself occurs in a knowledge base, what a translation of it is worth beside it: in a corpus of both
languages a passage of the question's own comes before its translation (own-language R@1, zh, of XQuAD over ZH and EN
together: .864 with 1, .894 with .7, .912 with .5; .925 over ZH alone)."""


@dataclass(frozen=True, slots=True)
class WeightedLeg:
    """The ways of one leg that can occur, side by side: way i says concept `concepts[i]` and is scored by the query's
    term number `terms[i]`, with weight `weights[i]`.

    `base_boosts` turns tantivy's own idf into that weight, 0 where the base does not have the term. `most` is what a
    perfect chunk would score. `weighed` is the same by concept, for whoever scores sentences.
    """

    concepts: Integers
    terms: Integers
    weights: Reals
    base_boosts: Reals
    most: float
    weighed: tuple[WeighedConcept, ...]


@dataclass(frozen=True, slots=True)
class Statistics:
    """How many chunks there are, and how many have each term, in the base and in the tail."""

    base_chunks: int
    in_base: Integers
    tail_chunks: int
    in_tail: Integers

    @property
    def chunks(self) -> int:
        return self.base_chunks + self.tail_chunks

    @property
    def frequencies(self) -> Integers:
        return self.in_base + self.in_tail


def distinct_terms(legs: Iterable[Sequence[Concept]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(term for leg in legs for c in leg for way in c.ways for term in way.terms))


def weigh(leg: Sequence[Concept], terms: tuple[str, ...], statistics: Statistics) -> WeightedLeg:
    """Weights for the leg's concepts, given the query's distinct `terms` and their statistics.

    Where there are more ways than `MOST_WAYS`, the commonest of those that occur are left out, and a concept of which
    none is left counts neither in a score nor in `most`. A concept that occurs in no way always counts in `most`, like
    a term that is nowhere: it is what the query asked in vain.
    """
    number = {term: at for at, term in enumerate(terms)}
    frequencies = statistics.frequencies.tolist()
    occurring = [_occurring(concept, number, frequencies) for concept in leg]
    in_vain = _rarity(statistics.chunks, 0)
    concepts, scored, weights, weighed = list[int](), list[int](), list[float](), list[WeighedConcept]()
    for concept, ways, left in zip(leg, occurring, _rarest(occurring), strict=True):
        if ways and not left:
            continue
        rarity = _rarity(statistics.chunks, min(statistics.chunks, sum(way.frequency for way in left)))
        worth = _worth(left, rarity, statistics.chunks, concept.weight)
        concepts += [len(weighed)] * len(left)
        scored += [way.term for way in left]
        weights += worth
        ways_worth = tuple((way.terms, value) for way, value in zip(left, worth, strict=True))
        most, translated = max(worth, default=concept.weight * in_vain), any(way.translated for way in concept.ways)
        weighed.append(WeighedConcept(most, ways_worth, translated))
    numbers, values = np.array(scored, dtype=np.int64), np.array(weights, dtype=np.float64)
    return WeightedLeg(
        np.array(concepts, dtype=np.int64), numbers, values, _boosts(values, numbers, statistics),
        sum(concept.most for concept in weighed) * (K1 + 1), tuple(weighed),
    )  # fmt: skip


class _Occurring(NamedTuple):
    """A way that occurs: `term` is the number of its rarest, `frequency` how many chunks have that."""

    terms: tuple[str, ...]
    factor: float
    translated: bool
    term: int
    frequency: int


def _occurring(concept: Concept, number: Mapping[str, int], frequencies: Sequence[int]) -> list[_Occurring]:
    found = []
    for way in concept.ways:
        # Most ways are of one term.
        at = [number[term] for term in way.terms]
        rarest = at[0] if len(at) == 1 else min(at, key=frequencies.__getitem__)
        if frequencies[rarest]:
            found.append(_Occurring(way.terms, way.factor, way.translated, rarest, frequencies[rarest]))
    return found


def _rarest(occurring: Sequence[list[_Occurring]]) -> Sequence[list[_Occurring]]:
    """`occurring` without the commonest, where they are too many in all."""
    if sum(map(len, occurring)) <= MOST_WAYS:
        return occurring
    ranked = sorted((way.frequency, at, nth) for at, ways in enumerate(occurring) for nth, way in enumerate(ways))
    asked = {(at, nth) for _, at, nth in ranked[:MOST_WAYS]}
    return [[way for nth, way in enumerate(ways) if (at, nth) in asked] for at, ways in enumerate(occurring)]


def _worth(ways: Sequence[_Occurring], rarity: float, chunks: int, weight: float) -> list[float]:
    """Of each way. Where the word itself occurs, no translation is worth more than `TRANSLATED` of it."""
    worth = [weight * way.factor * _mixed(rarity, way.frequency, chunks) for way in ways]
    itself = max((value for way, value in zip(ways, worth, strict=True) if not way.translated), default=math.inf)
    return [min(v, TRANSLATED * itself) if way.translated else v for way, v in zip(ways, worth, strict=True)]


def _mixed(rarity: float, frequency: int, chunks: int) -> float:
    return (1 - OWN_RARITY) * rarity + OWN_RARITY * _rarity(chunks, frequency)


def _boosts(weights: Reals, numbers: Integers, statistics: Statistics) -> Reals:
    in_base = statistics.in_base[numbers]
    return np.where(in_base > 0, weights / _rarities(statistics.base_chunks, in_base), 0.0)


def _rarity(chunks: int, frequency: int) -> float:
    """The inverse document frequency as tantivy has it."""
    return math.log1p((chunks - frequency + 0.5) / (frequency + 0.5))


def _rarities(chunks: int, frequencies: Integers) -> Reals:
    return np.log1p((chunks - frequencies + 0.5) / (frequencies + 0.5))


def term_scores(tf: Reals, lengths: Reals, average_length: float) -> Reals:
    """What a term of idf 1 adds to a chunk with that many occurrences and that (quantised) length."""
    return (K1 + 1) * tf / (tf + K1 * (1 - B + B * lengths / average_length))


def quantised_lengths(lengths: Integers) -> Reals:
    """Chunk lengths as tantivy keeps them in one byte, rounded down (src/fieldnorm/code.rs)."""
    return _LENGTHS[np.searchsorted(_LENGTHS, lengths, side="right") - 1]


def _length_of_code(code: int) -> float:
    # 24 exact values, then a float with three bits of mantissa shifted by those 24; consecutive up to 40.
    rest = code - 24
    if rest < 8:
        return float(code)
    return float(24 + math.ldexp((rest & 7) | 8, (rest >> 3) - 1))


_LENGTHS: Reals = np.array([_length_of_code(code) for code in range(256)])
