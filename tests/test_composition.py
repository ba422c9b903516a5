from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from passages import ranked

from rag_service.answering.composition import compose
from rag_service.answering.evidence import Evidence, Sentence
from rag_service.answering.refusal import reason_for, sentence
from rag_service.text import sentences

MARK = re.compile(r" ?\[\d+\]")
TEXTS = st.one_of(
    st.sampled_from([
        "年假十二天。", "他说：“好的。”", "Really?!", 'He said "yes."', "（见附录。）", "no full stop", "价格为 3.5 元",
        "As in [1].", "见 [2]。", "……", "wait...", "C++.", "50 %", "X-200", "(see below.)", "𠮷🙂。", "。", "]", "[3]",
    ]),
    st.text(min_size=1, max_size=30).filter(lambda t: t == t.strip() != ""),
)  # fmt: skip
MADE = st.lists(st.tuples(TEXTS, st.integers(1, 4), st.integers(0, 50), st.floats(0, 1.2)), max_size=5)


def evidence(text: str, chunk_id: int, at: int = 0, score: float = 0.5) -> Evidence:
    """The sentence `text` somewhere inside a passage."""
    return Evidence(
        Sentence(ranked(f"Before. {text} after", 0.5, chunk_id, f"d{chunk_id}", at), 8, 8 + len(text)), score
    )


@given(MADE)
def test_an_answer_is_its_quotes_with_one_mark_each_and_nothing_else(made: list[tuple[str, int, int, float]]) -> None:
    composed = compose([evidence(*one) for one in made])
    assert len(composed.citations) == len(made)
    end = 0
    for (text, chunk_id, at, score), citation in zip(made, composed.citations, strict=True):
        assert composed.text[end : citation.answer_start] in ("", " ")
        said = composed.text[citation.answer_start : citation.answer_end]
        end = citation.answer_end
        assert text in {said[: m.start()] + said[m.end() :] for m in _marks(said, citation.marker)}
        assert citation.quote == text
        assert (citation.chunk_id, citation.document_id) == (chunk_id, f"d{chunk_id}")
        assert (citation.char_start, citation.char_end) == (at + 8, at + 8 + len(text))
        assert citation.verdict == "supported"
        assert citation.score == round(min(score, 1.0), 4)
    assert end == len(composed.text)


def _marks(said: str, marker: int) -> list[re.Match[str]]:
    """Where the mark may be that was put in, with the space before it and without."""
    return [*re.finditer(rf" \[{marker}\]", said), *re.finditer(rf"\[{marker}\]", said)]


@given(MADE)
def test_the_quote_is_the_passage_at_its_offsets(made: list[tuple[str, int, int, float]]) -> None:
    given_evidence = [evidence(*one) for one in made]
    for one, citation in zip(given_evidence, compose(given_evidence).citations, strict=True):
        passage = one.sentence.ranked.passage
        start = citation.char_start - passage.char_start
        assert passage.text[start : citation.char_end - passage.char_start] == citation.quote


@given(MADE)
def test_marks_number_passages_from_one_in_order_of_appearance(made: list[tuple[str, int, int, float]]) -> None:
    citations = compose([evidence(*one) for one in made]).citations
    chunks = list(dict.fromkeys(chunk_id for _, chunk_id, _, _ in made))
    assert [citation.marker for citation in citations] == [chunks.index(c.chunk_id) + 1 for c in citations]


@pytest.mark.parametrize(
    ("sentence", "said"),
    [
        ("年假十二天。", "年假十二天[1]。"),
        ("真的吗？！", "真的吗[1]？！"),
        ("他说：“好的。”", "他说：“好的[1]。”"),
        ("It lasts 24 months.", "It lasts 24 months [1]."),
        ('He said "yes."', 'He said "yes [1]."'),
        ("no full stop", "no full stop [1]"),
        ("共 590 MWh", "共 590 MWh [1]"),
        ("等等……", "等等[1]……"),
    ],
)
def test_the_mark_stands_before_the_full_stop(sentence: str, said: str) -> None:
    assert compose([evidence(sentence, 7)]).text == said


def test_chinese_sentences_follow_each_other_without_a_space_and_english_ones_with() -> None:
    assert compose([evidence("年假十二天。", 1), evidence("病假另计。", 1)]).text == "年假十二天[1]。病假另计[1]。"
    assert compose([evidence("It works.", 1), evidence("It lasts.", 2)]).text == "It works [1]. It lasts [2]."


def test_an_answer_can_be_cut_into_its_cited_sentences_again() -> None:
    made = [evidence("年假十二天。", 1), evidence("It lasts 24 months.", 2), evidence("病假另计。", 1)]
    composed = compose(made)
    cited = [(c.answer_start, c.answer_end) for c in composed.citations]
    assert list(sentences(composed.text)) == cited


def test_nothing_to_say_is_no_answer() -> None:
    assert compose([]).text == ""


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("reason", ["no_evidence", "insufficient", "unsupported"])
def test_every_refusal_has_one_sentence_in_each_language(reason: str, language: str) -> None:
    said = sentence(reason, language)  # type: ignore[arg-type]
    assert len(list(sentences(said))) == 1
    assert not MARK.search(said)


def test_what_is_far_below_the_floor_is_about_something_else() -> None:
    assert reason_for(0.0, 0.3) == "no_evidence"
    assert reason_for(0.1, 0.3) == "no_evidence"
    assert reason_for(0.2, 0.3) == "insufficient"
