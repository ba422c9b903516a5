"""The figures of a run, by language direction. Pure.

Recall@k is the share of a question's gold passages among the first k found, MRR@10 the reciprocal rank of the first
one, nDCG@10 the discounted gain (Järvelin and Kekäläinen 2002, gains 0 and 1) over the best one possible; equal texts
count as one passage. Evidence@5 is RAGEval's recall (Zhu et al. 2024): the share of evidence sentences that stand in
the first five passages. Citation recall and precision are ALCE's (see `citing`).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rag_service.evaluated import Direction, Latency, Result, Summary
from rag_service.evaluation.bootstrap import Difference, Ratio, Separation, Statistic, difference, estimate, holm
from rag_service.text import fold

TOP_K = 10
EVIDENCE_PASSAGES = 5
SIGNIFICANT_BELOW = 0.05
ALL = "all"
_COVERAGES = 50
_UNWRITTEN = re.compile(r"(?<=\d)[,，](?=\d{3})")
_TOKEN = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]|[^\W_\u2e80-\u9fff\uf900-\ufaff]+")
Part = tuple[float, float]
"""A row's share in the sum above the line, and in that below."""


def ranks_of(found: Iterable[str], gold: Iterable[str]) -> tuple[int, ...]:
    """The ranks, from 1, that gold passages have among the distinct ones found."""
    wanted = set(gold)
    return tuple(rank for rank, key in enumerate(dict.fromkeys(found), 1) if key in wanted)


def recall(ranks: Sequence[int], gold: int, k: int) -> float:
    return sum(rank <= k for rank in ranks) / gold


def reciprocal_rank(ranks: Sequence[int], k: int = TOP_K) -> float:
    return 1 / ranks[0] if ranks and ranks[0] <= k else 0.0


def ndcg(ranks: Sequence[int], gold: int, k: int = TOP_K) -> float:
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, gold) + 1))
    return sum(1 / math.log2(rank + 1) for rank in ranks if rank <= k) / ideal


def holds(text: str, answers: Sequence[Sequence[str]]) -> bool:
    """Whether one of each group of answers stands in `text`, word for word: width, case, script (traditional or
    simplified) and punctuation aside. A number or a word is never found inside of a longer one."""
    said = f" {' '.join(_tokens(text))} "
    return all(any(f" {' '.join(_tokens(one))} " in said for one in group if _tokens(one)) for group in answers)


def evidence_recall(texts: Sequence[str], evidence: Sequence[str]) -> float:
    """The share of the evidence sentences that stand in the texts, white space and case aside."""
    found = _close("\n".join(texts))
    return sum(_close(sentence) in found for sentence in evidence) / len(evidence)


def summary(results: Sequence[Result]) -> Summary:
    by_direction: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        by_direction[result.direction].append(result)
    made = {name: _direction(by_direction[name]) for name in sorted(by_direction)}
    return {**made, ALL: made[next(iter(made))] if len(made) == 1 else _direction(results)}


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure of two runs. `p` is adjusted for all figures compared; `real` is below 5 %."""

    direction: str
    figure: str
    difference: Difference
    p: float
    questions: int

    @property
    def real(self) -> bool:
        return self.p < SIGNIFICANT_BELOW


def compare(first: Sequence[Result], second: Sequence[Result]) -> list[Compared]:
    """Every figure both runs have, over the questions that both asked, by direction and in all."""
    pairs = _pairs(first, second)
    directions = sorted({one[0].direction for one in pairs})
    found: list[tuple[str, str, Difference, int]] = []
    for name in directions if len(directions) == 1 else [*directions, ALL]:
        chosen = [pair for pair in pairs if name in (ALL, pair[0].direction)]
        before, after = _statistics([a for a, _ in chosen]), _statistics([b for _, b in chosen])
        for figure in [figure for figure in before if figure in after]:
            apart = difference(before[figure], after[figure])
            if apart is not None:
                found.append((name, figure, apart, before[figure].questions))
    adjusted = holm([apart.p for _, _, apart, _ in found])
    return [Compared(d, f, apart, p, n) for (d, f, apart, n), p in zip(found, adjusted, strict=True)]


def _pairs(first: Sequence[Result], second: Sequence[Result]) -> list[tuple[Result, Result]]:
    """In the order of the first; a question with another wording or in another direction is another question."""
    known = {_identity(result): result for result in second}
    return [(result, known[key]) for result in first if (key := _identity(result)) in known]


def _identity(result: Result) -> tuple[str, ...]:
    return result.question_id, result.variant, result.query, result.direction, str(result.answerable)


FIGURES: Mapping[str, Callable[[Result], Part | None]] = {
    "R@1": lambda r: _found(r, recall(r.ranks, r.gold, 1) if r.gold else 0.0),
    "R@5": lambda r: _found(r, recall(r.ranks, r.gold, 5) if r.gold else 0.0),
    "R@10": lambda r: _found(r, recall(r.ranks, r.gold, 10) if r.gold else 0.0),
    "MRR@10": lambda r: _found(r, reciprocal_rank(r.ranks)),
    "nDCG@10": lambda r: _found(r, ndcg(r.ranks, r.gold) if r.gold else 0.0),
    "evidence@5": lambda r: _measured(r.evidence_recall if r.answerable else None),
    "containment": lambda r: _measured(r.contained if r.answerable else None),
    "answered": lambda r: _measured(r.outcome != "refused") if r.answerable and r.outcome else None,
    "refusal-precision": lambda r: _measured(not r.answerable) if r.outcome == "refused" else None,
    "refusal-recall": lambda r: _measured(r.outcome == "refused") if not r.answerable and r.outcome else None,
    "citation-recall": lambda r: _measured(r.citation_recall),
    "citation-precision": lambda r: _measured(r.citation_precision),
    "quotes-exact": lambda r: _measured(r.quotes_exact),
}
SEPARATIONS = ("AUROC", "refused@90")
"""Of the evidence score: how well it tells what can be answered from what cannot; how much of what cannot be answered
is refused where 90 % of what can is answered."""
NAMES = (*FIGURES, *SEPARATIONS)


def _found(result: Result, value: float) -> Part | None:
    return (value, 1.0) if result.answerable and result.gold else None


def _measured(value: float | bool | None) -> Part | None:
    return None if value is None else (float(value), 1.0)


def _statistics(results: Sequence[Result]) -> dict[str, Statistic]:
    """Those there is anything to measure for. Questions in the order they come first."""
    numbers = {key: number for number, key in enumerate(dict.fromkeys(result.question_id for result in results))}
    owners = np.array([numbers[result.question_id] for result in results], dtype=np.int64)
    made: dict[str, Statistic] = {}
    for name, figure in FIGURES.items():
        parts = [(owner, part) for owner, result in zip(owners, results, strict=True) if (part := figure(result))]
        if parts:
            made[name] = _ratio(parts, len(numbers))
    made |= _separations(results, owners, len(numbers))
    return made


def _ratio(parts: Sequence[tuple[int, Part]], questions: int) -> Ratio:
    above, below = np.zeros(questions), np.zeros(questions)
    for owner, (value, weight) in parts:
        above[owner] += value
        below[owner] += weight
    return Ratio(above, below)


def _separations(results: Sequence[Result], owners: np.ndarray, questions: int) -> dict[str, Statistic]:
    positive = np.array([result.answerable for result in results], dtype=np.bool_)
    if positive.all() or not positive.any():
        return {}
    # No evidence at all is less than any.
    scores = np.array([-1.0 if result.score is None else result.score for result in results])
    return {
        "AUROC": Separation(questions, owners, scores, positive, "auroc"),
        "refused@90": Separation(questions, owners, scores, positive, "rejected"),
    }


def _direction(results: Sequence[Result]) -> Direction:
    made = {name: estimate(statistic, _size(statistic)) for name, statistic in _statistics(results).items()}
    return Direction(
        questions=len({result.question_id for result in results}),
        figures={name: one for name, one in made.items() if one is not None},
        latency=_latency(results),
        risk_coverage=risk_coverage(results),
    )


def _size(statistic: Statistic) -> int:
    return int((statistic.wholes > 0).sum()) if isinstance(statistic, Ratio) else statistic.questions


def _latency(results: Sequence[Result]) -> dict[str, Latency]:
    stages: dict[str, list[float]] = defaultdict(list)
    for result in results:
        for stage, milliseconds in result.timings_ms.items():
            stages[stage].append(milliseconds)
    return {
        stage: Latency(*(round(float(value), 2) for value in np.percentile(times, (50, 95))))
        for stage, times in stages.items()
    }


def risk_coverage(results: Sequence[Result]) -> tuple[tuple[float, float], ...]:
    """(coverage, risk) at up to fifty steps: of the questions with the highest evidence scores, how many are wrong
    (El-Yaniv and Wiener 2010). Equal scores are answered together. Wrong is whatever could not be answered, and an
    answer that does not hold the gold one; where there are no answers, a first passage that is not gold."""
    rows = sorted(((-1.0 if r.score is None else r.score, _is_wrong(r)) for r in results), key=lambda row: -row[0])
    wrong, curve = 0, []
    for number, (score, is_wrong) in enumerate(rows, 1):
        wrong += is_wrong
        if number == len(rows) or rows[number][0] != score:
            curve.append((number / len(rows), wrong / number))
    step = max(1, math.ceil(len(curve) / _COVERAGES))
    return tuple((round(c, 4), round(r, 4)) for c, r in curve[::-1][::step][::-1])


def _is_wrong(result: Result) -> bool:
    if not result.answerable:
        return True
    if result.contained is not None:
        return not result.contained
    return result.gold > 0 and 1 not in result.ranks


def _tokens(text: str) -> list[str]:
    """Han characters one by one, everything else by words; thousands are not set apart."""
    plain = _UNWRITTEN.sub("", fold(text))
    plain = "".join(c for c in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(c))
    return _TOKEN.findall(plain)


def _close(text: str) -> str:
    return re.sub(r"\s+", "", text).lower()
