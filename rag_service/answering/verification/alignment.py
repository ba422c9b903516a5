"""Which token of one sentence stands for which of another. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pair = tuple[int, int]
"""Index of a token of the claim, and of the equal one of the passage."""
_MATCH, _RUN = 2, 3
"""A match counts more after a match: one run of five is better than five scattered ones."""


_NEAR = 8
"""Tokens beside an anchor that can stand in one place with each other at the ends of an alignment."""


@dataclass(frozen=True, slots=True)
class Gap:
    """What stands between two neighbouring pairs of an alignment: `claim[a:b]` in the place of `passage[c:d]`."""

    a: int
    b: int
    c: int
    d: int


def align(claim: Sequence[str], passage: Sequence[str]) -> list[Pair]:
    """Pairs of equal tokens in rising order, so that runs are long and matches many.

    Needleman and Wunsch (1970) without a gap penalty and with a bonus for runs; len(claim) × len(passage) steps, a row
    at a time.
    """
    if not claim or not passage:
        return []
    number: dict[str, int] = {}
    left = [number.setdefault(token, len(number)) for token in claim]
    right = np.array([number.setdefault(token, len(number)) for token in passage])
    best = np.zeros((len(left) + 1, len(right) + 1), dtype=np.int32)
    matched = np.full((len(left) + 1, len(right) + 1), -1, dtype=np.int32)
    for row, token in enumerate(left, start=1):
        equal = right == token
        run = matched[row - 1, :-1]
        ending = np.maximum(best[row - 1, :-1] + _MATCH, np.where(run >= 0, run + _RUN, -1))
        matched[row, 1:] = np.where(equal, ending, -1)
        np.maximum(best[row - 1, 1:], matched[row, 1:], out=best[row, 1:])
        np.maximum.accumulate(best[row], out=best[row])
    return _traced(best, matched)


def _traced(best: NDArray[np.int32], matched: NDArray[np.int32]) -> list[Pair]:
    pairs: list[Pair] = []
    row, column = best.shape[0] - 1, best.shape[1] - 1
    in_run = False
    while row > 0 and column > 0:
        score = int(matched[row, column])
        if score >= 0 and (in_run or score == best[row, column]):
            pairs.append((row - 1, column - 1))
            before = int(matched[row - 1, column - 1])
            in_run = before >= 0 and before + _RUN == score
            row, column = row - 1, column - 1
        elif best[row - 1, column] == best[row, column]:
            row -= 1
        else:
            column -= 1
    return pairs[::-1]


def gaps(pairs: Sequence[Pair], claim_tokens: int, passage_tokens: int) -> Iterator[Gap]:
    """Places where a claim says something that its passage does not say there."""
    a = c = 0
    for i, j in [*pairs, (claim_tokens, passage_tokens)]:
        if i > a:
            if a == 0 and pairs:
                yield Gap(a, i, max(c, j - (i - a) - _NEAR), j)
            elif i == claim_tokens:
                yield Gap(a, i, c, min(j, c + (i - a) + _NEAR))
            else:
                yield Gap(a, i, c, j)
        a, c = i + 1, j + 1
