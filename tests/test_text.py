from __future__ import annotations

import re
import time
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rag_service.text import fold, in_context, language_of, lexical_terms, may_end_a_sentence, sentences, storable

PIECES = [
    "年假", "五天。", "他说：“好的。”", "「真的吗？」", "3.14", "第 2 条；", "……", "！", "\n", "\n\n", " ", "　", "\t",
    "Mr. Smith", "e.g.", "U.S.", "https://a.example/b.c?d=1;e", "v2.0.", "end.", "Stop!", "(see below.)", "“Yes.”",
    "1.", "12,000.50", "x", ".", "...", "?", ";", "a.m.", "。", "”", ")", "J. R. R. Tolkien", "X-200", "15 cm",
    "𠮷", "🙂",
]  # fmt: skip
TEXTS = st.one_of(st.lists(st.sampled_from(PIECES), max_size=25).map("".join), st.text(max_size=120))


def cut(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


@given(TEXTS)
@example("a. " * 50)
@example("。。。”\n\n“")
def test_sentences_hold_every_character_that_is_no_space_once_and_in_order(text: str) -> None:
    spans = list(sentences(text))
    assert all(start < end for start, end in spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    assert "".join("".join(text[start:end].split()) for start, end in spans) == "".join(text.split())
    for start, end in spans:
        assert text[start:end] == text[start:end].strip() != ""


@given(TEXTS, st.integers(0, 60), st.integers(0, 60))
def test_sentences_of_a_part_stay_inside_it(text: str, start: int, length: int) -> None:
    start = min(start, len(text))
    end = min(start + length, len(text))
    spans = list(sentences(text, start, end))
    assert all(start <= first < last <= end for first, last in spans)
    assert "".join("".join(text[a:b].split()) for a, b in spans) == "".join(text[start:end].split())


@given(TEXTS)
def test_a_sentence_of_a_text_is_never_only_what_closes_the_one_before(text: str) -> None:
    """Closing quotes and brackets go with the sentence they close."""
    for before, after in pairwise(sentences(text)):
        if text[before[1] - 1] in "。！？" and before[1] == after[0]:
            assert text[after[0]] not in "」』”’）】》"


WHOLE = [
    "3.14", "0.5%", "12,000.50", "v2.0.1", "https://a.example/b.c?d=1;e=2#f", "mail@a.example", "e.g. this",
    "i.e. that", "Mr. Smith", "Dr. Li", "U.S. law", "5 p.m. today", "J. R. R. Tolkien", "J.R.R. Tolkien", "No. 5",
    "Fig. 3", "Acme Inc. of Suzhou", "a;b", "10:30", "P.R.C. law",
]  # fmt: skip


AROUND = ["{}", "See {} here.", "请看 {} 这里。", "好。{} 说", "参加者：{}，等", "（{}）", "是{}吗？"]


@pytest.mark.parametrize("whole", WHOLE)
@pytest.mark.parametrize("around", AROUND)
def test_nothing_is_cut_inside(whole: str, around: str) -> None:
    text = around.format(whole)
    assert any(whole in sentence for sentence in cut(text)), cut(text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("年假五天。病假十天。", ["年假五天。", "病假十天。"]),
        ("他说：“好的。”然后走了。", ["他说：“好的。”", "然后走了。"]),
        ("「真的嗎？」他問。", ["「真的嗎？」", "他問。"]),
        ("（见附录。）下一句", ["（见附录。）", "下一句"]),
        ("等等……后来呢？！", ["等等……", "后来呢？！"]),
        ("第一；第二；第三", ["第一；", "第二；", "第三"]),
        ("It works. It really does!", ["It works.", "It really does!"]),
        ('He said "yes." Then he left.', ['He said "yes."', "Then he left."]),
        ("Wait... what? Yes; no.", ["Wait...", "what?", "Yes;", "no."]),
        ("共3.5元。涨了0.2%.后来", ["共3.5元。", "涨了0.2%.", "后来"]),
        ("First line\nSecond line", ["First line", "Second line"]),
        ("1. Open the lid. 2. Close it.", ["1. Open the lid.", "2. Close it."]),
        ("维生素C.另一句", ["维生素C.", "另一句"]),
        ("服用维生素C. 每天两次。", ["服用维生素C.", "每天两次。"]),
        ("版本 4.1 已停止。Version 4.2 is out.", ["版本 4.1 已停止。", "Version 4.2 is out."]),
        ("The end.", ["The end."]),
        (" \n\t ", []),
        ("", []),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, wanted: list[str]) -> None:
    assert cut(text) == wanted


@pytest.mark.parametrize("piece", ["a. ", "e.g. ", "Mr.", ".", "1. ", "x.y ", "\n ", '.")', "。", "…", ";", "no", "1"])
def test_hostile_text_costs_linear_time(piece: str) -> None:
    """200,000 of a piece took a quarter of an hour when looking back was unlimited."""
    begun = time.process_time()
    for text in (piece * 200_000, piece * 200_000 + "x"):
        assert sum(1 for _ in sentences(text)) >= 0
    assert time.process_time() - begun < 8


@given(st.text(max_size=60))
def test_folding_makes_equal_what_looks_equal(text: str) -> None:
    for form in ("NFC", "NFD", "NFKC"):
        assert fold(unicodedata.normalize(form, text)) == fold(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other"), [("ＡＢＣ１２３", "abc123"), ("Straße", "STRASSE"), ("ﬁle", "FILE"), ("ｶﾞ", "ガ"), ("①", "1")]
)
def test_width_and_case_do_not_matter(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@given(st.text(max_size=80))
def test_terms_are_folded_and_without_spaces_or_marks(text: str) -> None:
    for term in lexical_terms(text):
        assert term
        assert not any(c.isspace() or c == "_" or unicodedata.category(c)[0] == "P" for c in term)


@given(TEXTS, TEXTS)
def test_the_terms_of_two_lines_are_those_of_each(one: str, other: str) -> None:
    assert lexical_terms(f"{one}\n{other}") == lexical_terms(one) + lexical_terms(other)


@given(st.text(alphabet="年假病休工作五天", min_size=2, max_size=30), st.data())
def test_any_part_of_a_chinese_text_is_found_by_its_terms(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 2))
    end = data.draw(st.integers(start + 2, len(text)))
    assert set(lexical_terms(text[start:end])) <= set(lexical_terms(text))


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("年假五天", ["年假", "假五", "五天"]),
        ("假", ["假"]),
        ("X-200 分析仪", ["x", "200", "分析", "析仪"]),
        ("Batteries and buses, boxes; glasses", ["battery", "and", "buse", "boxe", "glasse"]),
        ("this is gas", ["thi", "is", "gas"]),
        ("snake_case", ["snake", "case"]),
        ("カタカナ", ["カタ", "タカ", "カナ"]),
        ("人々", ["人々"]),
        ("。，！", []),
    ],
)
def test_terms(text: str, terms: list[str]) -> None:
    assert lexical_terms(text) == terms


@pytest.mark.parametrize(
    ("one", "other"), [("battery", "batteries"), ("day", "days"), ("device", "devices"), ("claim", "claims")]
)
def test_singular_and_plural_meet(one: str, other: str) -> None:
    assert lexical_terms(one) == lexical_terms(other)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("年假有几天？", "zh"),
        ("X-200 分析仪背面要留多大的散热空间？", "zh"),
        ("How many days?", "en"),
        ("What does 年假 mean in the handbook of the company?", "en"),
        ("", "en"),
        ("12345", "en"),
        ("臺中服務中心", "zh"),
        ("USB 接口", "zh"),
    ],
)
def test_the_language_is_the_one_that_carries_the_text(text: str, language: str) -> None:
    assert language_of(text) == language


@given(
    st.text(alphabet="年假病休。，", min_size=1).filter(lambda t: t.strip("。，")), st.text(alphabet="0123456789 .,")
)
def test_digits_and_marks_do_not_change_a_language(han: str, marks: str) -> None:
    assert language_of(han + marks) == "zh"


@given(st.lists(st.text(min_size=1, max_size=12), max_size=4), st.text(max_size=60))
def test_context_ends_with_the_text_and_names_every_heading(headings: list[str], text: str) -> None:
    whole = in_context(headings, text)
    assert whole.endswith(text)
    assert all(heading in whole for heading in headings)


def test_headings_the_text_begins_with_are_not_said_twice() -> None:
    assert in_context(("手册", "年假"), "## 年假\n五天。") == "手册\n## 年假\n五天。"


@given(st.text())
def test_what_is_made_storable_is_utf8_without_nul_and_otherwise_the_same(text: str) -> None:
    made = storable(text)

    assert "\x00" not in made.encode("utf-8").decode("utf-8")
    assert [b for a, b in zip(text, made, strict=True) if a != b] == ["\ufffd"] * len(
        re.findall("[\x00\ud800-\udfff]", text)
    )


@given(st.lists(st.text("ab。.!? \n…；;", max_size=5), max_size=8))
def test_where_no_piece_may_end_a_sentence_there_is_one_at_most(pieces: list[str]) -> None:
    quiet = [piece for piece in pieces if not may_end_a_sentence(piece)]

    assert len(list(sentences("".join(quiet)))) <= 1
