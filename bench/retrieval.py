"""Retrieval, answers and refusal over the four language directions, by the code of `youju eval`, one configuration.

Corpora and questions are those of the evaluation sets' own README, ZH without the set that is not public.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bench.evalset import EN, ZH, path
from bench.results import Result
from ingest.bootstrap import open_ingestion
from rag_service import config
from rag_service.bootstrap import Storage, open_service, open_storage
from rag_service.eval_command import threads_here
from rag_service.evaluated import Direction, Estimate
from rag_service.evaluation import metrics, questions
from rag_service.evaluation.corpus import Loader, load, unknown
from rag_service.evaluation.evaluations import Evaluations
from rag_service.evaluation.questions import Passage, QuestionSet
from rag_service.evaluation.runner import Options
from rag_service.evaluation.withholding import WithholdingStore

TENANT = "bench"


@dataclass(frozen=True, slots=True)
class _Case:
    """`first` and `tenth` are what R@1 and R@10 are to reach, `held` what the answers are to hold, `separated` and
    `rejected` AUROC and the share refused where 90 % of what can be answered is."""

    name: str
    language: str
    base: str
    gold: str
    first: float
    tenth: float
    held: float
    separated: float
    rejected: float


_CASES = (
    _Case("zh→ZH", "zh", "ZH", "relevant", 0.93, 0.99, 0.82, 0.92, 0.7),
    _Case("en→EN", "en", "EN", "relevant", 0.93, 0.98, 0.82, 0.92, 0.7),
    _Case("zh→EN", "zh", "EN", "relevant_cross", 0.70, 0.92, 0.60, 0.76, 0.4),
    _Case("en→ZH", "en", "ZH", "relevant_cross", 0.68, 0.90, 0.60, 0.76, 0.4),
)
_LOST_IN_BOTH = 0.01
_TWIN = 0.75
_SECONDS_PER_THOUSAND = 60.0


def run(evaluation: Path, scratch: Path) -> list[Result]:
    settings = config.load(data=scratch / "retrieval")
    with closing(open_storage(settings)) as storage, closing(open_ingestion(settings)) as ingestion:
        bench = _Bench(evaluation, storage, Loader(ingestion.worker.run, ingestion.compactor.look_at))
        return list(bench.results())


class _Bench:
    def __init__(self, evaluation: Path, storage: Storage, loader: Loader) -> None:
        self._evaluation = evaluation
        self._passages = {"ZH": _passages(evaluation, ZH), "EN": _passages(evaluation, EN)}
        self._passages["both"] = [*self._passages["ZH"], *self._passages["EN"]]
        self._bases = {name: storage.knowledge_bases.create(TENANT, name).id for name in self._passages}
        for name, passages in self._passages.items():
            load(storage.intake, storage.documents, loader, TENANT, self._bases[name], passages, lambda *_: None)
        self._equivalents, _ = questions.read_equivalents(evaluation / "passages" / "equivalents.json")
        self._evaluations = Evaluations(open_service(storage, gate=WithholdingStore))

    def results(self) -> Iterator[Result]:
        asked, begun = 0, time.perf_counter()
        found = {case.name: self._measured(case, case.base, answers=True) for case in _CASES}
        seconds = time.perf_counter() - begun
        for case in _CASES:
            asked += 2 * found[case.name].questions
            yield from _of_direction(case, found[case.name])
        for case in _CASES:
            yield self._in_both(case, found[case.name])
        thousand = seconds / asked * 1000
        yield Result(
            "1,000 questions asked and answered", f"≤ {_SECONDS_PER_THOUSAND:.0f} s", f"{thousand:.0f} s",
            thousand <= _SECONDS_PER_THOUSAND,
        )  # fmt: skip

    def _in_both(self, case: _Case, alone: Direction) -> Result:
        """With both languages in one knowledge base: what is lost of the own one, and whether the twin is found."""
        figures = self._measured(case, "both", answers=False).figures
        if case.gold == "relevant":
            lost = alone.figures["R@1"].value - figures["R@1"].value
            reached = f"{_shown(figures['R@1'])}, {lost:+.3f} lost"
            what, target = f"XQuAD {case.name} among both, R@1", f"at most {_LOST_IN_BOTH} lost"
            return Result(what, target, reached, lost <= _LOST_IN_BOTH)
        twins = figures["R@10"]
        what = f"XQuAD {case.name} among both, twin in the top 10"
        return Result(what, f"≥ {_TWIN}", _shown(twins), twins.value >= _TWIN)

    def _measured(self, case: _Case, base: str, *, answers: bool) -> Direction:
        asked = self._questions(case)
        pinned = self._evaluations.pin(TENANT, [self._bases[base]], self._passages[base], self._equivalents)
        questions.demand(unknown(asked.questions, pinned.corpus))
        options = Options(retrieval_only=not answers, withhold=answers, threads=threads_here())
        made, task = self._evaluations.begin(TENANT, f"{case.name} {base}", asked, pinned, options, {})
        run = self._evaluations.carry_out(made, task)
        assert run.metrics is not None
        return run.metrics[metrics.ALL]

    def _questions(self, case: _Case) -> QuestionSet:
        """A question across languages may be answered by the gold answer of either."""
        own, other = (_queries(self._evaluation, language, case.gold) for language in _languages(case))
        return own if case.gold == "relevant" else questions.with_answers_of(own, other)


def _of_direction(case: _Case, found: Direction) -> Iterator[Result]:
    targets = (
        ("R@1", case.first), ("R@10", case.tenth), ("containment", case.held), ("AUROC", case.separated),
        ("refused@90", case.rejected), ("citation-recall", None), ("citation-precision", None), ("quotes-exact", 1.0),
    )  # fmt: skip
    for figure, target in targets:
        estimate = found.figures[figure]
        what = f"XQuAD {case.name}, {found.questions} questions, {figure}"
        met = None if target is None else estimate.value >= target
        yield Result(what, "–" if target is None else f"≥ {target}", _shown(estimate), met)


def _shown(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f}–{estimate.high:.3f})"


def _languages(case: _Case) -> tuple[str, str]:
    return (case.language, "en" if case.language == "zh" else "zh")


def _queries(evaluation: Path, language: str, gold: str) -> QuestionSet:
    asked, faults = questions.read([evaluation / "queries" / f"queries.xquad.{language}.jsonl"], gold)
    questions.demand(faults)
    return asked


def _passages(evaluation: Path, sets: Sequence[tuple[str, str]]) -> list[Passage]:
    paths = [path(evaluation, "passages", name, language) for name, language in sets]
    made, faults = questions.read_passages(paths)
    questions.demand(faults)
    return made
