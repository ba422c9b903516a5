"""Embedders side by side on the parallel passages of XQuAD: is the right one of 240 found, and at what rate.

    python -m bench.embedders --eval ../shared/eval use-multilingual use-multilingual-onnx

A name is whatever `YOUJU_EMBEDDER` may be; what else an embedder needs comes from the environment (`YOUJU_…`). Rates
mean something on a quiet machine only.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bench.evalset import rows
from bench.results import Result, markdown
from rag_service import config
from rag_service.embedders import open_embedder
from rag_service.ports import Embedder, Vectors

DIRECTIONS = (("zh", "zh"), ("en", "en"), ("zh", "en"), ("en", "zh"))
_AT_ONCE = 32


def run(evaluation: Path, names: Sequence[str]) -> list[Result]:
    settings = config.load()
    return [result for name in names for result in _measured(evaluation, open_embedder(name, settings))]


def _measured(evaluation: Path, embedder: Embedder) -> Iterator[Result]:
    passages = {language: rows(evaluation, "passages", "xquad", language) for language in ("zh", "en")}
    texts = [row["text"] for language in passages for row in passages[language]]
    began = time.monotonic()
    vectors = dict(zip(passages, np.split(_embedded(embedder, texts), [len(passages["zh"])]), strict=True))
    a_second = len(texts) / (time.monotonic() - began)
    questions = {language: rows(evaluation, "queries", "xquad", language) for language in ("zh", "en")}
    began = time.monotonic()
    asked = {
        language: np.stack([embedder.embed_query(q["text"]) for q in questions[language]]) for language in passages
    }
    a_question = (time.monotonic() - began) * 1_000 / sum(map(len, questions.values()))
    for question, passage in DIRECTIONS:
        gold = "relevant" if question == passage else "relevant_cross"
        wanted = [q[gold][0] for q in questions[question]]
        ids = np.array([row["id"] for row in passages[passage]])
        first, tenth = _recall(asked[question] @ vectors[passage].T, ids, wanted)
        yield Result(f"{embedder.name}, {question}→{passage}", "R@1 / R@10", f"{first:.3f} / {tenth:.3f}", None)
    yield Result(f"{embedder.name}, rate", "–", f"{a_second:.0f} passages/s, {a_question:.1f} ms a question", None)


def _embedded(embedder: Embedder, texts: Sequence[str]) -> Vectors:
    return np.concatenate([embedder.embed(texts[at : at + _AT_ONCE]) for at in range(0, len(texts), _AT_ONCE)])


def _recall(scores: Vectors, ids: np.ndarray, wanted: Sequence[str]) -> tuple[float, float]:
    best = ids[np.argsort(-scores, axis=1)[:, :10]]
    found = [list(row).index(gold) if gold in row else 10 for row, gold in zip(best, wanted, strict=True)]
    return float(np.mean([place == 0 for place in found])), float(np.mean([place < 10 for place in found]))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.embedders")
    parser.add_argument("--eval", type=Path, required=True, help="folder of the evaluation sets")
    parser.add_argument("embedder", nargs="+")
    given = parser.parse_args()
    print(markdown(run(given.eval, given.embedder)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
