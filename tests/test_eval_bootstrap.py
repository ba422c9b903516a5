"""Intervals and tests: they cover what they promise, and the same results give the same figures."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_service.evaluation.bootstrap import Ratio, Separation, difference, estimate, holm

CHANCES = st.lists(st.floats(0, 1), max_size=12)


def mean_of(values: list[float]) -> Ratio:
    return Ratio(np.array(values, dtype=float), np.ones(len(values)))


def separation(
    positive: list[float], negative: list[float], measure: Literal["auroc", "rejected"] = "auroc"
) -> Separation:
    scores = np.array([*positive, *negative], dtype=float)
    flags = np.array([True] * len(positive) + [False] * len(negative))
    return Separation(len(scores), np.arange(len(scores)), scores, flags, measure)


def whole(statistic: Ratio | Separation) -> float:
    return float(statistic.of(np.ones((1, statistic.questions)))[0])


@given(st.lists(st.sampled_from([0.0, 0.2, 0.5, 1.0]), min_size=1, max_size=40))
@settings(max_examples=30)
def test_an_interval_holds_its_figure_and_does_not_move(values: list[float]) -> None:
    found = estimate(mean_of(values), len(values))
    assert found is not None
    assert found.low <= found.value <= found.high
    assert found.value == pytest.approx(np.mean(values))
    assert min(values) - 1e-9 <= found.low
    assert found.high <= max(values) + 1e-9
    assert estimate(mean_of(values), len(values)) == found


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(5)
    covered = 0
    for _ in range(200):
        found = estimate(mean_of(list(generator.random(120) < 0.7)), 120)
        assert found is not None
        covered += found.low <= 0.7 <= found.high
    assert 180 <= covered <= 199


def test_there_is_no_estimate_of_nothing() -> None:
    assert estimate(Ratio(np.zeros(3), np.zeros(3)), 0) is None
    assert estimate(separation([0.5], []), 1) is None
    assert difference(mean_of([1.0]), Ratio(np.zeros(1), np.zeros(1))) is None


def test_auroc_is_the_share_of_pairs_in_the_right_order_ties_half() -> None:
    assert whole(separation([0.9, 0.8], [0.1, 0.2])) == 1.0
    assert whole(separation([0.1], [0.9])) == 0.0
    assert whole(separation([0.5], [0.5])) == 0.5
    assert whole(separation([0.9, 0.5, 0.1], [0.5, 0.3])) == pytest.approx((1 + 1 + 0.5 + 1 + 0 + 0) / 6)


def test_what_is_rejected_lies_below_the_threshold_that_keeps_nine_of_ten() -> None:
    positive = [number / 10 for number in range(1, 11)]
    assert whole(separation(positive, [0.05, 0.15, 0.19, 0.2, 0.9], "rejected")) == pytest.approx(3 / 5)


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=12),
    st.lists(st.integers(0, 5), min_size=1, max_size=12),
)
def test_separation_agrees_with_counting(positive: list[int], negative: list[int]) -> None:
    pairs = [(p > n) + (p == n) / 2 for p in positive for n in negative]
    assert whole(separation(list(positive), list(negative))) == pytest.approx(np.mean(pairs))
    threshold = max(t for t in positive if sum(p >= t for p in positive) >= 0.9 * len(positive) - 1e-9)
    rejected = np.mean([n < threshold for n in negative])
    assert whole(separation(list(positive), list(negative), "rejected")) == pytest.approx(rejected)


@given(st.lists(st.integers(0, 3), min_size=2, max_size=8), st.data())
def test_a_question_drawn_twice_counts_twice(weights: list[int], data: st.DataObject) -> None:
    scores = data.draw(st.lists(st.integers(0, 4), min_size=len(weights), max_size=len(weights)))
    flags = data.draw(st.lists(st.booleans(), min_size=len(weights), max_size=len(weights)))
    drawn = [(s, f) for s, f, w in zip(scores, flags, weights, strict=True) for _ in range(w)]
    one = Separation(len(scores), np.arange(len(scores)), np.array(scores, float), np.array(flags), "auroc")
    weighted = float(one.of(np.array([weights], dtype=float))[0])
    positive, negative = [s for s, f in drawn if f], [s for s, f in drawn if not f]
    if positive and negative:
        assert weighted == pytest.approx(whole(separation(list(positive), list(negative))))
    else:
        assert np.isnan(weighted)


def test_runs_that_differ_by_nothing_but_chance_seldom_differ() -> None:
    generator = np.random.default_rng(7)
    chances = []
    for _ in range(100):
        first, second = generator.random(50) < 0.6, generator.random(50) < 0.6
        found = difference(mean_of(list(first)), mean_of(list(second)))
        assert found is not None
        chances.append(found.p)
    assert sum(p < 0.05 for p in chances) <= 11


def test_a_difference_has_its_sign_and_its_interval() -> None:
    found = difference(mean_of([1.0] * 40), mean_of([1.0] * 20 + [0.0] * 20))
    assert found is not None
    assert found.value == -0.5
    assert found.low < -0.5 < found.high < 0
    assert found.p < 0.001
    assert difference(mean_of([1.0] * 40), mean_of([1.0] * 20 + [0.0] * 20)) == found


def test_holm_is_as_in_the_book() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(CHANCES)
def test_holm_never_makes_anything_more_certain_nor_changes_the_order(chances: list[float]) -> None:
    adjusted = holm(chances)
    assert all(chance <= after <= 1.0 for chance, after in zip(chances, adjusted, strict=True))
    by_chance = [after for _, after in sorted(zip(chances, adjusted, strict=True))]
    assert by_chance == sorted(by_chance)
