"""How sure a figure is, and whether two differ. Pure; seeds are fixed, so the same results give the same figures.

Everything is resampled by question: a question's own rows stay together, so that the two variants of a question are
not taken for independent. Intervals are percentile bootstrap intervals (Efron and Tibshirani 1993, chapter 13). Two
runs over the same questions are compared by a paired randomisation test, which exchanges the two runs' results of a
question at random (Smucker, Allan and Carterette 2007), and Holm's step-down correction (1979) keeps the chance that
any difference called real is none below 5 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from rag_service.evaluated import Estimate

Reals = NDArray[np.float64]
Integers = NDArray[np.int64]
RESAMPLES = 1_000
EXCHANGES = 9_999
_AT_ONCE = 500
_SEED = 20_261_126
_EPSILON = 1e-12


class Statistic(Protocol):
    """A figure of questions that may count any number of times."""

    @property
    def questions(self) -> int: ...

    def of(self, weights: Reals) -> Reals:
        """The figure for each row of `weights` [samples, questions]; NaN where nothing has any weight."""
        ...

    def beside(self, other: Self) -> Self:
        """That of these questions followed by the other's."""
        ...


@dataclass(frozen=True, slots=True)
class Ratio:
    """Sum of `parts` over sum of `wholes`, each [questions]: a mean where every whole is 1 or 0."""

    parts: Reals
    wholes: Reals

    @property
    def questions(self) -> int:
        return len(self.parts)

    def of(self, weights: Reals) -> Reals:
        wholes = weights @ self.wholes
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(wholes > 0, (weights @ self.parts) / wholes, np.nan)

    def beside(self, other: Ratio) -> Ratio:
        return Ratio(np.concatenate([self.parts, other.parts]), np.concatenate([self.wholes, other.wholes]))


@dataclass(frozen=True, slots=True)
class Separation:
    """How well a score tells positive rows from negative ones; row i belongs to question `owners[i]` of `questions`.

    `auroc` is the chance that a positive row scores above a negative one, half of a tie counted (Hanley and McNeil
    1982). `rejected` is the share of negative rows below the highest threshold that lets `kept` of the positive pass.
    """

    questions: int
    owners: Integers
    scores: Reals
    positive: NDArray[np.bool_]
    measure: Literal["auroc", "rejected"]
    kept: float = 0.9

    def of(self, weights: Reals) -> Reals:
        positive, negative = self._by_score(weights)
        totals = positive.sum(axis=1) * negative.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            found = self._auroc(positive, negative) if self.measure == "auroc" else self._rejected(positive, negative)
            return np.where(totals > 0, found, np.nan)

    def beside(self, other: Separation) -> Separation:
        return Separation(
            self.questions + other.questions,
            np.concatenate([self.owners, other.owners + self.questions]),
            np.concatenate([self.scores, other.scores]),
            np.concatenate([self.positive, other.positive]),
            self.measure,
            self.kept,
        )

    def _by_score(self, weights: Reals) -> tuple[Reals, Reals]:
        """Weight of the positive and of the negative rows at each score, ascending: [samples, scores]."""
        order = np.argsort(self.scores, kind="stable")
        _, starts = np.unique(self.scores[order], return_index=True)
        if not len(starts):
            return np.zeros((len(weights), 1)), np.zeros((len(weights), 1))
        rows, positive = weights[:, self.owners[order]], self.positive[order]
        return (
            np.add.reduceat(np.where(positive, rows, 0.0), starts, axis=1),
            np.add.reduceat(np.where(positive, 0.0, rows), starts, axis=1),
        )

    def _auroc(self, positive: Reals, negative: Reals) -> Reals:
        below = np.cumsum(negative, axis=1) - negative / 2
        won: Reals = (positive * below).sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1))
        return won

    def _rejected(self, positive: Reals, negative: Reals) -> Reals:
        at_least = np.cumsum(positive[:, ::-1], axis=1)[:, ::-1]
        enough = at_least >= self.kept * at_least[:, :1] - _EPSILON
        threshold = enough.sum(axis=1) - 1
        below = np.cumsum(negative, axis=1) - negative
        share: Reals = below[np.arange(len(below)), threshold] / negative.sum(axis=1)
        return share


@dataclass(frozen=True, slots=True)
class Difference:
    """`value` is the second figure less the first, with its 95 % interval; `p` the chance of one as large by chance."""

    first: float
    second: float
    low: float
    high: float
    p: float

    @property
    def value(self) -> float:
        return self.second - self.first


def estimate(statistic: Statistic, n: int) -> Estimate | None:
    """With its 95 % interval; None where there is nothing to measure."""
    value = _whole(statistic)
    if np.isnan(value):
        return None
    low, high = _interval(np.concatenate([statistic.of(weights) for weights in _resampled(statistic.questions)]))
    # A percentile interval may miss the figure itself by a rounding or, with a handful of questions, by a hair.
    return Estimate(value, min(low, value), max(high, value), n)


def difference(first: Statistic, second: Statistic) -> Difference | None:
    """Of two runs over the same questions in the same order; None where either has nothing to measure."""
    before, after = _whole(first), _whole(second)
    if np.isnan(before) or np.isnan(after):
        return None
    resampled = [second.of(weights) - first.of(weights) for weights in _resampled(first.questions)]
    low, high = _interval(np.concatenate(resampled))
    value = after - before
    return Difference(before, after, min(low, value), max(high, value), _chance(first, second, abs(value)))


def holm(chances: Sequence[float]) -> list[float]:
    """Each adjusted for all of them, in the order given."""
    adjusted, highest = [0.0] * len(chances), 0.0
    for step, at in enumerate(sorted(range(len(chances)), key=lambda at: chances[at])):
        highest = max(highest, min(1.0, (len(chances) - step) * chances[at]))
        adjusted[at] = highest
    return adjusted


def _whole(statistic: Statistic) -> float:
    return float(statistic.of(np.ones((1, statistic.questions)))[0])


def _interval(samples: Reals) -> tuple[float, float]:
    low, high = np.nanpercentile(samples, (2.5, 97.5))
    return float(low), float(high)


def _resampled(questions: int) -> list[Reals]:
    """How often each question was drawn, [samples, questions] at a time."""
    generator = np.random.default_rng(_SEED)
    even = np.full(questions, 1 / questions)
    batches = RESAMPLES // _AT_ONCE
    return [generator.multinomial(questions, even, size=_AT_ONCE).astype(np.float64) for _ in range(batches)]


def _chance(first: Statistic, second: Statistic, found: float) -> float:
    """Of a difference at least as large as `found` where it does not matter which run a result came from."""
    generator = np.random.default_rng(_SEED)
    both, extreme, done = first.beside(second), 1, 0
    while done < EXCHANGES:
        samples = min(_AT_ONCE, EXCHANGES - done)
        exchanged = generator.integers(0, 2, size=(samples, first.questions)).astype(np.float64)
        kept = 1.0 - exchanged
        apart = np.abs(both.of(np.hstack([exchanged, kept])) - both.of(np.hstack([kept, exchanged])))
        extreme += int((np.nan_to_num(apart) >= found - _EPSILON).sum())
        done += samples
    return extreme / (EXCHANGES + 1)
