"""Dense search on a GPU against the CPU's: time of one question, and whether both find the same.

Run: `python -m bench.gpu_index` (extra `[gpu]`); `--cpu` searches with the CPU in both columns, to know that it runs.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import time

import faiss
import numpy as np

from bench.results import Result, markdown
from rag_service.index.dense import Bytes, DenseBase, DenseBuilder, Scores
from rag_service.index.gpu import Gpu

ROWS = (100_000, 1_000_000)
DIMENSIONS = 512
QUESTIONS = 100
FOUND = 64
_TIE = 1e-6


def measured(rows: tuple[int, ...], *, on_gpu: bool) -> list[Result]:
    gpu = Gpu() if on_gpu else None
    results = []
    for count in rows:
        content = _base(count)
        cpu = DenseBase.deserialised(content)
        device = gpu.base(content) if gpu else DenseBase.deserialised(content)
        questions = _unit(QUESTIONS, seed=1)
        here, there = _p50(cpu, questions), _p50(device, questions)
        same = sum(_same(cpu, device, question) for question in questions)
        results.append(
            Result(
                f"{count:,} vectors of {DIMENSIONS}, best {FOUND} of one question",
                "the same found",
                f"CPU p50 {here * 1e3:.2f} ms, GPU {there * 1e3:.2f} ms = {here / there:.1f} ×; "
                f"same {same} of {QUESTIONS}",
                same == QUESTIONS,
            )
        )
    return results


def _base(count: int) -> Bytes:
    builder = DenseBuilder(DIMENSIONS)
    for start in range(0, count, 50_000):
        size = min(50_000, count - start)
        ids = np.arange(start, start + size, dtype=np.int64)
        builder.add(ids, _unit(size, seed=start + 2).astype(np.float16))
    return builder.serialised()


def _unit(count: int, seed: int) -> Scores:
    """`count` unit rows around one direction, as passages of one corpus are; float32."""
    choice = np.random.default_rng(seed)
    common = np.random.default_rng(0).standard_normal(DIMENSIONS, dtype=np.float32)
    rows = common + choice.standard_normal((count, DIMENSIONS), dtype=np.float32)
    unit: Scores = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def _p50(base: DenseBase, questions: Scores) -> float:
    base.search(questions[0], FOUND)
    times = []
    for question in questions:
        begun = time.perf_counter()
        base.search(question, FOUND)
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def _same(one: DenseBase, other: DenseBase, question: Scores) -> bool:
    """Equal scores; ids may differ where a score is tied with the last one."""
    (ids, scores), (others, other_scores) = one.search(question, FOUND), other.search(question, FOUND)
    certain = ids[scores > scores[-1] + _TIE]
    return bool(np.allclose(scores, other_scores, atol=_TIE) and set(certain.tolist()) <= set(others.tolist()))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu_index", description=__doc__)
    parser.add_argument("--cpu", action="store_true", help="few vectors, and no GPU")
    given = parser.parse_args()
    results = measured((5_000,) if given.cpu else ROWS, on_gpu=not given.cpu)
    print(f"{datetime.date.today()}, {faiss.get_num_gpus()} GPU, FAISS {faiss.__version__}\n")
    print(markdown(results))
    return 0 if all(result.met for result in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
