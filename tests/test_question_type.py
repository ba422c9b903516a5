"""What a question asks for, and whether a sentence has it: in both languages, for every kind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_service.answering.question_type import QuestionType, Wanted

ASKED: list[tuple[QuestionType, str, str]] = [
    ("number", "年假有多少天？", "How many days of leave are there?"),
    ("number", "保修期多久？", "How long is the warranty?"),
    ("number", "会议室能坐几个人？", "What percentage of invoices was wrong?"),
    ("date", "公司什么时候成立？", "When was the company founded?"),
    ("date", "哪一年重新推出提前入学计划？", "In what year was early admission reintroduced?"),
    ("person", "谁批准出差？", "Who approves travel?"),
    ("person", "哪位建筑师设计了博物馆？", "Whose signature is needed?"),
    ("place", "发票寄到哪里？", "Where are invoices sent?"),
    ("place", "工厂在哪个城市？", "In which city is the factory?"),
    ("yes_no", "可以远程办公吗？", "Can I work from home?"),
    ("yes_no", "是否需要发票？", "Is a receipt needed?"),
    ("why", "为什么要备份？", "Why are backups made?"),
    ("how", "如何重置密码？", "How is the password reset?"),
    ("how", "怎么申请年假？", "How do I apply for leave?"),
    ("definition", "什么是重大缺陷？", "What is a defect?"),
    ("definition", "SLA 是什么意思？", "What does SLA mean?"),
    ("other", "保修包括哪些部件？", "What does the warranty cover?"),
]
GIVEN = [
    ("年假有多少天？", "每年享有十二天带薪年休假。", "年休假须提前申请。"),
    ("How many of the 18 chairs are broken?", "Seven are broken.", "All 18 chairs were inspected."),
    ("公司什么时候成立？", "公司于2009年3月成立。", "公司由三人成立。"),
    ("When was the plant built?", "It was built in June 1998.", "It was built by contractors."),
    ("When did the plague reach England?", "It came in the 14th century.", "It came by ship."),
    ("谁批准出差？", "出差由王芳批准。", "出差须事先批准。"),
    ("谁提出了万有引力？", "万有引力由艾萨克·牛顿提出。", "万有引力是一种力。"),
    ("Who leads support?", "The head of support is Maria Lopez.", "Support is open on weekdays."),
    ("发票寄到哪里？", "发票寄到杭州市财务部。", "发票应当及时寄出。"),
    ("Where are returns sent?", "Returns are sent to Rotterdam.", "Returns are free of charge."),
    ("为什么要备份？", "因为硬盘会损坏。", "备份每晚进行。"),
    ("Why are backups made?", "Backups exist because disks fail.", "Backups run at night."),
    ("如何重置密码？", "首先打开设置页面。", "密码长度为十二位。"),
    ("How do I reset it?", "Press the button for ten seconds.", "The unit weighs two kilograms."),
    ("什么是重大缺陷？", "重大缺陷是指影响安全的缺陷。", "重大缺陷必须上报。"),
    ("What does SLA mean?", "SLA refers to the agreed level of service.", "Our SLA covers weekends."),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "chinese", "english"), ASKED)
def test_a_question_is_of_the_same_kind_in_both_languages(kind: QuestionType, chinese: str, english: str) -> None:
    assert (Wanted(chinese).kind, Wanted(english).kind) == (kind, kind)


@pytest.mark.parametrize(
    "question",
    [
        "What sea bordered the empire when he died?",
        "What enemy of Doctor Who is also a Time Lord?",
        "哪里都不去的人几乎没有，对此有何评论",
    ],
)
def test_a_clause_or_a_name_asks_for_no_date_and_no_person(question: str) -> None:
    assert Wanted(question).kind not in ("date", "person", "number")


@pytest.mark.parametrize(("question", "giving", "silent"), GIVEN)
def test_a_sentence_gives_what_is_asked_for_or_does_not(question: str, giving: str, silent: str) -> None:
    wanted = Wanted(question)
    assert wanted.given_by(giving)
    assert not wanted.given_by(silent)


def test_what_the_question_says_is_no_answer_to_it() -> None:
    assert not Wanted("2015年打败了谁？").given_by("那是2015年的事。")
    assert not Wanted("How many of the 18 chairs are broken?").given_by("There are eighteen chairs.")


@pytest.mark.parametrize("question", ["保修包括哪些部件？", "可以远程办公吗？", "Is a receipt needed?", ""])
def test_where_the_kind_has_no_mark_every_sentence_gives_it(question: str) -> None:
    assert Wanted(question).given_by("随便一句话。")
    assert Wanted(question).given_by("Any sentence at all.")


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_can_be_asked_and_any_text_read(question: str, sentence: str) -> None:
    wanted = Wanted(question)
    assert wanted.given_by(sentence) in (True, False)
    if wanted.kind in ("number", "date", "person", "place"):
        assert not wanted.given_by(question)
