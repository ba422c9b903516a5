"""Citation recall and precision, by ALCE's own cases."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from rag_service.answering.verification.verifier import Verifier
from rag_service.evaluation.citing import CitationScores, citation_scores, judge
from rag_service.inference.use_multilingual import UseMultilingual
from rag_service.types import Passage


def passage(number: int, text: str) -> Passage:
    return Passage(number, "kb", f"d{number}", 1, "f", "text/plain", None, (), "en", 0, len(text), text)


CITED = {1: passage(1, "alpha"), 2: passage(2, "beta"), 3: passage(3, "gamma")}


def supports(statement: str, passages: Sequence[Passage]) -> bool:
    """A statement is supported by the passages whose text it names, by all it names together."""
    named = [p.text for p in CITED.values() if p.text in statement]
    return bool(named) and set(named) <= {p.text for p in passages}


@pytest.mark.parametrize(
    ("text", "recall", "precision"),
    [
        ("It says alpha [1].", 1.0, 1.0),
        ("It says alpha [2].", 0.0, 0.0),
        ("It says alpha.", 0.0, 0.0),
        # Two that only support it together are both of use, one that adds nothing is of none.
        ("It says alpha and beta [1][2].", 1.0, 1.0),
        ("It says alpha [1][2].", 1.0, 0.5),
        ("It says alpha [1]. It says beta [3].", 0.5, 0.5),
        ("这里说 alpha [1]。这里说 beta [2]。", 1.0, 1.0),
        # A number that nothing was cited under is no citation.
        ("It says alpha [1][9].", 1.0, 1.0),
    ],
)
def test_statements_are_weighed_by_what_they_cite(text: str, recall: float, precision: float) -> None:
    assert citation_scores(text, CITED, supports) == CitationScores(recall, precision)


def test_a_text_that_states_nothing_has_no_scores() -> None:
    assert citation_scores("", CITED, supports) is None
    assert citation_scores("## Alpha", CITED, supports) is None


def test_the_verifier_is_a_judge_in_both_languages(embedder: UseMultilingual) -> None:
    judged = judge(Verifier(embedder))
    leave = passage(1, "员工每年享有十五天带薪年假，可以分两次休完。")
    warranty = passage(2, "The warranty of the Star River router lasts two years from delivery.")
    assert judged("员工每年享有十五天带薪年假", [leave])
    assert judged("The warranty of the Star River router lasts two years", [leave, warranty])
    assert not judged("The warranty of the Star River router lasts nine years", [leave, warranty])
    assert not judged("员工每年享有三十天带薪年假", [leave])
