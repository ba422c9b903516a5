"""Question sets as they are read: what is right is taken whole, what is wrong is told with its line, all of it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_service.errors import InvalidInput
from rag_service.evaluation import questions
from rag_service.evaluation.questions import Fault, Question, QuestionSet
from rag_service.types import Turn

GOOD = '{"id": "a", "text": "有几天年假？", "relevant": ["p"]}'


def read(folder: Path, *lines: str | bytes, **how: Any) -> tuple[QuestionSet, list[str]]:
    path = folder / "set.jsonl"
    path.write_bytes(b"\n".join(line.encode() if isinstance(line, str) else line for line in lines))
    asked, faults = questions.read([path], **how)
    return asked, [str(fault) for fault in faults]


def one(folder: Path, **members: Any) -> Question:
    asked, faults = read(folder, json.dumps({"id": "a", "text": "Why?", **members}))
    assert faults == []
    [question] = asked.questions
    return question


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("nope", "not JSON: Expecting value"),
        ('{"id": "b"', "not JSON: Expecting ',' delimiter"),
        ("[" * 100_000, "not JSON: nested too deep"),
        (b'{"id": "\xff"}', "not UTF-8 at byte 8"),
        ("[]", "must be an object"),
        ('"text"', "must be an object"),
        ('{"text": "Why?"}', "id: Field required"),
        ('{"id": "b"}', "text: Field required"),
        ('{"id": 7, "text": "Why?"}', "id: Input should be a valid string"),
        ('{"id": "", "text": "Why?"}', "id: String should have at least 1 character"),
        ('{"id": "b", "text": "  "}', "text: String should match pattern"),
        (json.dumps({"id": "b", "text": "x" * 8_001}), "text: String should have at most 8000 characters"),
        ('{"id": "b", "text": "a\\u0000b"}', "text: Value error, must not contain U+0000"),
        ('{"id": "b", "text": "Why?", "relevant": "p"}', "relevant: Input should be a valid list"),
        ('{"id": "b", "text": "Why?", "relevant": ["p", 3]}', "relevant.1: Input should be a valid string"),
        ('{"id": "b", "text": "Why?", "answers": "yes"}', "answers: Input should be a valid list"),
        ('{"id": "b", "text": "Why?", "answers": [1]}', "answers.0"),
        ('{"id": "b", "text": "Why?", "answerable": "no"}', "answerable: Input should be a valid boolean"),
        ('{"id": "b", "text": "Why?", "history": [{"role": "user"}]}', "history.0.content: Field required"),
        ('{"id": "b", "text": "Why?", "history": [{"role": "cat", "content": "x"}]}', "history.0.role"),
        ('{"id": "a", "text": "Why?"}', "the id 'a' stands at set.jsonl:1 already"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_line_that_is_no_question_is_told_with_its_number(tmp_path: Path, line: str | bytes, reason: str) -> None:
    asked, faults = read(tmp_path, GOOD, "", line, GOOD.replace('"a"', '"z"'))

    assert any(fault.startswith(f"set.jsonl:3: {reason}") for fault in faults), faults
    assert all(fault.startswith("set.jsonl:3: ") for fault in faults)
    assert [question.id for question in asked.questions] == ["a", "z"]


def test_every_fault_of_every_line_is_told_at_once(tmp_path: Path) -> None:
    _, faults = read(tmp_path, "nope", '{"id": 1, "text": 2, "history": 3}', GOOD, GOOD)

    assert [fault.split(":")[1] for fault in faults] == ["1", "2", "2", "2", "4"]
    with pytest.raises(InvalidInput) as raised:
        questions.demand(questions.read([tmp_path / "set.jsonl"])[1])
    assert raised.value.data["faults"] == faults
    assert "and 2 more" in raised.value.detail


def test_faults_come_in_the_order_of_files_and_lines() -> None:
    with pytest.raises(InvalidInput) as raised:
        questions.demand([Fault("b", 1, "x"), Fault("a", 10, "x"), Fault("a", 9, "x")])
    assert raised.value.data["faults"] == ["a:9: x", "a:10: x", "b:1: x"]


def test_an_id_is_of_one_question_in_all_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.jsonl").write_text(GOOD, "utf-8")
    asked, faults = questions.read([tmp_path / "one.jsonl", tmp_path / "two.jsonl"])
    assert [str(fault) for fault in faults] == ["two.jsonl:1: the id 'a' stands at one.jsonl:1 already"]
    assert (asked.name, len(asked.questions)) == ("one+two", 1)


def test_a_gzipped_set_is_the_same_set(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl.gz"
    path.write_bytes(gzip.compress(GOOD.encode()))
    packed, _ = questions.read([path])
    plain, _ = read(tmp_path, GOOD)
    assert [q.text for q in packed.questions] == [q.text for q in plain.questions]
    assert packed.name == plain.name

    path.write_bytes(gzip.compress(GOOD.encode())[:-9])
    _, [fault] = questions.read([path])
    assert str(fault).startswith("set.jsonl.gz:1: not a whole gzip file")


def test_a_byte_order_mark_and_line_separators_inside_of_texts_cut_nothing(tmp_path: Path) -> None:
    asked, faults = read(tmp_path, b"\xef\xbb\xbf" + '{"id": "a", "text": "one\u2028two\u0085three"}'.encode())
    assert faults == []
    assert asked.questions[0].text == "one\u2028two\u0085three"


def test_questions_that_came_as_a_list_are_told_by_their_place() -> None:
    asked, faults = questions.from_rows("mine", [{"id": "a", "text": "Why?"}, {"id": "a", "text": "Why?"}, 7])
    assert [str(fault) for fault in faults] == [
        "questions:2: the id 'a' stands at questions:1 already",
        "questions:3: must be an object",
    ]
    assert len(asked.questions) == 1


def test_the_gold_passages_come_from_the_member_named(tmp_path: Path) -> None:
    line = '{"id": "a", "text": "Why?", "relevant": ["p"], "relevant_cross": ["q", "q"]}'
    assert read(tmp_path, line)[0].questions[0].gold == ("p",)
    assert read(tmp_path, line, gold="relevant_cross")[0].questions[0].gold == ("q",)
    _, [fault] = read(tmp_path, line.replace('["q", "q"]', "[0]"), gold="relevant_cross")
    assert fault == "set.jsonl:1: relevant_cross.0: Input should be a valid string"


@pytest.mark.parametrize(
    ("answers", "rule", "groups"),
    [
        ([], "any", ()),
        (["12人", "十二人"], "any", (("12人", "十二人"),)),
        (["12人", "上海"], "all", (("12人",), ("上海",))),
        ([["12人", "十二人"], "上海"], "any", (("12人", "十二人"), ("上海",))),
    ],
)
def test_answers_are_groups_of_alternatives(tmp_path: Path, answers: Any, rule: Any, groups: Any) -> None:
    asked, _ = read(tmp_path, json.dumps({"id": "a", "text": "Why?", "answers": answers}), rule=rule)
    assert asked.questions[0].answers == groups


@pytest.mark.parametrize(
    ("told", "text", "language"),
    [("zh-Hant", "Why?", "zh"), ("en", "为什么？", "en"), (None, "为什么？", "zh"), ("fr", "Pourquoi ?", "en")],
)
def test_the_language_is_what_the_set_says_else_what_the_text_is(
    tmp_path: Path, told: str | None, text: str, language: str
) -> None:
    assert one(tmp_path, lang=told, text=text).language == language


def test_messages_become_exchanges(tmp_path: Path) -> None:
    said = [("system", "Topic"), ("user", "q1"), ("assistant", "a1"), ("assistant", "a2"), ("user", "q2")]
    history = [{"role": role, "content": content} for role, content in said]
    assert one(tmp_path, history=history).history == (Turn("1", "q1", "a1"), Turn("3", "", "a2"), Turn("4", "q2", ""))


def test_a_question_may_be_answered_by_the_answers_of_its_twin(tmp_path: Path) -> None:
    mine, _ = questions.from_rows(
        "zh", [{"id": "s:zh:1", "text": "几分？", "answers": ["三百"]}, {"id": "s:zh:2", "text": "谁？"}]
    )
    theirs, _ = questions.from_rows(
        "en", [{"id": "s:en:1", "text": "How many?", "answers": ["300"]}, {"id": "s:en:3", "text": "Who?"}]
    )
    first, second = questions.with_answers_of(mine, theirs).questions
    assert first.answers == (("三百", "300"),)
    assert second.answers == ()


def test_passages_are_read_with_the_same_care(tmp_path: Path) -> None:
    path = tmp_path / "passages.jsonl"
    path.write_text('{"id": "p", "text": "One.", "title": null}\n{"id": "p", "text": "Two."}\n{"id": "q"}', "utf-8")
    passages, faults = questions.read_passages([path])
    assert [(p.id, p.title, p.text) for p in passages] == [("p", "", "One.")]
    assert [str(fault) for fault in faults] == [
        "passages.jsonl:2: the id 'p' stands at passages.jsonl:1 already",
        "passages.jsonl:3: text: Field required",
    ]


@pytest.mark.parametrize("content", ["{", "{}", "[1]", "[[1]]", "[" * 100_000])
def test_equivalents_that_are_none_are_told(tmp_path: Path, content: str) -> None:
    path = tmp_path / "equivalents.json"
    path.write_text(content, "utf-8")
    groups, [fault] = questions.read_equivalents(path)
    assert groups == []
    assert str(fault).startswith("equivalents.json:1: ")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_MEMBERS = st.dictionaries(
    st.sampled_from(["id", "text", "lang", "relevant", "answers", "answerable", "history", "rewrite", "refs",
                     "source_passage", "extra"]), _JSON,
)  # fmt: skip


@given(st.lists(_MEMBERS | _JSON, max_size=5))
def test_whatever_stands_in_a_set_is_a_question_or_a_fault(rows: list[Any]) -> None:
    asked, faults = questions.from_rows("any", rows)
    told = {fault.line for fault in faults}
    assert told | {question.line for question in asked.questions} == set(range(1, len(rows) + 1))
    assert told.isdisjoint(question.line for question in asked.questions)


@given(st.binary(max_size=200))
def test_whatever_bytes_a_file_has_it_is_read_or_refused_by_line(tmp_path_factory: Any, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.jsonl"
    path.write_bytes(content)
    asked, faults = questions.read([path])
    assert all(fault.line >= 1 for fault in faults)
    assert asked.questions == ()
