"""The figures of a run: by their definitions, on hand-made cases and on whatever comes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_service.evaluated import Result
from rag_service.evaluation import metrics

KEYS = st.sampled_from("abcdefgh")


def result(question_id: str = "q", **members: Any) -> Result:
    whole: dict[str, Any] = {
        "variant": "present", "query": "?", "direction": "zh→zh", "answerable": True, "gold": 1, "ranks": (1,),
        "evidence_recall": None, "score": 0.5, "outcome": None, "contained": None, "citation_recall": None,
        "citation_precision": None, "quotes_exact": None, "timings_ms": {},
    }  # fmt: skip
    return Result(question_id=question_id, **{**whole, **members})


def figures(results: Sequence[Result]) -> dict[str, float]:
    return {name: one.value for name, one in metrics.summary(results)[metrics.ALL].figures.items()}


def test_ranks_are_those_of_distinct_passages() -> None:
    assert metrics.ranks_of(["a", "a", "b", "c", "b", "d"], ["b", "d"]) == (2, 4)
    assert metrics.ranks_of([], ["b"]) == ()


def test_the_figures_follow_their_definitions() -> None:
    ranks, gold = (2, 4, 10), 4
    assert [metrics.recall(ranks, gold, k) for k in (1, 5, 10)] == [0.0, 0.5, 0.75]
    assert metrics.reciprocal_rank(ranks) == 0.5
    gain = 1 / math.log2(3) + 1 / math.log2(5) + 1 / math.log2(11)
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4) + 1 / math.log2(5)
    assert metrics.ndcg(ranks, gold) == pytest.approx(gain / ideal)


@given(st.lists(KEYS, max_size=10), st.sets(KEYS, min_size=1))
def test_figures_are_shares_that_grow_with_depth(found: list[str], gold: set[str]) -> None:
    ranks = metrics.ranks_of(found, gold)
    recalls = [metrics.recall(ranks, len(gold), k) for k in (1, 5, 10)]
    assert recalls == sorted(recalls)
    assert all(
        0 <= value <= 1 + 1e-9 for value in (*recalls, metrics.reciprocal_rank(ranks), metrics.ndcg(ranks, len(gold)))
    )
    assert (metrics.ndcg(ranks, len(gold)) > 1 - 1e-9) == (ranks == tuple(range(1, len(gold) + 1)))


@given(st.lists(KEYS, min_size=2, max_size=10, unique=True), st.data())
def test_a_gold_passage_further_up_never_costs(found: list[str], data: st.DataObject) -> None:
    at = data.draw(st.integers(1, len(found) - 1))
    gold = data.draw(st.sets(st.sampled_from(found), min_size=1)) | {found[at]}
    if found[at - 1] in gold:
        return
    better = [*found[: at - 1], found[at], found[at - 1], *found[at + 1 :]]
    before, after = metrics.ranks_of(found, gold), metrics.ranks_of(better, gold)
    assert metrics.ndcg(after, len(gold)) > metrics.ndcg(before, len(gold))
    assert metrics.reciprocal_rank(after) >= metrics.reciprocal_rank(before)


@pytest.mark.parametrize(
    ("text", "answers", "held"),
    [
        ("员工每年享有十五天带薪年假 [1]。", [["十五天"]], True),
        ("陸特開創了歐洲的研究。", [["欧洲"]], True),
        ("The warranty lasts Two Years.", [["two years"]], True),
        ("In 2010 it rained.", [["10"]], False),
        ("It scored 1,234 points.", [["1234"]], True),
        ("It scored ３０８ points.", [["308"]], True),
        ("Newton's law.", [["Newton"]], True),
        ("He played—Smith did.", [["Smith"]], True),
        ("A café.", [["cafe"]], True),
        ("12人在上海。", [["12人", "十二人"], ["上海"]], True),
        ("12人在北京。", [["12人", "十二人"], ["上海"]], False),
        ("Anything.", [["?"]], False),
        ("Anything.", [[]], False),
    ],
)
def test_an_answer_is_held_word_for_word(text: str, answers: list[list[str]], held: bool) -> None:
    assert metrics.holds(text, answers) is held


@given(st.text(), st.text(alphabet="abc 你好12", min_size=1), st.text())
def test_what_stands_in_a_text_between_blanks_is_held(before: str, answer: str, after: str) -> None:
    assert metrics.holds(f"{before} {answer} {after}", [[answer]]) or not answer.strip()


def test_evidence_recall_is_the_share_of_sentences_found() -> None:
    texts = ["It began in\nOctober 2021.", "年假十五天。"]
    assert metrics.evidence_recall(texts, ["in october 2021", "年假 十五天", "not there"]) == pytest.approx(2 / 3)


def test_refusals_are_weighed_by_what_could_be_answered() -> None:
    results = [
        result("right", outcome="refused", answerable=False),
        result("wrong", outcome="refused"),
        result("missed", outcome="answered", answerable=False),
        result("answered", outcome="answered", contained=True),
        result("partly", outcome="partial", contained=False),
    ]
    found = figures(results)
    assert found["refusal-precision"] == 0.5
    assert found["refusal-recall"] == 0.5
    assert found["answered"] == pytest.approx(2 / 3)
    assert found["containment"] == 0.5


def test_what_was_not_measured_has_no_figure() -> None:
    assert set(figures([result()])) == {"R@1", "R@5", "R@10", "MRR@10", "nDCG@10"}
    assert figures([result(gold=0, ranks=())]) == {}
    assert figures([]) == {}


def test_a_withheld_question_counts_for_refusal_and_not_for_recall() -> None:
    results = [result("q", outcome="answered", score=0.9), result("q", variant="withheld", answerable=False, ranks=(),
               outcome="refused", score=0.1)]  # fmt: skip
    found = metrics.summary(results)[metrics.ALL]
    assert found.questions == 1
    assert found.figures["R@1"].value == 1.0
    assert found.figures["refusal-recall"].value == 1.0
    assert found.figures["AUROC"].value == 1.0


def test_directions_are_reported_apart_and_together() -> None:
    results = [result("a"), result("b", direction="zh→en", ranks=())]
    found = metrics.summary(results)
    assert list(found) == ["zh→en", "zh→zh", "all"]
    assert [one.figures["R@1"].value for one in found.values()] == [0.0, 1.0, 0.5]


def test_latency_is_told_by_stage() -> None:
    results = [result(str(n), timings_ms={"retrieve": float(n)}) for n in range(1, 101)]
    latency = metrics.summary(results)[metrics.ALL].latency["retrieve"]
    assert (latency.p50, latency.p95) == (50.5, 95.05)


def test_the_risk_grows_as_less_certain_questions_are_answered() -> None:
    results = [
        result("a", score=0.9, contained=True), result("b", score=0.8, contained=True),
        result("c", score=0.7, contained=False), result("d", score=None, answerable=False),
    ]  # fmt: skip
    assert metrics.risk_coverage(results) == ((0.25, 0.0), (0.5, 0.0), (0.75, 0.3333), (1.0, 0.5))


@given(st.lists(st.tuples(st.sampled_from([None, 0.1, 0.2, 0.9]), st.booleans()), min_size=1, max_size=120))
def test_a_risk_coverage_curve_ends_with_everything_answered(rows: list[tuple[float | None, bool]]) -> None:
    results = [result(str(n), score=score, contained=right) for n, (score, right) in enumerate(rows)]
    curve = metrics.risk_coverage(results)
    coverages = [coverage for coverage, _ in curve]
    assert coverages == sorted(set(coverages))
    assert curve[-1] == (1.0, round(sum(not right for _, right in rows) / len(rows), 4))
    assert all(0 <= risk <= 1 for _, risk in curve)


def test_a_run_does_not_differ_from_itself() -> None:
    results = [result(str(n), ranks=(1,) if n % 3 else ()) for n in range(60)]
    compared = metrics.compare(results, results)
    assert {one.figure for one in compared} == {"R@1", "R@5", "R@10", "MRR@10", "nDCG@10"}
    assert not any(one.real for one in compared)
    assert all(one.difference.value == 0.0 and one.p == 1.0 for one in compared)


def test_a_clear_loss_is_real_and_two_questions_lost_of_sixty_are_not() -> None:
    before = [result(str(n)) for n in range(60)]
    clear = [result(str(n), ranks=(2,) if n % 3 == 0 else (1,)) for n in range(60)]
    slight = [result(str(n), ranks=(2,) if n < 2 else (1,)) for n in range(60)]
    real = {one.figure: one.real for one in metrics.compare(before, clear)}
    assert real == {"R@1": True, "R@5": False, "R@10": False, "MRR@10": True, "nDCG@10": True}
    assert not any(one.real for one in metrics.compare(before, slight))


def test_only_the_same_questions_are_compared() -> None:
    before = [result("a"), result("b"), result("c")]
    after = [result("c", ranks=()), result("a", query="another wording"), result("d")]
    compared = metrics.compare(before, after)
    assert {one.questions for one in compared} == {1}
    assert metrics.compare(before, [result("x")]) == []


def test_what_could_not_be_answered_holds_no_answer() -> None:
    results = [result("a", contained=False), result("b", answerable=False, contained=True, outcome="answered")]
    assert figures(results)["containment"] == 0.0
