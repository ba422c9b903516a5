"""The BM25 arithmetic that tantivy's base and the in-memory tail share, so that a chunk scores the same in either."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Reals = NDArray[np.float64]

# Fixed inside tantivy (src/query/bm25.rs), hence here too.
K1 = 1.2
B = 0.75

MOST_TERMS = 256
"""A query asks for at most this many terms, the rarest: a pasted page must not cost a hundred questions."""


@dataclass(frozen=True, slots=True)
class WeightedTerms:
    """Distinct query terms with what they weigh; the arrays run beside `terms`.

    `weights` is the idf over base and tail, 0 for a term left out by `MOST_TERMS`. `base_boosts` turns tantivy's own
    idf into that weight, 0 where the base does not have the term. `most` is what a perfect chunk would score.
    """

    terms: tuple[str, ...]
    idf: Reals
    weights: Reals
    base_boosts: Reals
    most: float


def weigh(
    terms: Sequence[str], base_chunks: int, in_base: Integers, tail_chunks: int, in_tail: Integers
) -> WeightedTerms:
    """Weights for distinct `terms`, given how many chunks there are and how many have each term.

    Where there are more than `MOST_TERMS`, the commonest of those that occur are left out, and then count neither in a
    score nor in `most`. Terms that occur nowhere always count in `most`: they are what the query asked in vain.
    """
    frequencies = in_base + in_tail
    idf = _idf(base_chunks + tail_chunks, frequencies)
    weights = idf.copy()
    occurring = np.flatnonzero(frequencies)
    if occurring.size > MOST_TERMS:
        commonest_last = occurring[np.argsort(frequencies[occurring], kind="stable")]
        weights[commonest_last[MOST_TERMS:]] = 0.0
    boosts = np.where(in_base > 0, weights / _idf(base_chunks, in_base), 0.0)
    return WeightedTerms(tuple(terms), idf, weights, boosts, float(weights.sum()) * (K1 + 1))


def _idf(chunks: int, frequencies: Integers) -> Reals:
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
