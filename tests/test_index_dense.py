from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_service.index.dense import DenseBase, DenseBuilder, DenseTail, HalfRows

DIMENSIONS = 24


def unit_rows(count: int, seed: int = 0) -> HalfRows:
    rows = np.random.default_rng(seed).standard_normal((count, DIMENSIONS))
    unit: HalfRows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    return unit


def base_of(ids: np.ndarray, rows: HalfRows) -> DenseBase:
    builder = DenseBuilder(DIMENSIONS)
    builder.add(ids, rows)
    return DenseBase.deserialised(builder.serialised())


def tail_of(rows: HalfRows) -> DenseTail:
    return DenseTail(DIMENSIONS).extended(rows)


def test_base_and_tail_give_a_vector_the_same_score() -> None:
    rows, ids = unit_rows(500), np.arange(500) * 7 + 3
    vector = unit_rows(1, seed=1)[0].astype(np.float32)
    found, scores = base_of(ids, rows).search(vector, 500)
    tail = dict(zip(ids.tolist(), tail_of(rows).scores(vector).tolist(), strict=True))
    np.testing.assert_allclose(scores, [tail[i] for i in found.tolist()], atol=1e-6)
    np.testing.assert_allclose(base_of(ids, rows).scores_of(vector, found), scores, atol=1e-6)


def test_scores_are_those_of_the_half_precision_rows_and_nothing_coarser() -> None:
    rows, vector = unit_rows(50), unit_rows(1, seed=1)[0].astype(np.float32)
    exact = rows.astype(np.float64) @ vector.astype(np.float64)
    np.testing.assert_allclose(tail_of(rows).scores(vector), exact, atol=1e-6)


def test_search_is_best_first_and_never_pads() -> None:
    rows, ids = unit_rows(10), np.arange(1, 11)
    vector = rows[4].astype(np.float32)
    found, scores = base_of(ids, rows).search(vector, 64)
    assert found[0] == 5
    assert sorted(found.tolist()) == ids.tolist()
    assert (np.diff(scores) <= 0).all()


@given(st.lists(st.booleans(), min_size=1, max_size=70), st.integers(1, 90))
def test_a_search_among_some_rows_is_brute_force_over_these(marks: list[bool], k: int) -> None:
    rows, ids, marked = unit_rows(len(marks)), np.arange(len(marks)) * 7 + 3, np.array(marks)
    vector = unit_rows(1, seed=1)[0].astype(np.float32)
    exact = dict(zip(ids.tolist(), (rows.astype(np.float64) @ vector).tolist(), strict=True))
    found, scores = base_of(ids, rows).search_among(vector, k, marked)
    best = sorted(ids[marked].tolist(), key=lambda chunk_id: -exact[chunk_id])[:k]
    assert found.tolist() == best
    np.testing.assert_allclose(scores, [exact[i] for i in best], atol=1e-6)


def test_a_search_among_no_rows_finds_nothing() -> None:
    vector, none = np.zeros(DIMENSIONS, dtype=np.float32), np.zeros(10, dtype=np.bool_)
    assert len(base_of(np.arange(10), unit_rows(10)).search_among(vector, 5, none)[0]) == 0
    assert len(DenseBase.empty(DIMENSIONS).search_among(vector, 5, none[:0])[0]) == 0


def test_an_empty_base_finds_nothing_and_contains_nothing() -> None:
    base = DenseBase.empty(DIMENSIONS)
    found, scores = base.search(np.zeros(DIMENSIONS, dtype=np.float32), 5)
    assert len(base) == len(found) == len(scores) == 0
    assert not base.contains(np.array([1, 2])).any()
    assert len(base.scores_of(np.zeros(DIMENSIONS, dtype=np.float32), np.empty(0, dtype=np.int64))) == 0


def test_contains_knows_members_from_neighbours() -> None:
    base = base_of(np.array([3, 10, 17]), unit_rows(3))
    assert base.contains(np.array([2, 3, 4, 17, 18, 0])).tolist() == [False, True, False, True, False, False]


@pytest.mark.parametrize("steps", [[1] * 40, [5, 0, 300, 1], [64, 64]])
def test_extending_leaves_every_earlier_tail_as_it_was(steps: list[int]) -> None:
    rows, vector = unit_rows(sum(steps)), unit_rows(1, seed=1)[0].astype(np.float32)
    expected = tail_of(rows).scores(vector)
    tails = [DenseTail(DIMENSIONS)]
    for step in steps:
        tails.append(tails[-1].extended(rows[len(tails[-1]) : len(tails[-1]) + step]))
    for tail in tails:
        assert np.array_equal(tail.scores(vector), expected[: len(tail)])


def test_two_extensions_of_the_same_tail_do_not_overwrite_each_other() -> None:
    rows, vector = unit_rows(30), unit_rows(1, seed=1)[0].astype(np.float32)
    stem = DenseTail(DIMENSIONS).extended(rows[:10]).extended(rows[10:11])
    left, right = stem.extended(rows[11:13]), stem.extended(rows[20:22])
    expected = tail_of(rows).scores(vector)
    assert np.array_equal(left.scores(vector)[11:], expected[11:13])
    assert np.array_equal(right.scores(vector)[11:], expected[20:22])
