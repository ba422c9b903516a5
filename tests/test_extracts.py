"""Answers without a model, from what retrieval hands over."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from passages import ranked

from rag_service.answering import refusal
from rag_service.answering.extracts import Extracts, extracts
from rag_service.ports import Vector, Vectors
from rag_service.text import language_of, lexical_terms
from rag_service.types import RankedPassage, Retrieval, Weighed, WeighedConcept

LEAVE = "员工每年享有十二天带薪年休假。年休假须提前两周申请。"
WARRANTY = "The warranty lasts 24 months. It covers all moving parts."


class Blind:
    """An embedder to which no text is like any question."""

    name = "blind"
    dimensions = 2

    def embed(self, texts: Sequence[str]) -> Vectors:
        return np.tile(np.array([0, 1], dtype=np.float32), (len(texts), 1))

    def embed_query(self, text: str) -> Vector:
        return np.array([1, 0], dtype=np.float32)


def said(*words: str, most: float = 1.0) -> WeighedConcept:
    return WeighedConcept(most, tuple(((term,), most) for word in words for term in lexical_terms(word)[:1]))


def found(
    query: str,
    passages: Sequence[RankedPassage],
    words: Sequence[WeighedConcept] = (),
    concepts: Sequence[WeighedConcept] = (),
) -> Extracts:
    weighed = {"kb": Weighed(tuple(words), tuple(concepts))}
    return extracts(Retrieval(query, language_of(query), {"kb": 1}, tuple(passages), weighed), Blind())


def test_the_sentence_that_says_it_is_the_answer() -> None:
    answered = found("年休假多少天？", [ranked(LEAVE, 0.6, 1), ranked(WARRANTY, 0.1, 2)], [said("年休"), said("休假")])
    assembled = answered.answer([1, 2], "zh")
    assert (assembled.outcome, assembled.refusal) == ("answered", None)
    assert assembled.text.startswith("员工每年享有十二天带薪年休假[1]。")
    for citation in assembled.citations:
        assert LEAVE[citation.char_start : citation.char_end] == citation.quote


def test_a_passage_that_has_gone_is_not_quoted() -> None:
    answered = found("年休假多少天？", [ranked(LEAVE, 0.6, 1)], [said("年休")])
    assert answered.answer([], "zh").outcome == "refused"


@pytest.mark.parametrize("passages", [[], [ranked(LEAVE, 0.0)], [ranked("## 年假", 0.9)]])
def test_where_nothing_tells_there_is_a_refusal_in_the_language_asked_for(passages: list[RankedPassage]) -> None:
    nothing = found("X?", passages, [said("x")])
    assembled = nothing.answer([1], "en")
    assert (assembled.outcome, assembled.refusal) == ("refused", "no_evidence")
    assert assembled.text == refusal.sentence("no_evidence", "en")
    assert 0.0 <= nothing.evidence_score < nothing.floor <= 1.0


def test_two_things_asked_and_one_told_is_a_partial_answer() -> None:
    both = "How long is the warranty and where is the canteen?"
    told = [said("warranty")]
    assert found(both, [ranked(WARRANTY, 0.6)], told).answer([1], "en").outcome == "partial"
    more = ranked(WARRANTY + " The canteen is on the ground floor.", 0.6)
    assert found(both, [more], [*told, said("canteen")]).answer([1], "en").outcome == "answered"


def test_a_name_asked_in_vain_counts_in_its_own_language_and_not_in_the_other() -> None:
    unknown, gym = WeighedConcept(9.0, ()), WeighedConcept(9.0, (), translated=True)
    asked = [said("warranty")]

    def score(query: str, *in_vain: WeighedConcept) -> float:
        return found(query, [ranked(WARRANTY, 0.3)], [], [*asked, *in_vain]).evidence_score

    assert score("黑豹队的保修？", unknown) == score("黑豹队的保修？")
    assert score("健身房的保修？", gym) < score("健身房的保修？")
    assert score("Mackinder's warranty?", unknown) < score("Mackinder's warranty?")
