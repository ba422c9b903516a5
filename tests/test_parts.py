from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_service.answering.parts import parts, unsaid


@pytest.mark.parametrize(
    ("question", "asked"),
    [
        ("年假有几天？食堂几点开门？", ("年假有几天", "食堂几点开门")),
        ("保修期多久，以及谁承担运费？", ("保修期多久", "谁承担运费")),
        ("在上海，年假有几天，怎么申请？", ("在上海 年假有几天", "怎么申请")),
        ("How long is the warranty and who pays for shipping?", ("How long is the warranty", "who pays for shipping")),
        ("When does it start? Where is it held?", ("When does it start", "Where is it held")),
    ],
)
def test_several_things_are_asked(question: str, asked: tuple[str, ...]) -> None:
    assert parts(question) == asked


@pytest.mark.parametrize(
    "question",
    [
        "年假有几天？",
        "员工和外包人员的年假有几天？",
        "What are research and development costs?",
        "In May, who pays?",
        "",
        "…",
    ],
)
def test_one_thing_is_asked(question: str) -> None:
    assert parts(question) == (question,)
    assert unsaid(question, []) == ()


def test_a_part_that_nothing_shown_says_a_word_of_is_unsaid() -> None:
    question = "年假有几天，食堂几点开门？"
    assert unsaid(question, ["员工每年享有十二天年假。"]) == ("食堂几点开门",)
    assert unsaid(question, ["员工每年享有十二天年假。", "食堂七点开门。"]) == ()
    english = "How long is the warranty, and who pays for shipping?"
    assert unsaid(english, ["The warranty lasts 24 months."]) == ("who pays for shipping",)
    assert unsaid(english, ["The warranty lasts 24 months.", "Shipping is paid by the customer."]) == ()


def test_another_language_cannot_tell() -> None:
    assert unsaid("年假有几天，食堂几点开门？", ["Employees have twelve days of leave."]) == ()
    assert unsaid("How long is the warranty and who pays for shipping?", ["保修期为二十四个月。"]) == ()


@given(st.text(max_size=80), st.lists(st.text(max_size=40), max_size=3))
def test_what_is_unsaid_is_asked_and_quoting_the_question_says_it_all(question: str, shown: list[str]) -> None:
    assert set(unsaid(question, shown)) <= set(parts(question))
    assert unsaid(question, [*shown, question]) == ()
