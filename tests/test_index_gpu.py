from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from legs import SOME_TEXT

from rag_service.errors import InvalidConfiguration
from rag_service.index import segments
from rag_service.index.dense import Bytes, DenseBase, DenseBuilder, HalfRows, Ids, Scores
from rag_service.index.gpu import ERROR, Gpu, GpuBase, Nearest
from rag_service.ports import IndexRow

DIMENSIONS = 24
needs_a_gpu = pytest.mark.skipif(faiss.get_num_gpus() == 0, reason="needs a CUDA device and faiss-gpu, see [gpu]")


def unit_rows(count: int, seed: int, dimensions: int = DIMENSIONS, spread: float = 1.0) -> HalfRows:
    """Around one direction, the closer the smaller `spread`: then scores lie so close that rounding reorders them."""
    choice = np.random.default_rng(seed)
    rows = choice.standard_normal(dimensions) + spread * choice.standard_normal((count, dimensions))
    unit: HalfRows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    return unit


def serialised(rows: HalfRows) -> Bytes:
    builder = DenseBuilder(rows.shape[1])
    builder.add(np.arange(len(rows), dtype=np.int64) * 3 + 1, rows)
    return builder.serialised()


def rounding(rows: HalfRows) -> Nearest:
    """What a device does: float16 question against float16 rows."""

    def nearest(vector: Scores, k: int) -> tuple[Ids, Scores]:
        scores = rows.astype(np.float32) @ vector.astype(np.float16).astype(np.float32)
        best = np.argsort(-scores, kind="stable")[:k]
        return best, scores[best]

    return nearest


def off_by_as_much_as_allowed(rows: HalfRows) -> Nearest:
    """The worst device that keeps the promise: every score is off by `ERROR`, one way or the other."""
    off = np.where(np.random.default_rng(1).random(len(rows)) < 0.5, -ERROR, ERROR).astype(np.float32)

    def nearest(vector: Scores, k: int) -> tuple[Ids, Scores]:
        scores = rows.astype(np.float32) @ vector + off
        best = np.argsort(-scores, kind="stable")[:k]
        return best, scores[best]

    return nearest


def on(place: Callable[[HalfRows], Nearest | None], content: Bytes) -> GpuBase:
    return GpuBase(faiss.deserialize_index(content), place)


def assert_same(got: tuple[Ids, Scores], expected: tuple[Ids, Scores], tie: float = 1e-6) -> None:
    """Equal scores position by position; ids may differ only where a score is tied with the last one."""
    np.testing.assert_allclose(got[1], expected[1], atol=tie)
    certain = expected[1] > expected[1][-1] + tie
    assert set(expected[0][certain].tolist()) <= set(got[0].tolist())


@settings(deadline=None)
@given(
    st.sampled_from([rounding, off_by_as_much_as_allowed]),
    st.integers(1, 2_500),
    st.integers(1, 2_600),
    st.sampled_from([1.0, 0.1, 0.01, 0.0]),
    st.integers(0, 50),
)
def test_a_rough_device_never_changes_what_is_found(
    place: Callable[[HalfRows], Nearest], count: int, k: int, spread: float, seed: int
) -> None:
    rows = unit_rows(count, seed, spread=spread)
    content, vector = serialised(rows), unit_rows(1, seed + 1)[0].astype(np.float32)
    assert_same(on(place, content).search(vector, k), DenseBase.deserialised(content).search(vector, k))


@pytest.mark.parametrize("k", [1, 10, 100, 1_000])
def test_where_more_scores_lie_within_the_error_than_there_are_spares_the_cpu_decides(k: int) -> None:
    rows = unit_rows(2_000, 0, spread=0.002)
    content, vector = serialised(rows), unit_rows(1, 1)[0].astype(np.float32)
    base, expected = on(off_by_as_much_as_allowed, content), DenseBase.deserialised(content).search(vector, k)
    assert_same(base.search(vector, k), expected)


def test_the_device_is_what_searches_where_scores_lie_apart() -> None:
    rows, asked = unit_rows(2_000, 0), []

    def place(rows: HalfRows) -> Nearest:
        def nearest(vector: Scores, k: int) -> tuple[Ids, Scores]:
            asked.append(k)
            return rounding(rows)(vector, k)

        return nearest

    base = on(place, serialised(rows))
    # Whatever still searched on the CPU would fail. The rows are a view of the index's memory: it has to live on.
    kept, base._index = base._index, None
    found, _ = base.search(rows[7].astype(np.float32), 10)
    assert found[0] == 22
    assert len(found) == 10
    assert len(asked) == 1
    assert kept.ntotal == len(rows)


@pytest.mark.parametrize("error", ["StandardGpuResources: alloc fail type TemporaryMemoryOverflow", None])
def test_a_device_without_room_leaves_the_search_to_the_cpu(error: str | None) -> None:
    rows = unit_rows(300, 0)

    def full(vector: Scores, k: int) -> tuple[Ids, Scores]:
        raise RuntimeError(error)

    base = on(lambda rows: full if error else None, serialised(rows))
    vector = rows[3].astype(np.float32)
    assert_same(base.search(vector, 5), DenseBase.deserialised(serialised(rows)).search(vector, 5))


def test_any_other_fault_of_the_device_is_not_hidden() -> None:
    def broken(vector: Scores, k: int) -> tuple[Ids, Scores]:
        raise RuntimeError("CUDA error 700 an illegal memory access was encountered")

    rows = unit_rows(300, 0)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        on(lambda rows: broken, serialised(rows)).search(rows[3].astype(np.float32), 5)


def test_an_empty_base_needs_no_device() -> None:
    base = on(lambda rows: pytest.fail("nothing to place"), serialised(unit_rows(0, 0)))
    assert len(base.search(np.zeros(DIMENSIONS, dtype=np.float32), 5)[0]) == 0
    assert base.placed


def test_a_segment_is_loaded_with_the_base_it_is_given(tmp_path: Path) -> None:
    rows = [IndexRow(i + 1, f"w{i}", vector, SOME_TEXT) for i, vector in enumerate(unit_rows(10, 0))]
    segment = segments.build(tmp_path, "kb", "s", 1, "embedder", DIMENSIONS, iter(rows))
    base = segments.load(tmp_path, segment, lambda content: on(rounding, content)).dense
    assert isinstance(base, GpuBase)
    assert base.search(rows[4].vector.astype(np.float32), 1)[0].tolist() == [5]


def test_without_a_gpu_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(faiss, "StandardGpuResources", raising=False)
    with pytest.raises(InvalidConfiguration, match=r"FAISS installed is for the CPU.*youju\[gpu\].*index = faiss$"):
        Gpu()
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    with pytest.raises(InvalidConfiguration, match=r"no CUDA device 0.*driver"):
        Gpu()


@pytest.mark.gpu
@needs_a_gpu
@pytest.mark.parametrize("spread", [1.0, 0.05])
def test_a_gpu_finds_what_the_cpu_finds(spread: float) -> None:
    rows = unit_rows(100_000, 0, dimensions=512, spread=spread)
    content = serialised(rows)
    cpu, gpu = DenseBase.deserialised(content), Gpu().base(content)
    for seed in range(1, 41):
        vector = unit_rows(1, seed, dimensions=512)[0].astype(np.float32)
        for k in (1, 10, 64, 1_024, 5_000):
            assert_same(gpu.search(vector, k), cpu.search(vector, k))


@pytest.mark.gpu
@needs_a_gpu
def test_the_gpus_scores_are_off_by_no_more_than_is_reckoned_with() -> None:
    rows = unit_rows(20_000, 0, dimensions=512, spread=0.2)
    cpu, gpu = DenseBase.deserialised(serialised(rows)), Gpu().base(serialised(rows))
    assert isinstance(gpu, GpuBase)
    assert gpu._nearest is not None
    for seed in range(1, 21):
        vector = unit_rows(1, seed, dimensions=512)[0].astype(np.float32)
        at, hints = gpu._nearest(vector, 2_048)
        assert np.abs(hints - cpu.scores_of(vector, cpu.ids[at])).max() < ERROR / 2


@pytest.mark.gpu
@needs_a_gpu
def test_threads_may_search_load_and_let_go_of_bases_at_once() -> None:
    gpu, faults = Gpu(), []
    contents = [serialised(unit_rows(3_000, seed, dimensions=64)) for seed in range(4)]

    def use(seed: int) -> None:
        try:
            vector = unit_rows(1, seed, dimensions=64)[0].astype(np.float32)
            for content in contents * 5:
                base = gpu.base(content)
                assert_same(base.search(vector, 20), DenseBase.deserialised(content).search(vector, 20))
                del base
                gc.collect()
        except BaseException as error:
            faults.append(repr(error))
            raise

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
