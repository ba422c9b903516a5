"""From a reply to an answer, with a verifier that knows by heart what each passage supports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from passages import ranked

from rag_service.answering.assembly import Assembled, Assembly, Checking, Unsupported
from rag_service.answering.verification.verifier import Support
from rag_service.types import PackingReport, Passage, PromptPlan, Verdict

REFUSAL = "The documents do not answer this question."
TEXTS = ("Alpha is the first letter. Omega is the last.", "Beta is the second letter.", "Gamma is the third letter.")
PLAN = PromptPlan(
    token_ids=(), report=PackingReport(0, 0, 0, "", "", (), ""),
    passages=tuple(ranked(text, chunk_id=at + 1, at=100 * at) for at, text in enumerate(TEXTS)), language="en",
)  # fmt: skip
ALL = frozenset({1, 2, 3})


@dataclass
class ByHeart:
    """As much of Verifier as assembly uses: a sentence is supported by what contains it word for word, weakly with
    `perhaps`, and by two passages together where ` and ` joins what each says."""

    checks: int = 0

    def read(self, passages: Sequence[Passage], language: str) -> Any:
        return [passage.text for passage in passages]

    def check(self, sentence: str, read: Any, cited: Sequence[int]) -> Support | None:
        self.checks += 1
        found = [self._support(sentence, read[at], at) for at in cited]
        order = ("supported", "weak", "unsupported")
        return min(found, key=lambda support: order.index(support.verdict), default=None)

    def _support(self, sentence: str, text: str, at: int) -> Support:
        parts = sentence.rstrip(".").removeprefix("perhaps ").split(" and ")
        holds = all(part in text for part in parts)
        verdict: Verdict = "unsupported" if not holds else "weak" if sentence.startswith("perhaps ") else "supported"
        start = text.find(parts[0]) if parts[0] in text else 0
        return Support(at, start, start + max(len(parts[0]), 1), verdict, 0.5, ())


def checking(unsupported: Unsupported = "remove") -> Checking:
    return Assembly(ByHeart(), unsupported, frozenset({REFUSAL})).checking(PLAN)  # type: ignore[arg-type]


def assembled(text: str, unsupported: Unsupported = "remove", live: frozenset[int] = ALL) -> Assembled:
    return checking(unsupported).assembled(text, live)


@pytest.mark.parametrize(
    ("reply", "text", "outcome"),
    [
        ("Alpha is the first letter [1].", "Alpha is the first letter [1].", "answered"),
        ("Alpha is the first letter [1]. Nonsense is here [2].", "Alpha is the first letter [1].", "partial"),
        ("Nonsense is here [2]. Alpha is the first letter [1].", "Alpha is the first letter [1].", "partial"),
        ("Alpha is the first letter [2].", "Alpha is the first letter [1].", "answered"),
        ("Alpha is the first letter.", "Alpha is the first letter [1].", "answered"),
        ("perhaps Alpha is the first letter [1].", "perhaps Alpha is the first letter [1].", "answered"),
        ("Alpha is the first letter [1][2].", "Alpha is the first letter [1].", "answered"),
        ("They are:\n\n- Alpha is the first letter [1].\n- Nonsense is here [1].\n- Beta is the second letter [2].",
         "They are:\n\n- Alpha is the first letter [1].\n- Beta is the second letter [2].", "partial"),
        ("# Letters\n\nAlpha is the first letter [1].\n\n# Numbers\n\nOne is a number [1].",
         "# Letters\n\nAlpha is the first letter [1].", "partial"),
        ("Alpha is the first letter and Beta is the second letter [1][2].",
         "Alpha is the first letter and Beta is the second letter [1][2].", "answered"),
    ],
)  # fmt: skip
def test_what_stands_is_kept_with_the_marks_that_support_it(reply: str, text: str, outcome: str) -> None:
    made = assembled(reply)

    assert (made.text, made.outcome) == (text, outcome)


def test_a_weak_sentence_without_a_mark_does_not_get_one() -> None:
    assert assembled("perhaps Alpha is the first letter.").refusal == "unsupported"


def test_each_citation_is_a_span_of_its_passage_and_of_the_answer() -> None:
    made = assembled("Omega is the last [1]. Gamma is the third letter [3].")

    for citation, text in zip(made.citations, ("Omega is the last", "Gamma is the third letter"), strict=True):
        assert citation.quote == text
        assert citation.char_start == 100 * (citation.marker - 1) + TEXTS[citation.marker - 1].index(text)
        assert made.text[citation.answer_start : citation.answer_end] == f"{text} [{citation.marker}]."


@pytest.mark.parametrize("reply", ["", " \n", "Nonsense is here [1]. More of it.", "# Heading", "They are:", "[1]"])
def test_nothing_left_is_a_refusal(reply: str) -> None:
    made = assembled(reply)

    assert (made.outcome, made.refusal, made.citations) == ("refused", "unsupported", ())


@pytest.mark.parametrize(
    "said", [" {}\n", "{} [1]", "**{}**", '"{}"', "Sorry about that. {}", "{} {}", "> {}", "{} Nonsense is here [2]."]
)
def test_the_models_refusal_is_insufficient_evidence(said: str) -> None:
    assert assembled(said.replace("{}", REFUSAL)).refusal == "insufficient"


def test_a_refusal_before_an_answer_is_left_out() -> None:
    made = assembled(f"{REFUSAL} Alpha is the first letter [1].")

    assert made.text == "Alpha is the first letter [1]."
    assert made.outcome == "partial"


def test_marked_instead_of_removed_it_stays_with_its_verdict() -> None:
    made = assembled("Nonsense is here [2]. Alpha is the first letter [1]. More nonsense is here.", "mark")

    # One that cites nothing gets no number it did not ask for, but a citation that says so of its nearest passage.
    assert made.text == "Nonsense is here [2]. Alpha is the first letter [1]. More nonsense is here."
    assert [citation.verdict for citation in made.citations] == ["unsupported", "supported", "unsupported"]
    last = made.citations[-1]
    assert made.text[last.answer_start : last.answer_end] == "More nonsense is here."
    assert made.outcome == "partial"


@pytest.mark.parametrize(
    "unchecked",
    ["Thirty days. ", "两年。", "Never. ", "It takes thirty days:\n\n", "# Thirty days\n\n", "一共30天：\n\n"],
)
def test_nothing_that_could_be_a_claim_is_shown_because_of_what_follows_it(unchecked: str) -> None:
    made = assembled(f"{unchecked}Alpha is the first letter [1].")

    assert (made.text, made.outcome) == ("Alpha is the first letter [1].", "partial")


def test_marking_everything_as_unsupported_is_still_a_refusal() -> None:
    assert assembled("Nonsense is here [2].", "mark").refusal == "unsupported"


def test_a_passage_that_is_gone_cannot_be_cited() -> None:
    made = assembled("Alpha is the first letter [1]. Beta is the second letter [2].", live=frozenset({2}))

    assert made.text == "Beta is the second letter [2]."
    assert made.outcome == "partial"


def test_what_was_checked_is_not_checked_again() -> None:
    verifier = ByHeart()
    growing = Assembly(verifier, "remove", frozenset()).checking(PLAN)  # type: ignore[arg-type]
    reply = "Alpha is the first letter [1]. Beta is the second letter [2]. "
    for end in range(len(reply)):
        growing.assembled(reply[:end], ALL, "growing")
    before = verifier.checks
    growing.assembled(reply, ALL)

    assert before == 1
    assert verifier.checks == 2


PIECES = st.lists(
    st.sampled_from(
        ["Alpha is the first letter", "Beta is the second letter", "Nonsense is here", REFUSAL,
         "perhaps Omega is the last",
         " [1]", "[2]", "[1][3]", "[9]", ". ", ".", "。", "\n", "\n\n", "- ", "# Title", "They are:", " ",
         "```", "| a | b |"]
    ),
    max_size=14,
).map("".join)  # fmt: skip


@given(PIECES, st.sampled_from(["remove", "mark"]))
def test_what_is_assembled_of_a_growing_reply_is_a_beginning_of_the_whole(reply: str, unsupported: Unsupported) -> None:
    whole = assembled(reply, unsupported)
    growing = checking(unsupported)

    for end in range(len(reply)):
        begun = growing.assembled(reply[:end], ALL, "growing").text
        assert whole.text.startswith(begun), (reply[:end], begun, whole.text)


@given(PIECES, st.sampled_from(["remove", "mark"]))
def test_every_citation_is_of_a_passage_of_the_prompt_and_byte_identical(reply: str, unsupported: Unsupported) -> None:
    made = assembled(reply, unsupported)

    for citation in made.citations:
        passage = PLAN.passages[citation.marker - 1].passage
        assert (
            citation.quote
            == passage.text[citation.char_start - passage.char_start : citation.char_end - passage.char_start]
        )
        assert 0 <= citation.answer_start < citation.answer_end <= len(made.text)
    assert bool(made.refusal) == (made.outcome == "refused")
    assert made.text
