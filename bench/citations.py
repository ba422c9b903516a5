"""Citation verification on a labelled set: precision and recall of *unsupported*, false alarms, and what it costs.

`python -m bench.citations --eval FOLDER [--half dev] [--show 20] [--wrong 20]`. For each kind of untruth the sentences
made untrue stand against the true sentences they were made from, one to one; "all" holds everything that was made
untrue against every true sentence, in the numbers the set has. A *weak* sentence counts as not unsupported.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Literal

import numpy as np

from bench.citation_cases import DIRECTIONS, KINDS, Case, build
from bench.results import Result, markdown
from rag_service.answering.verification.verifier import Support, Verifier
from rag_service.inference.use_multilingual import UseMultilingual
from rag_service.ports import Vectors
from rag_service.types import Language, Passage

_STRICT = ("wrong passage", "number", "unit")
_TIMED = 300


@dataclass(frozen=True, slots=True)
class Checked:
    case: Case
    support: Support | None

    @property
    def unsupported(self) -> bool:
        return self.support is None or self.support.verdict == "unsupported"


@dataclass(frozen=True, slots=True)
class Figures:
    untrue: int
    precision: float
    recall: float


def run(evaluation: Path, scratch: Path) -> list[Result]:
    """For `bench.__main__`: the test half against the targets, and the cost."""
    checked = check(build(evaluation), UseMultilingual())
    half = [one for one in checked if one.case.half == "test"]
    return [*_targets(half), *_false_alarms(half), *_cost(half)]


def check(cases: Sequence[Case], embedder: UseMultilingual) -> list[Checked]:
    verifier = Verifier(_Remembering(embedder))
    return [Checked(case, _support(verifier, case)) for case in cases]


def _support(verifier: Verifier, case: Case) -> Support | None:
    return verifier.check(case.sentence, verifier.read([_passage(case)], _language(case.direction[:2])), [0])


def _passage(case: Case) -> Passage:
    return Passage(
        chunk_id=1, knowledge_base_id="kb", document_id="d", document_version=1, filename="d.txt",
        media_type="text/plain", page=None, headings=(case.title,) if case.title else (),
        language=_language(case.direction[-2:]),
        char_start=0, char_end=len(case.passage), text=case.passage,
    )  # fmt: skip


def _language(name: str) -> Language:
    return "zh" if name == "zh" else "en"


class _Remembering:
    """Embeds each text once: the set cites the same passages over and over."""

    name, dimensions = UseMultilingual.name, UseMultilingual.dimensions

    def __init__(self, embedder: UseMultilingual) -> None:
        self._embedder = embedder
        self._known: dict[str, Vectors] = {}

    def embed(self, texts: Sequence[str]) -> Vectors:
        for text in texts:
            if text not in self._known:
                self._known[text] = self._embedder.embed([text])[0]
        return np.stack([self._known[text] for text in texts])


# --------------------------------------------------------------------------------------------------------- figures


def paired(half: Sequence[Checked], kind: str, direction: str | None = None) -> Figures:
    """Sentences of one kind against the true ones they were made from, each pair once."""
    true = {one.case.parent: one for one in half if one.case.kind == "true"}
    untrue = [o for o in half if o.case.kind == kind and direction in (None, o.case.direction)]
    return _figures(untrue, [true[one.case.parent] for one in untrue])


def overall(half: Sequence[Checked], direction: str | None = None) -> Figures:
    given = [one for one in half if direction in (None, one.case.direction)]
    return _figures([o for o in given if o.case.kind != "true"], [o for o in given if o.case.kind == "true"])


def _figures(untrue: Sequence[Checked], true: Sequence[Checked]) -> Figures:
    found, wrongly = sum(one.unsupported for one in untrue), sum(one.unsupported for one in true)
    return Figures(len(untrue), found / max(found + wrongly, 1), found / max(len(untrue), 1))


def _targets(half: Sequence[Checked]) -> list[Result]:
    rows = []
    for kind in KINDS:
        figures, least = paired(half, kind), 0.95 if kind in _STRICT else None
        by = ", ".join(f"{d} {_pair(paired(half, kind, d))}" for d in DIRECTIONS)
        rows.append(
            _row(f"Citations, {kind}, {figures.untrue} against the true ones they came from", figures, least, by)
        )
    everything = overall(half)
    by = ", ".join(f"{d} {_pair(overall(half, d))}" for d in DIRECTIONS)
    return [*rows, _row(f"Citations, all {everything.untrue} against all true ones", everything, 0.80, by)]


def _row(what: str, figures: Figures, least: float | None, by: str) -> Result:
    met = None if least is None else min(figures.precision, figures.recall) >= least
    target = "–" if least is None else f"precision, recall ≥ {least:.2f}"
    return Result(what, target, f"{_pair(figures)} ({by})", met)


def _pair(figures: Figures) -> str:
    return f"{figures.precision:.3f} / {figures.recall:.3f}"


def _false_alarms(half: Sequence[Checked]) -> list[Result]:
    true = [one for one in half if one.case.kind == "true"]
    rows = []
    for how in sorted({one.case.how for one in true}):
        given = [one for one in true if one.case.how == how]
        wrongly = sum(one.unsupported for one in given)
        whole = sum(one.support is not None and one.support.verdict == "supported" for one in given)
        reached = f"{wrongly / len(given):.3f} unsupported, {whole / len(given):.3f} supported"
        rows.append(Result(f"Citations, true sentences, {how}, {len(given)}", "–", reached, None))
    untrue = [one for one in half if one.case.kind != "true"]
    plainly = sum(one.support is not None and one.support.verdict == "supported" for one in untrue) / len(untrue)
    return [*rows, Result(f"Citations, untrue sentences called supported, {len(untrue)}", "–", f"{plainly:.3f}", None)]


def _cost(half: Sequence[Checked]) -> list[Result]:
    verifier = Verifier(UseMultilingual())
    reading, checking = [], []
    for one in half[:: max(1, len(half) // _TIMED)]:
        passages = [_passage(one.case)]
        begun = perf_counter()
        given = verifier.read(passages, _language(one.case.direction[:2]))
        read = perf_counter()
        verifier.check(one.case.sentence, given, [0])
        reading.append((read - begun) * 1000)
        checking.append((perf_counter() - read) * 1000)
    p50, p95 = np.percentile(checking, [50, 95])
    r50, r95 = np.percentile(reading, [50, 95])
    return [
        Result(
            "Citations, check of one sentence, embedding included, p50 / p95",
            "≤ 15 ms",
            f"{p50:.1f} / {p95:.1f} ms",
            bool(p95 <= 15),
        ),
        Result("Citations, reading of one passage, p50 / p95", "–", f"{r50:.1f} / {r95:.1f} ms", None),
    ]


# ------------------------------------------------------------------------------------------------------------ main


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.citations", description=__doc__)
    parser.add_argument("--eval", type=Path, required=True, help="folder of the evaluation sets")
    parser.add_argument("--half", choices=("dev", "test"), default="test")
    parser.add_argument("--show", type=int, default=0, help="so many random cases of each kind")
    parser.add_argument(
        "--wrong", type=int, default=0, help="so many random cases of each kind that were judged wrongly"
    )
    given = parser.parse_args()
    cases = build(given.eval)
    print(f"{len(cases)} cases: {_composition(cases)}\n")
    checked = [one for one in check(cases, UseMultilingual()) if one.case.half == given.half]
    print(markdown([*_targets(checked), *_false_alarms(checked), *_cost(checked)]))
    _print_some(checked, given.show, lambda one: True)
    _print_some(checked, given.wrong, lambda one: one.unsupported == (one.case.kind == "true"))
    return 0


def _composition(cases: Iterable[Case]) -> str:
    counts = Counter((case.half, case.kind) for case in cases)
    return ", ".join(f"{half} {kind} {count}" for (half, kind), count in sorted(counts.items()))


def _print_some(checked: Sequence[Checked], size: int, wanted: Callable[[Checked], bool]) -> None:
    rng = Random(1)
    kinds: tuple[Literal["true"] | str, ...] = ("true", *KINDS)
    for kind in kinds if size else ():
        some = [one for one in checked if one.case.kind == kind and wanted(one)]
        for one in rng.sample(some, min(size, len(some))):
            case, support = one.case, one.support
            print(
                f"\n{kind}, {case.how}, {case.direction}: ",
                support and (support.verdict, support.score, support.faults),
            )
            print(f"  sentence: {case.sentence}")
            print(f"  passage:  {case.passage[support.start : support.end] if support else case.passage}")


if __name__ == "__main__":
    raise SystemExit(main())
