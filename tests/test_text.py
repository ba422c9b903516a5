from __future__ import annotations

import re
import time
import unicodedata
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rag_service.text import (
    Sought,
    fold,
    in_context,
    index_terms,
    language_of,
    lexical_terms,
    matter_of,
    may_end_a_sentence,
    sentences,
    simplified,
    storable,
)
from rag_service.text import terms as terms_module

PIECES = [
    "年假", "五天。", "他说：“好的。”", "「真的吗？」", "3.14", "第 2 条；", "……", "！", "\n", "\n\n", " ", "　", "\t",
    "Mr. Smith", "e.g.", "U.S.", "https://a.example/b.c?d=1;e", "v2.0.", "end.", "Stop!", "(see below.)", "“Yes.”",
    "1.", "12,000.50", "x", ".", "...", "?", ";", "a.m.", "。", "”", ")", "J. R. R. Tolkien", "X-200", "15 cm",
    "𠮷", "🙂", "（", "[1]", "[^", "“", '"', "他说：", "他问", "《", "》", ":", "，",
    "．", "etc. The", "¹", "a", "！\ufe0f",
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


@given(TEXTS, st.data())
def test_what_comes_later_changes_no_sentence_but_the_last(text: str, data: st.DataObject) -> None:
    """What is shown of an answer that is being written relies on it."""
    begun = cut(text[: data.draw(st.integers(0, len(text)))])[:-1]
    assert cut(text)[: len(begun)] == begun


@given(TEXTS)
def test_a_sentence_is_one_sentence(text: str) -> None:
    for sentence in cut(text):
        assert cut(sentence) == [sentence]


@given(TEXTS, TEXTS, TEXTS)
def test_a_part_has_the_sentences_it_has_alone(before: str, text: str, after: str) -> None:
    start, end = len(before), len(before) + len(text)
    inside = [(a - start, b - start) for a, b in sentences(before + text + after, start, end)]
    assert inside == list(sentences(text))


@given(TEXTS, TEXTS)
def test_two_paragraphs_have_the_sentences_of_each(one: str, other: str) -> None:
    assert cut(f"{one}\n\n{other}") == cut(one) + cut(other)


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
        ("「真的嗎？」他問。", ["「真的嗎？」他問。"]),
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


# ¦ stands where one sentence ends and the next begins; blanks beside it are in neither.
READ_BY_HAND = """
年假五天。¦病假十天。
第一；¦第二；¦第三
真的吗？！¦当然！！¦好。
真的嗎？¦當然！¦好。
等等……¦后来呢？！
他想了想……，还是走了。
……后来呢？
结束⋯⋯¦開始
他说：“好的。”¦然后走了。
他說：「好的。」¦然後走了。
他说：“好的。”的时候，没人注意。
他说：“好。¦我去。”¦然后走了。
“好！”¦“不好。”
“好。”他说。¦“不好。”她笑道。
「真的嗎？」他問。
“真的吗？”小王问道，没人回答。
「我來了。¦你呢？」他問。
“知识就是力量。”¦这句话很有名。
“没有调查，就没有发言权。”¦会议强调了这一点。
他把“安全第一！”挂在嘴边。
他把「安全第一！」掛在嘴邊。
标语“严禁烟火！”和“小心地滑！”各一块。
标题后写了一个“？”就没有下文。
这里用“！”表示重要。¦那里不用。
他读了《为什么？》。¦然后睡了。
《怎么办？》是一本书。
《你是谁？》《走吧！》都看过。
「布令曰：『有敢言者，族。』」，此後無人敢言。
他说：“她喊‘救命！’”¦大家都去了。
好。¦"不好。"他说。
他问："好吗？"¦没人回答。
（见附录。）¦下一句
本条（见附录。）适用于全体员工。¦下一条。
员工（含实习生；不含外包）可休假。¦试用期除外。
員工（含實習生；不含外包）可休假。¦試用期除外。
他（真的吗？）走了。
合同（以下简称“本合同”；一式两份）生效。
【注意！】¦请勿打开。
注意【不可逆！】操作。
共3.5元。¦涨了0.2%.¦后来
价格是３．１４元。¦税率６．５％。
价格为3.14¦
圆周率为3.14。¦约等于三。
版本v2.0.1已发布。¦请升级。
版本 4.1 已停止。¦Version 4.2 is out.
第3.2条规定如下。¦第3.3条另有规定。
第３．２条规定如下．¦第３．３条另有规定．
3.2.1 适用范围。¦3.2.2 例外。
3.2.1. Scope of this policy. ¦It applies to all.
（一）总则。¦（二）细则。
一、总则。¦二、细则。
一. 总则。¦二. 细则。
(1) First part; ¦(2) second part.
1) First part. ¦2) Second part.
1. Open the lid. ¦2. Close it.
１．打开。¦２．关上。
a. Open the lid. ¦b. Close it.
IV. Results. ¦V. Discussion.
如下：1.总则2.范围3.附则。¦完。
步骤:1. 打开盖子。¦完。
Steps: 1. Open the lid. ¦Done.
上午10:30开会。¦下午3:15结束。
会议定于10:30.¦请准时。
网址是https://a.example/b.c?d=1;e=2#f。¦请访问。
请看http://a.example/s?年假=1。¦谢谢。
请看 www.example.com/a.b?c=d!e 这里。
See www.example.com/a.b?c=d! ¦Then come back.
See https://example.com/a.b/c?d=e;f=g. ¦Then come back.
请发邮件到hr.team@mail.example.com。¦谢谢。
Write to first.last@mail.example.com. ¦Thanks.
打开报告.v2.final.docx。¦然后签字。
打开 report.v2.docx. ¦Sign it.
README.md在根目录。¦LICENSE也在。
Node.js和ASP.NET都可以。¦Vue.js也可以。
Use Node.js. ¦It is fast.
It works.¦然后重启。¦Done.
It works.¦“好的。”
Done.¦（见附录）
参见Fig. 3。¦完。
维生素C.¦另一句
服用维生素C. ¦每天两次。
A计划不行。¦B计划可以。
iPhone 15 Pro售价¥7,999.00元。¦有货。
GDP增长5.2%。¦CPI下降0.3%。
x = a;b 不是句子。¦下一句。
规定见下文。[1]¦下一句。[23]¦完。
规定见下文。[^1]¦下一句。[^note-2]
规定见下文²。¦完。
规定见下文。²¦完。
規定見下文。¦[文档](a.md)说明。
The city.[12] ¦Another one.[3][4] ¦End.
The city.[^a] ¦Another one.
The city.² ¦Another one.
See [1]. ¦Then [2].
It has [...] more. ¦And (…) less.
"...and so it went." ¦Then it ended.
Wait... ¦What? ¦Yes; ¦no.
Wait… ¦What?
What?! ¦No!!! ¦Really?..
It works. ¦It really does!
He said "yes." ¦Then he left.
He said 'yes.' ¦Then he left.
"Really?" he asked. ¦"Yes." ¦She left.
“Really?” he asked. ¦“Yes!” ¦She left.
(See the annex.) ¦It is long.
The annex (see below. It is long) says so. ¦End.
The annex (is it long?) says so. ¦End.
He left (why?) and came back.
Mr. Smith met Dr. Li and Prof. Wu. ¦They talked.
J. R. R. Tolkien wrote it. ¦J.R.R. Tolkien did.
X. He and Y. You wrote it. ¦Z. An did not.
He moved to the U.S. in May. ¦She stayed in the U.K. ¦
U.S. law applies. ¦EU law does not.
He lives in the U.S. ¦They do not.
It opens at 9 a.m. and closes at 5 p.m. ¦The office is small.
It closes at 5 p.m. today.
He works at Acme Inc. ¦The firm is big.
Acme Inc. of Suzhou and Foo Ltd. of Leeds agreed.
Apples, pears, etc. are fruit. ¦Fine.
Apples, pears, etc. ¦The rest is not.
Li et al. (2020) say so. ¦Wu et al. disagree.
See Fig. 3 and Figs. 4, 5. ¦See No. 5, vol. 2, pp. 3-4.
Is it so? ¦No. ¦That is wrong.
The answer is no. ¦We tried.
See art. 5 and sec. 3.2. ¦This is art. ¦That is not.
e.g. this and i.e. that, cf. those. ¦End.
Gen. Grant met Rev. King. ¦End.
He has a Ph.D. in law. ¦She has an M.D. ¦They met.
It grew 3.14 percent. ¦It fell 1.2.3 points.
It costs 12,000.50. ¦Or less.
It costs $3.50! ¦Or less.
The year was 1999. ¦The next was 2000.
Version 2.0. ¦Version 2.1.
Mix &amp; match; ¦then stop.
Tom &quot; Jerry.
Ulus (lit. State) and Khan, lit. Lord. ¦End.
The .NET runtime and the .gitignore file. ¦End.
Ask at 10:30; ¦or at 11.
Yes.) ¦No.
请看e.g.这个。¦好。
他在Acme Inc.工作。¦她不在。
他叫李.¦她叫王.
我们用X-200(见下;含附件)测量。¦完。
第一行
""".strip().split("\n")


@pytest.mark.parametrize("marked", READ_BY_HAND)
def test_sentences_are_those_a_person_marked(marked: str) -> None:
    wanted = [part.strip() for part in marked.split("¦")]
    assert cut(marked.replace("¦", "")) == [part for part in wanted if part]


@pytest.mark.parametrize("marked", READ_BY_HAND)
def test_while_a_text_is_written_its_sentences_only_grow_in_number(marked: str) -> None:
    text = marked.replace("¦", "")
    whole = cut(text)
    for length in range(len(text)):
        begun = cut(text[:length])[:-1]
        assert whole[: len(begun)] == begun


HOSTILE = [
    "a. ", "e.g. ", "Mr.", ".", "1. ", "x.y ", "\n ", '.")', "。", "…", ";", "no", "1", '。"', "(a。", "（；", "……，",
    "?a=1", "“好。”他", "[1]", "a:\n", "．", "a…，", "1.2.", "  ", "(a", "。[", '"a?',
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_text_costs_linear_time(piece: str) -> None:
    """200,000 of a piece took a quarter of an hour when looking back was unlimited."""
    begun = time.thread_time()
    for text in (piece * 200_000, piece * 200_000 + "x"):
        assert sum(1 for _ in sentences(text)) >= 0
    assert time.thread_time() - begun < 8


@given(st.text(max_size=60))
def test_folding_makes_equal_what_looks_equal(text: str) -> None:
    for form in ("NFC", "NFD", "NFKC"):
        assert fold(unicodedata.normalize(form, text)) == fold(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other"), [("ＡＢＣ１２３", "abc123"), ("Straße", "STRASSE"), ("ﬁle", "FILE"), ("ｶﾞ", "ガ"), ("①", "1")]
)
def test_width_and_case_do_not_matter(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("軟體", "软体"), ("臺灣", "台湾"), ("裏面", "里面"), ("裡面", "里面"), ("皇后", "皇後"), ("幹部", "干部"),
     ("乾燥", "干燥"), ("著作", "着作"), ("衞生", "卫生"), ("髮型", "发型"), ("這個", "这个"), ("羣眾", "群众")],
)  # fmt: skip
def test_traditional_and_simplified_characters_meet(one: str, other: str) -> None:
    assert fold(one) == fold(other)
    assert lexical_terms(one) == lexical_terms(other)


@given(st.text(max_size=60))
def test_simplifying_keeps_every_place_and_is_done_once(text: str) -> None:
    assert len(simplified(text)) == len(text)
    assert simplified(simplified(text)) == simplified(text)


def test_every_character_is_simplified_once_for_all() -> None:
    every = "".join(map(chr, [*range(0x3400, 0xA000), *range(0xF900, 0xFB00)]))
    assert simplified(simplified(every)) == simplified(every)


@given(st.text(max_size=80) | st.text(alphabet="aB1２３年-_./@:+#\\ ", max_size=40))
def test_terms_are_folded_and_without_spaces_or_marks_but_for_those_within_a_number(text: str) -> None:
    for term in index_terms(text):
        assert term
        assert term == fold(term)
        marked = any(c.isspace() or c in "_+" or unicodedata.category(c)[0] == "P" for c in term)
        assert not marked or re.fullmatch(r"[0-9]+(?:[-_./@:+#\\][0-9]+)+", term)


@given(TEXTS, TEXTS)
def test_the_terms_of_two_lines_are_those_of_each(one: str, other: str) -> None:
    assert lexical_terms(f"{one}\n{other}") == lexical_terms(one) + lexical_terms(other)


@given(st.text(alphabet="年假病休工作五天", min_size=2, max_size=30), st.data())
def test_any_part_of_a_chinese_text_is_found_by_its_terms(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 2))
    end = data.draw(st.integers(start + 2, len(text)))
    assert set(lexical_terms(text[start:end])) <= set(lexical_terms(text))
    assert set(text) <= set(index_terms(text))


@given(TEXTS)
def test_a_text_is_found_by_all_that_a_question_of_its_words_asks(text: str) -> None:
    asked, found_by = Counter(lexical_terms(text)), Counter(index_terms(text))
    assert asked <= found_by
    assert all(len(term) == 1 and term >= "\u3005" for term in (found_by - asked))


@given(
    TEXTS, st.lists(TEXTS, max_size=3), st.sets(st.sampled_from(["年", "假", "年假", "年假五", "x-200", "", "天。"]))
)
@example("X-200 分析仪 2.0", ["x200 分", "析仪 2.0"], {"分析仪"})
def test_what_is_sought_is_found_where_it_is_an_index_term(text: str, others: list[str], more: set[str]) -> None:
    sought = more.union(*map(index_terms, [*others, text[: len(text) // 2]]))
    assert Sought.of(sought).within(text) == sought & set(index_terms(text))


def test_terms_are_the_same_however_few_words_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join([*map(str, range(50)), "Walking, walking (X-200)", "a-" * 50, "年假 e-mail"])
    expected = index_terms(text)
    remembered = terms_module._TermsRemembered()
    monkeypatch.setattr(terms_module, "_MOST_REMEMBERED", 3)
    monkeypatch.setattr(terms_module, "_terms_of", remembered.__getitem__)
    assert [index_terms(text), index_terms(text)] == [expected, expected]
    assert 0 < len(remembered) <= 3
    assert max(map(len, remembered)) <= 64


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("年假五天", ["年假", "假五", "五天"]),
        ("假", ["假"]),
        ("X-200 分析仪", ["x", "200", "x200", "分析", "析仪"]),
        ("Batteries and buses, boxes; glasses", ["batteri", "and", "buse", "box", "glass"]),
        ("this is gas", ["this", "is", "gas"]),
        ("snake_case", ["snake", "case", "snakecase"]),
        ("カタカナ", ["カタ", "タカ", "カナ"]),
        ("人々", ["人々"]),
        ("。，！", []),
    ],
)
def test_terms(text: str, terms: list[str]) -> None:
    assert lexical_terms(text) == terms


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("battery", "batteries"), ("day", "days"), ("device", "devices"), ("claim", "claims"), ("box", "BOXES"),
        ("cover", "covering"), ("covers", "covered"), ("relational", "relate"), ("organisation", "organisations"),
    ],
)  # fmt: skip
def test_forms_of_an_english_word_meet(one: str, other: str) -> None:
    assert lexical_terms(one) == lexical_terms(other)


@pytest.mark.parametrize(
    ("one", "other"), [("new", "news"), ("universe", "us"), ("café", "cafe"), ("данные", "данных")]
)
def test_other_words_and_other_languages_are_left_as_they_are(one: str, other: str) -> None:
    assert lexical_terms(one) != lexical_terms(other)


WHOLE = {
    "GB/T 7714-2015": ("gbt", "7714-2015"),
    "ＧＢ／Ｔ ７７１４－２０１５": ("gbt", "7714-2015"),
    "X-200": ("x200",),
    "x_200": ("x200",),
    "a.b@example.com": ("abexamplecom",),
    "0x80070005": ("0x80070005",),
    "ERR_CONN-42": ("errconn42",),
    "v1.2.3": ("v123",),
    "2026-11-26": ("2026-11-26",),
    "192.168.0.1": ("192.168.0.1",),
}


@pytest.mark.parametrize(("written", "terms"), WHOLE.items())
@pytest.mark.parametrize("around", ["{}", "（{}）", "see {}, or ask", "见 {}。", "“{}”；"])
def test_an_identifier_is_also_a_term_as_a_whole(written: str, terms: tuple[str, ...], around: str) -> None:
    assert set(terms) <= set(lexical_terms(around.format(written)))


@pytest.mark.parametrize("text", ["and/or", "state-of-the-art", "TCP/IP", "well-known", "e.g", "on.In"])
def test_words_that_are_only_joined_are_no_identifier(text: str) -> None:
    assert lexical_terms(text) == lexical_terms(re.sub(r"\W", " ", text))


def test_what_is_too_long_for_an_identifier_is_words() -> None:
    assert len(lexical_terms("-".join(["a1"] * 100))) == 100


@pytest.mark.parametrize(
    ("question", "matter"),
    [
        ("年假有几年？", "年假有"),
        ("软件由谁负担", "软件由 负担"),
        ("軟體由誰負擔", "软体由 负担"),
        ("How long does the battery last?", "battery last"),
        ("What is it?", "it"),
        ("谁？", "谁"),
        ("What is the", "what is the"),
        ("", ""),
    ],
)
def test_what_a_question_is_about_is_what_does_not_ask(question: str, matter: str) -> None:
    assert " ".join(re.findall(r"\w+", matter_of(question))) == matter


@given(st.text(max_size=60) | st.text(alphabet="什么谁how is 年a ", max_size=20))
def test_a_question_of_any_word_is_about_something(question: str) -> None:
    assert bool(lexical_terms(matter_of(question))) == bool(lexical_terms(question))


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
    assert in_context(("手册", "名称 | 数"), "| 名称 | 数 |\n| --- | --- |") == "手册\n| 名称 | 数 |\n| --- | --- |"
    assert in_context(("手册", "名称 | 数"), "| 螺丝 | 3 |") == "手册\n名称 | 数\n| 螺丝 | 3 |"


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
