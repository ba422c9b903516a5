from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from passages import ranked

from rag_service.answering.evidence import (
    MOST_READ,
    Candidate,
    Evidence,
    Sentence,
    candidates,
    promising,
    score,
)
from rag_service.answering.evidence_score import BY_CHANCE, FLOORS, evidence_score, floor
from rag_service.answering.question_type import Wanted
from rag_service.ports import Vectors
from rag_service.retrieval.coverage import Coverage
from rag_service.text import lexical_terms
from rag_service.types import Language, RankedPassage, Weighed, WeighedConcept

LANGUAGES: st.SearchStrategy[Language] = st.sampled_from(["zh", "en"])
TEXT = {
    "zh": "工作满五年的员工每年享有十二天带薪年休假。",
    "en": "Employees of five years have twelve days of paid leave.",
}
SHARES = st.floats(0, 1)


def asking(*concepts: str) -> Coverage:
    """Of a question for these words, all worth the same."""
    weighed = tuple(WeighedConcept(1.0, ((tuple(lexical_terms(words)), 1.0),)) for words in concepts)
    return Coverage(Weighed(weighed, ()))


def found(*passages: RankedPassage, asked: Sequence[str] = ("年假",)) -> list[Candidate]:
    coverage = asking(*asked)
    return candidates((passage, coverage) for passage in passages)


def texts(*passages: str) -> list[str]:
    return [candidate.sentence.text for candidate in found(*(ranked(text) for text in passages))]


def candidate(covered: float, nearby: float, passage: float, chunk_id: int = 1) -> Candidate:
    return Candidate(Sentence(ranked(TEXT["zh"], passage, chunk_id), 0, 5), covered, nearby)


def evidence(score: float, chunk_id: int = 1, language: Language = "zh") -> Evidence:
    text = TEXT[language]
    return Evidence(Sentence(ranked(text, chunk_id=chunk_id), 0, len(text)), score)


def unit(*rows: list[float]) -> Vectors:
    matrix = np.array(rows, dtype=np.float32)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


@given(st.lists(st.text(max_size=80), max_size=4))
def test_a_candidate_is_an_exact_slice_and_no_text_comes_twice(passages: list[str]) -> None:
    made = found(*(ranked(text, chunk_id=n) for n, text in enumerate(passages)))
    for one in made:
        sentence = one.sentence
        assert 0 <= sentence.start < sentence.end <= len(sentence.ranked.passage.text)
        assert sentence.text == sentence.text.strip() != ""
        assert 0.0 <= one.covered <= one.nearby <= 1.0
    assert len({one.sentence.text for one in made}) == len(made)


def test_headings_rules_labels_and_fragments_are_no_candidates() -> None:
    assert texts("## 第三章 年假的天数和申请", "| --- | --- |", "----------", "是的", "Yes, sir.", "3.14") == []


def test_list_marks_are_no_part_of_a_sentence() -> None:
    assert texts("- 每年享有十二天年假。", "3. Close the lid firmly.", "* [x] Report the fault at once.") == [
        "每年享有十二天年假。",
        "Close the lid firmly.",
        "Report the fault at once.",
    ]


def test_a_decimal_at_the_start_is_no_list_mark() -> None:
    assert texts("3.5 million units were sold.", "0.5%的发票有误，需要重开。") == [
        "3.5 million units were sold.",
        "0.5%的发票有误，需要重开。",
    ]


def test_the_same_sentence_is_quoted_from_the_best_passage() -> None:
    [one] = found(ranked(TEXT["zh"], 0.9, 1, "best"), ranked(TEXT["zh"], 0.8, 2, "other"))
    assert one.sentence.ranked.passage.document_id == "best"


def test_what_the_neighbours_say_counts_for_a_sentence_and_no_further() -> None:
    text = "The X-200 has a warranty. It lasts two years. It covers all parts. Nothing is said here."
    own = [(one.covered, one.nearby) for one in found(ranked(text), asked=("warranty", "years"))]
    assert own == [(0.5, 1.0), (0.5, 1.0), (0.0, 0.5), (0.0, 0.0)]


@given(st.lists(st.tuples(SHARES, SHARES, SHARES, st.integers(1, 6)), max_size=40))
def test_of_every_passage_the_best_sentence_by_words_is_read(made: list[tuple[float, float, float, int]]) -> None:
    given_candidates = [candidate(*one) for one in made]
    read = promising(given_candidates)
    chunks = {chunk_id for *_, chunk_id in made}
    assert len(read) == min(len(made), max(MOST_READ, len(chunks)))
    assert {one.sentence.ranked.passage.chunk_id for one in read} == chunks
    assert {id(one) for one in read} <= {id(one) for one in given_candidates}


def test_of_many_sentences_those_with_the_words_are_read() -> None:
    many = [candidate(at / 100, 0.5, 0.5) for at in range(30)]
    assert {one.covered for one in promising(many)} == {at / 100 for at in range(30 - MOST_READ, 30)}


@given(
    st.lists(
        st.tuples(SHARES, SHARES, SHARES, st.lists(st.floats(-1, 1), min_size=2, max_size=2)), min_size=1, max_size=8
    )
)
def test_scores_are_shares_best_first_one_for_each_sentence(
    made: list[tuple[float, float, float, list[float]]],
) -> None:
    given_candidates = [candidate(covered, nearby, passage) for covered, nearby, passage, _ in made]
    vectors = unit(*([x, y, 1.5] for *_, (x, y) in made))
    scored = score(given_candidates, vectors, unit([1, 2, 3])[0], Wanted("年假有多少天？"))
    assert all(-1e-6 <= one.score <= 1 + 1e-6 for one in scored)
    assert [one.score for one in scored] == sorted((one.score for one in scored), reverse=True)
    assert sorted(id(one.sentence) for one in scored) == sorted(id(one.sentence) for one in given_candidates)


@given(SHARES, SHARES, SHARES, st.integers(0, 2), st.floats(0.01, 0.5))
def test_more_of_anything_never_lowers_a_score(
    covered: float, nearby: float, passage: float, which: int, more: float
) -> None:
    values = [covered, nearby, passage]
    raised = [min(1.0, value + more * (at == which)) for at, value in enumerate(values)]
    low, high = (
        score([candidate(*each)], unit([1, 1]), unit([1, 0])[0], Wanted(""))[0].score for each in (values, raised)
    )
    assert high >= low


def test_the_nearer_sentence_wins_and_so_does_the_one_with_the_word_and_the_one_with_the_number() -> None:
    leave, sick = found(ranked("年休假可以提前申请的。病假总共有三十天呢。"), asked=("病假",))
    query = unit([1, 0])[0]
    alike = unit([1, 1], [1, 1])
    assert score([sick, leave], unit([0, 1], [1, 0.1]), query, Wanted("年休假"))[0].sentence == leave.sentence
    assert score([leave, sick], alike, query, Wanted("病假"))[0].sentence == sick.sentence
    first, second = found(ranked("病假需要提交证明的。病假总共有三十天呢。"), asked=("病假",))
    assert score([first, second], alike, query, Wanted("病假有几天？"))[0].sentence == second.sentence
    assert score([first, second], alike, query, Wanted("病假怎么请？"))[0].sentence == first.sentence


SCORED = st.lists(st.tuples(SHARES, st.integers(1, 6)), max_size=10)


@given(SCORED)
def test_an_evidence_score_is_a_share_and_nothing_scores_nothing(made: list[tuple[float, int]]) -> None:
    scored = [evidence(*one) for one in sorted(made, reverse=True)]
    assert 0.0 <= evidence_score(scored) <= 1.0
    assert evidence_score([]) == 0.0


@given(SCORED.filter(bool), st.floats(0.01, 0.3))
def test_a_better_best_sentence_never_lowers_the_evidence_score(made: list[tuple[float, int]], more: float) -> None:
    (best, chunk_id), *others = sorted(made, reverse=True)
    rest = [evidence(*one) for one in others]
    assert evidence_score([evidence(best + more, chunk_id), *rest]) >= evidence_score([evidence(best, chunk_id), *rest])


def test_what_stands_out_is_surer_than_what_many_passages_say_as_well() -> None:
    alone = [evidence(0.5, 1), *(evidence(0.2, at) for at in range(2, 6))]
    among = [evidence(0.5, 1), *(evidence(0.45, at) for at in range(2, 6))]
    assert evidence_score(alone) > evidence_score(among)


def test_a_chance_hit_in_an_empty_field_does_not_stand_out() -> None:
    assert evidence_score([evidence(BY_CHANCE)]) < min(FLOORS.values())
    assert evidence_score([evidence(0.6)]) > max(FLOORS.values())


def test_an_answer_that_stands_in_two_documents_stands_out_all_the_same() -> None:
    others = [evidence(0.2, at) for at in range(3, 6)]
    once = evidence_score([evidence(0.5, 1), evidence(0.2, 2), *others])
    assert evidence_score([evidence(0.5, 1), evidence(0.5, 2), *others]) == pytest.approx(once)


def test_further_sentences_of_the_best_passage_are_no_competition_to_it() -> None:
    others = [evidence(0.2, at) for at in range(2, 6)]
    once = evidence_score([evidence(0.5, 1), *others])
    assert evidence_score([evidence(0.5, 1), evidence(0.49, 1), evidence(0.48, 1), *others]) == once


@given(LANGUAGES, LANGUAGES)
def test_the_floor_is_that_of_the_direction(asked: Language, found_in: Language) -> None:
    assert floor([evidence(0.5, language=found_in)], asked) == FLOORS[asked, found_in]
    assert floor([], asked) == 1.0


def test_another_language_has_the_lower_floor() -> None:
    assert max(FLOORS["zh", "en"], FLOORS["en", "zh"]) < min(FLOORS["zh", "zh"], FLOORS["en", "en"])


def test_nothing_found_is_nothing_to_read() -> None:
    assert found() == promising([]) == []
