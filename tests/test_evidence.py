from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from passages import ranked

from rag_service.answering.evidence import (
    BESIDE_THE_BEST,
    FLOOR_OTHER_LANGUAGE,
    FLOOR_SAME_LANGUAGE,
    MOST_SENTENCES,
    Evidence,
    Sentence,
    candidates,
    floor,
    score,
    sufficient,
)
from rag_service.ports import Vectors
from rag_service.types import Language

LANGUAGES: st.SearchStrategy[Language] = st.sampled_from(["zh", "en"])
TEXT = {
    "zh": "工作满五年的员工每年享有十二天带薪年休假。",
    "en": "Employees of five years have twelve days of paid leave.",
}


def evidence(score: float, language: str = "zh") -> Evidence:
    text = TEXT[language]
    return Evidence(Sentence(ranked(text), 0, len(text)), score)


def texts(*passages: str) -> list[str]:
    return [sentence.text for sentence in candidates(ranked(text) for text in passages)]


def unit(*rows: list[float]) -> Vectors:
    matrix = np.array(rows, dtype=np.float32)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


@given(st.lists(st.text(max_size=80), max_size=4))
def test_a_candidate_is_an_exact_slice_and_no_text_comes_twice(passages: list[str]) -> None:
    found = candidates(ranked(text, chunk_id=n) for n, text in enumerate(passages))
    for sentence in found:
        assert 0 <= sentence.start < sentence.end <= len(sentence.ranked.passage.text)
        assert sentence.text == sentence.text.strip() != ""
    assert len({sentence.text for sentence in found}) == len(found)


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
    [found] = candidates([ranked(TEXT["zh"], 0.9, 1, "best"), ranked(TEXT["zh"], 0.8, 2, "other")])
    assert found.ranked.passage.document_id == "best"


@given(
    st.lists(st.tuples(st.floats(0, 1), st.lists(st.floats(-1, 1), min_size=3, max_size=3)), min_size=1, max_size=8),
    st.dictionaries(st.sampled_from(["年休", "休假", "无关", "paid"]), st.floats(0.01, 9)),
)
def test_scores_are_shares_best_first_one_for_each_sentence(
    made: list[tuple[float, list[float]]], weights: dict[str, float]
) -> None:
    sentences = [Sentence(ranked(TEXT["zh"], passage), 0, 5) for passage, _ in made]
    vectors = unit(*([x, y, z + 1.5] for _, (x, y, z) in made))
    scored = score(sentences, vectors, unit([1, 2, 3])[0], weights)
    assert all(-1e-6 <= one.score <= 1 + 1e-6 for one in scored)
    assert [one.score for one in scored] == sorted((one.score for one in scored), reverse=True)
    assert sorted(id(one.sentence) for one in scored) == sorted(id(sentence) for sentence in sentences)


def test_the_nearer_sentence_of_a_passage_wins_and_so_does_the_one_with_the_rare_word() -> None:
    whole = ranked("年休假有十二天呢。病假没有上限可言。")
    leave, sick = candidates([whole])
    query = unit([1, 0])[0]
    assert score([sick, leave], unit([0.2, 1], [1, 0.2]), query, {})[0].sentence == leave
    assert score([leave, sick], unit([1, 1], [1, 1]), query, {"病假": 5.0, "休假": 1.0})[0].sentence == sick


@given(st.lists(st.tuples(st.floats(0, 1), LANGUAGES), max_size=8), LANGUAGES)
def test_what_is_shown_is_above_its_floor_and_near_the_best(made: list[tuple[float, str]], asked: Language) -> None:
    scored = sorted((evidence(value, language) for value, language in made), key=lambda one: -one.score)
    shown = sufficient(scored, asked)
    assert len(shown) <= MOST_SENTENCES
    assert list(shown) == [one for one in scored if one in shown][: len(shown)]
    for one in shown:
        assert one.score >= floor(one, asked)
        assert one.score >= BESIDE_THE_BEST * scored[0].score
    assert bool(shown) == bool(scored and scored[0].score >= floor(scored[0], asked))


def test_another_language_has_the_lower_floor() -> None:
    assert FLOOR_OTHER_LANGUAGE < FLOOR_SAME_LANGUAGE
    between = (FLOOR_OTHER_LANGUAGE + FLOOR_SAME_LANGUAGE) / 2
    assert sufficient([evidence(between, "zh")], "zh") == ()
    assert len(sufficient([evidence(between, "zh")], "en")) == 1
    assert len(sufficient([evidence(between, "en")], "zh")) == 1


def test_nothing_found_is_nothing_shown() -> None:
    assert sufficient([], "zh") == ()
    assert candidates([]) == []
