from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from passages import ranked

from rag_service.retrieval.coverage import Coverage, by_coverage
from rag_service.text import index_terms, sentences
from rag_service.types import Weighed, WeighedConcept

TERMS = ("battery", "charg", "年假", "假", "x200", "warranti")
WAYS = st.lists(
    st.tuples(st.lists(st.sampled_from(TERMS), min_size=1, max_size=3).map(tuple), st.floats(0.01, 9)), max_size=4
)


@st.composite
def concepts(draw: st.DrawFn, *, in_vain: bool = True) -> tuple[WeighedConcept, ...]:
    made = draw(st.lists(WAYS, max_size=5))
    kept = [ways for ways in made if ways or in_vain]
    return tuple(WeighedConcept(max((worth for _, worth in ways), default=3.0), tuple(ways)) for ways in kept)


def weighed(in_vain: bool = True) -> st.SearchStrategy[Weighed]:
    return st.builds(Weighed, concepts(in_vain=in_vain), concepts(in_vain=in_vain))


def of_best_sentence(coverage: Coverage, text: str) -> float:
    return coverage.of_best([coverage.said(text[start:end]) for start, end in sentences(text)])


SOME_TERMS = st.frozensets(st.sampled_from([*TERMS, "other"]))


@given(weighed(), st.lists(SOME_TERMS, min_size=2, max_size=5))
def test_coverage_is_a_share_that_only_grows_with_the_terms(asked: Weighed, some: list[frozenset[str]]) -> None:
    coverage = Coverage(asked)
    growing = [frozenset[str]().union(*some[:n]) for n in range(len(some) + 1)]
    shares = [coverage.of(terms) for terms in growing]
    assert all(0 <= share <= 1 for share in shares)
    assert all(before <= after for before, after in pairwise(shares))
    assert coverage.of(frozenset({"other"})) == 0.0


@given(weighed(in_vain=False))
def test_whoever_says_everything_in_every_way_covers_all_that_was_asked(asked: Weighed) -> None:
    whole = Coverage(asked).of(frozenset(TERMS))
    assert whole == pytest.approx(1.0 if asked.words or asked.concepts else 0.0)


@given(weighed(), SOME_TERMS)
def test_the_better_leg_counts(asked: Weighed, terms: frozenset[str]) -> None:
    alone = [Coverage(Weighed(leg, ())).of(terms) for leg in (asked.words, asked.concepts)]
    assert Coverage(asked).of(terms) == max(alone)


def test_what_is_asked_in_vain_is_missed_by_everybody() -> None:
    said = WeighedConcept(2.0, ((("battery",), 2.0),))
    assert Coverage(Weighed((said, WeighedConcept(6.0, ())), ())).of({"battery"}) == pytest.approx(0.25)


def test_a_concept_counts_once_by_the_best_of_the_ways_said_whole() -> None:
    concept = WeighedConcept(4.0, ((("new", "york"), 4.0), (("纽约",), 2.0), (("大苹",), 1.0)))
    coverage = Coverage(Weighed((concept,), ()))
    assert coverage.of({"new"}) == coverage.of({"york"}) == 0.0
    assert coverage.of({"纽约", "大苹", "new"}) == 0.5
    assert coverage.of({"new", "york", "纽约"}) == 1.0


def test_the_best_sentence_is_what_counts_and_not_the_sum_of_two() -> None:
    words = tuple(WeighedConcept(1.0, (((term,), 1.0),)) for term in ("batteri", "warranti"))
    coverage = Coverage(Weighed(words, ()))
    apart, together = "The battery is new. The warranty is old.", "The warranty of the battery is old. So it is."
    assert coverage.of(frozenset(index_terms(apart))) == coverage.of(frozenset(index_terms(together))) == 1.0
    assert of_best_sentence(coverage, apart) == 0.5
    assert of_best_sentence(coverage, together) == 1.0


def test_a_chinese_translation_of_one_character_is_found_within_a_word() -> None:
    coverage = Coverage(Weighed((), (WeighedConcept(1.0, ((("球",), 1.0),)),)))
    assert of_best_sentence(coverage, "他在院子里踢足球。") == 1.0


@pytest.mark.parametrize("text", ["", " \n", "。", "no sentence mark", "🙂"])
def test_a_text_of_no_sentence_is_one(text: str) -> None:
    words = tuple(WeighedConcept(1.0, (((term,), 1.0),)) for term in ("sentenc",))
    assert of_best_sentence(Coverage(Weighed(words, ())), text) == (1.0 if "sentence" in text else 0.0)


@given(weighed(), st.text(max_size=60))
def test_no_sentence_covers_more_than_its_text(asked: Weighed, text: str) -> None:
    coverage = Coverage(asked)
    assert of_best_sentence(coverage, text) <= coverage.of(frozenset(index_terms(text)))


@given(weighed(), st.text(st.sampled_from("年假期 battery charged X-200.。"), max_size=40))
def test_what_is_said_of_a_text_is_worth_as_much_as_all_its_terms(asked: Weighed, text: str) -> None:
    coverage, terms = Coverage(asked), frozenset(index_terms(text))
    assert coverage.of(coverage.said(text)) == coverage.of(terms)
    assert coverage.of_words(coverage.said(text)) == coverage.of_words(terms)


SCORES = st.integers(0, 100).map(lambda percent: percent / 100)
TEXTS = st.sampled_from(["The battery is charged.", "年假有五天。", "Of the warranty: X200.", "Nothing.", ""])


@given(weighed(), st.lists(st.tuples(TEXTS, SCORES, st.sampled_from("AB")), max_size=8))
def test_passages_are_scored_by_shares_and_those_found_better_score_better(
    asked: Weighed, made: list[tuple[str, float, str]]
) -> None:
    passages = [ranked(text, score, n, document) for n, (text, score, document) in enumerate(made)]
    better = [replace(p, scores=replace(p.scores, fused=min(1.0, p.scores.fused + 0.1))) for p in passages]
    coverage = {"kb": Coverage(asked)}
    scores, raised = by_coverage(passages, coverage), by_coverage(better, coverage)
    assert len(scores) == len(passages)
    assert all(0 <= score <= 1 for score in scores)
    assert all(before <= after for before, after in zip(scores, raised, strict=True))


def test_a_document_that_says_the_rest_elsewhere_lifts_its_passages() -> None:
    words = tuple(WeighedConcept(1.0, (((term,), 1.0),)) for term in ("batteri", "charg"))
    coverage = {"kb": Coverage(Weighed(words, ()))}
    said, rest = "The battery lasts a day.", "It is charged by night."
    apart = by_coverage([ranked(said, 0.5, 1, "A"), ranked(rest, 0.5, 2, "B")], coverage)
    together = by_coverage([ranked(said, 0.5, 1, "A"), ranked(rest, 0.5, 2, "A")], coverage)
    assert all(one < other for one, other in zip(apart, together, strict=True))


def test_each_passage_is_scored_by_the_weights_of_its_own_knowledge_base() -> None:
    here = Coverage(Weighed((WeighedConcept(1.0, ((("batteri",), 1.0),)),), ()))
    elsewhere = Coverage(Weighed((WeighedConcept(1.0, ()),), ()))
    one = ranked("The battery lasts.", 0.5, 1, "A")
    other = replace(one, passage=replace(one.passage, knowledge_base_id="other", document_id="B"))
    low, high = by_coverage([other, one], {"kb": here, "other": elsewhere})
    assert low < high
