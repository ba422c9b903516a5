from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from passages import ranked

from rag_service.answering.composition import compose
from rag_service.answering.evidence import Evidence, Sentence, candidates
from rag_service.answering.selection import BESIDE_THE_BEST, MOST_SENTENCES, selected
from rag_service.retrieval.coverage import Coverage
from rag_service.types import RankedPassage, Weighed

WARRANTY = "The X-200 has a warranty. It lasts 24 months. Batteries are not covered. Send it to Rotterdam."
NOTHING = Coverage(Weighed((), ()))
LEAVE = "员工享有带薪年休假。该假期为十二天。病假另行计算工资。"


def scored(*made: tuple[RankedPassage, dict[int, float]]) -> list[Evidence]:
    """The sentences of each passage by their number, best first."""
    found = []
    for passage, scores in made:
        sentences = [candidate.sentence for candidate in candidates([(passage, NOTHING)])]
        found += [Evidence(sentences[number], score) for number, score in scores.items()]
    return sorted(found, key=lambda evidence: -evidence.score)


def quotes(*made: tuple[RankedPassage, dict[int, float]]) -> list[str]:
    return [evidence.sentence.text for evidence in selected(scored(*made))]


MADE = st.lists(st.tuples(st.sampled_from([WARRANTY, LEAVE]), st.integers(0, 2), st.floats(0, 1)), max_size=8)


@given(MADE)
def test_what_is_quoted_is_among_the_best_and_fits_an_answer(made: list[tuple[str, int, float]]) -> None:
    given_evidence = scored(*((ranked(text, chunk_id=at), {number: s}) for at, (text, number, s) in enumerate(made)))
    shown = selected(given_evidence)
    assert len(shown) <= MOST_SENTENCES
    assert bool(shown) == bool(given_evidence)
    assert len({evidence.sentence.text for evidence in shown}) == len(shown)
    assert not given_evidence or given_evidence[0] in shown
    assert all(one in given_evidence and one.score >= BESIDE_THE_BEST * given_evidence[0].score for one in shown)


@given(st.lists(st.text(max_size=60), max_size=3), st.data())
def test_every_quote_is_the_passage_at_its_offsets(passages: list[str], data: st.DataObject) -> None:
    found = candidates((ranked(text, chunk_id=at, at=at * 100), NOTHING) for at, text in enumerate(passages))
    given_evidence = [Evidence(one.sentence, data.draw(st.floats(0, 1))) for one in found]
    for citation in compose(selected(sorted(given_evidence, key=lambda one: -one.score))).citations:
        text, start = passages[citation.chunk_id], citation.char_start - citation.chunk_id * 100
        assert text[start : citation.char_end - citation.chunk_id * 100].encode() == citation.quote.encode()


def test_sentences_of_one_passage_stand_as_they_do_there_and_the_best_passage_comes_first() -> None:
    warranty, leave = ranked(WARRANTY, chunk_id=1), ranked(LEAVE, chunk_id=2)
    assert quotes((warranty, {0: 0.5, 2: 0.6}), (leave, {0: 0.55})) == [
        "The X-200 has a warranty.",
        "Batteries are not covered.",
        "员工享有带薪年休假。",
    ]


@pytest.mark.parametrize(
    ("text", "alone", "together"),
    [
        (WARRANTY, {1: 0.9, 2: 0.1, 0: 0.1}, ["The X-200 has a warranty.", "It lasts 24 months."]),
        (LEAVE, {1: 0.9, 0: 0.1, 2: 0.1}, ["员工享有带薪年休假。", "该假期为十二天。"]),
        (WARRANTY, {2: 0.9, 1: 0.1}, ["Batteries are not covered."]),
        (LEAVE, {2: 0.9, 1: 0.1}, ["病假另行计算工资。"]),
    ],
)
def test_a_sentence_that_points_back_brings_the_one_before_it(
    text: str, alone: dict[int, float], together: list[str]
) -> None:
    assert quotes((ranked(text), alone)) == together


def test_context_takes_the_place_of_no_answer() -> None:
    full = quotes((ranked(WARRANTY), {0: 0.1, 1: 0.9, 2: 0.9, 3: 0.9}))
    assert full == ["It lasts 24 months.", "Batteries are not covered.", "Send it to Rotterdam."]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The unit must be switched off first.", "The unit must be switched off at first."),
        ("设备在清洁之前必须关闭电源。", "設備在清潔之前必須關閉電源！"),
    ],
)
def test_what_says_the_same_is_quoted_once(one: str, other: str) -> None:
    assert quotes((ranked(one, chunk_id=1), {0: 0.9}), (ranked(other, chunk_id=2), {0: 0.8})) == [one]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The warranty of the X-200 lasts 24 months.", "The warranty of the X-200 lasts 36 months."),
        ("该设备的保修期为24个月。", "该设备的保修期为36个月。"),
    ],
)
def test_sentences_that_differ_in_a_figure_are_both_quoted(one: str, other: str) -> None:
    assert quotes((ranked(one, chunk_id=1), {0: 0.9}), (ranked(other, chunk_id=2), {0: 0.8})) == [one, other]


def test_a_far_weaker_sentence_is_not_quoted() -> None:
    assert quotes((ranked(WARRANTY), {0: 0.9, 2: 0.5})) == ["The X-200 has a warranty."]


def test_a_sentence_is_what_it_was_given_as() -> None:
    sentence = Sentence(ranked(WARRANTY), 0, 25)
    assert selected([Evidence(sentence, 0.5)]) == (Evidence(sentence, 0.5),)
