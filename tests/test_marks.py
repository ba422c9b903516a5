from __future__ import annotations

import re
import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rag_service.answering.code_spans import Code
from rag_service.answering.mark_forms import LONGEST, numbers, unfinished
from rag_service.answering.marks import joined, marked, normalise, split, stripped, without

PASSAGES = 3
PARTS = [
    "[1]", "[2]", "[99]", "【1】", "［2］", "[1,3]", "[citation: 1, 3]", "[[1]]", "[", "]", "1", "9", "。", "！", "；",
    ". ", ".", "!", "”", '"', ")", " ", "\n", "\n\n", "`", "```", "~~~", "a", "word", "年假", "(", ",", "、", "- ",
    "# ", "|", "1. ", "> ", "\t", "--", "_b", "()", "e.g.", "\u3000", "=", "**", "：", "5 p.m.", "他说：“好。”",
]  # fmt: skip
REPLIES = st.one_of(st.lists(st.sampled_from(PARTS), max_size=16).map("".join), st.text(max_size=40))


def tidy(text: str) -> str:
    return normalise(text, PASSAGES)


@pytest.mark.parametrize(
    ("mark", "cited"),
    [
        ("[1]", (1,)), ("【1】", (1,)), ("［1］", (1,)), ("[ 1 ]", (1,)), ("[１]", (1,)), ("【1]", (1,)),
        ("[01]", (1,)), ("[1,3]", (1, 3)), ("[1、3]", (1, 3)), ("[1，3]", (1, 3)), ("[1;3]", (1, 3)),
        ("[3, 1, 3]", (3, 1)),
        ("[1；3]", (1, 3)), ("[1 3]", (1, 3)), ("[1-3]", (1, 2, 3)), ("[1–2]", (1, 2)), ("[2-99999999999]", (2, 3)),
        ("[^1]", (1,)), ("[citation:1]", (1,)), ("[citation: 1, 3]", (1, 3)), ("[Citation 2]", (2,)),
        ("[citation:1, citation:2]", (1, 2)), ("[source 1]", (1,)), ("[来源1]", (1,)), ("[来源：1、2]", (1, 2)),
        ("[文档 3]", (3,)), ("【1†source】", (1,)), ("[[1],[3]]", (1, 3)), ("[来源: [2]]", (2,)), ("[1,]", (1,)),
        ("[来源 2024]", ()), ("[99]", ()), ("[0]", ()), ("[2,99]", (2,)), ("[7-9]", ()), ("[12345]", ()),
    ],
)  # fmt: skip
def test_marks_in_every_form_are_read(mark: str, cited: tuple[int, ...]) -> None:
    assert numbers(mark, PASSAGES) == cited
    wanted = "".join(f"[{number}]" for number in cited)
    assert tidy(f"年假{mark}。") == f"年假{wanted}。"


@pytest.mark.parametrize(
    "text",
    [
        "[2024年]", "[x]", "[ ]", "[sic]", "[1.5]", "[1:3]", "[-1]", "[1/2]", "国发[2024]5号", "【2024】", "[0, 1]",
        "[0-9]", "[3-1]", "[a1]", "[1](http://a.example)", "![1](a.png)", "[x](http://a.example/[)",
        "【注意】", "[第1条]", "[]",
        "[2024-12-25]", "(1)", "（1）", "[,]", "a[1]", "x[0][1]", "my_list[2]", "f()[1]", "`[1]`", "``[9] ` [9]``",
        "```\n[9]\n【1】\n```", "~~~\n[9]\n~~~", "[" + "1" * LONGEST + "]",
    ],
)  # fmt: skip
def test_other_brackets_are_text(text: str) -> None:
    for reply in (f"见 {text} 等。" if "\n" not in text else text, text):
        assert tidy(reply) == reply
        assert stripped(reply) == reply
        assert [sentence.numbers for sentence in split(reply) if sentence.numbers] == []


MARK_FORMS = st.builds(
    lambda opener, label, items, blank, name, closer: f"{opener}{blank}{label}{items}{name}{closer}",
    st.sampled_from("[［【"),
    st.sampled_from(["", "^", "citation:", "Citation ", "来源", "来源：", "source 1, source ", "参考资料 "]),
    st.lists(st.sampled_from(["1", "2 - 3", "１２", "[3]", "7–9"]), min_size=1, max_size=3).map(", ".join),
    st.sampled_from(["", " "]),
    st.sampled_from(["", "†", "†手册 a"]),
    st.sampled_from("]］】"),
).filter(lambda mark: len(mark) <= LONGEST)


@given(MARK_FORMS)
def test_every_beginning_of_a_mark_is_an_unfinished_mark(mark: str) -> None:
    """What the stream holds back: an inner mark is complete when the outer one is looked at."""
    assert numbers(mark, 99)
    assert not unfinished(mark)
    for end in range(1, len(mark)):
        nested = mark[1:end].count("[") > mark[1:end].count("]")
        assert nested or unfinished(mark[:end])


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("年假十二天。[1]", "年假十二天[1]。"),
        ("年假十二天。[1]病假十天。【2】", "年假十二天[1]。病假十天[2]。"),
        ("年假十二天。 [1] 病假十天。", "年假十二天[1]。病假十天。"),
        ("It is text.[1] Next", "It is text [1]. Next"),
        ("It is text. [1] Next one. [2]", "It is text [1]. Next one [2]."),
        ("It is text.[1]Next", "It is text [1]. Next"),
        ("It is text[1]. Next", "It is text[1]. Next"),
        ("他说：“好。”[1]然后", "他说：“好[1]。”然后"),
        ("他说：“好。[1]”然后", "他说：“好[1]。”然后"),
        ('He said "yes." [1]', 'He said "yes [1]."'),
        ("（见附录。）[1]", "（见附录[1]。）"),
        ("真的吗？！[1]", "真的吗[1]？！"),
        ("Really?[1] Yes![2]", "Really [1]? Yes [2]!"),
        ("第一；[1]第二；[2]", "第一[1]；第二[2]；"),
        ("等等……[1]", "等等[1]……"),
        ("共 50 %.[1] Then", "共 50 % [1]. Then"),
        ("年假[1]。[2]", "年假[1][2]。"),
        ("年假[1]。[1]", "年假[1]。"),
        ("年假[1] [3] [1]。", "年假[1][3]。"),
        ("见[1]、[2]。", "见[1][2]。"),
        ("根据[1]，年假十二天。", "根据[1]，年假十二天。"),
        ("年假。\n[1]\n病假。", "年假[1]。\n病假。"),
        ("年假。\n\n[1]\n\n病假。", "年假[1]。\n\n病假。"),
        ("年假。\n[1] 病假。[2]", "年假[1]。\n病假[2]。"),
        ("- 年假。\n[1]\n- 病假 [2]", "- 年假[1]。\n- 病假 [2]"),
        ("年假\n[1]", "年假[1]"),
        ("[1] 年假。", "[1] 年假。"),
        ("来源：\n[1] 手册。\n[2] 规程。", "来源：\n[1] 手册。\n[2] 规程。"),
        ("年假。\n\n[1] 病假。", "年假。\n\n[1] 病假。"),
        ("年假。\n[1] ```\nx\n```", "年假。\n[1] ```\nx\n```"),
        ("| a | b。[1] |\n[2]", "| a | b。[1] |\n[2]"),
        ("## 年假。[1]\n[2]", "## 年假。[1]\n[2]"),
        ("```\nx。\n```\n[1]", "```\nx。\n```\n[1]"),
        ("Items, e.g. [1] foo.", "Items, e.g. [1] foo."),
        ("Version 2.[1]5", "Version 2.[1]5"),
        ("1. [1] Open.", "1. [1] Open."),
        ("x = a。[1]", "x = a [1]。"),
        ("  年假。[1] \n\n", "年假[1]。"),
        ("年假[9]。[8]", "年假。"),
        ("年假。[1", "年假。"),
        ("", ""),
    ],
)
def test_marks_stand_before_the_full_stop_of_what_they_support(said: str, wanted: str) -> None:
    assert tidy(said) == wanted


@settings(max_examples=3_000, deadline=None)
@given(REPLIES)
@example("_b。\n[1]")
@example("[；]  【1】--")
@example("A。\n[1]\n\n[2] - \n")
@example("a [[1][\n")
@example("[1](。. 。)[1]")
@example("句末用“。” 。[1]")
def test_normalising_twice_is_normalising_once(reply: str) -> None:
    once = tidy(reply)
    assert tidy(once) == once
    assert once == once.strip()


@settings(max_examples=1_000, deadline=None)
@given(REPLIES)
def test_only_passages_of_the_prompt_are_cited(reply: str) -> None:
    cited = [number for sentence in split(tidy(reply)) for number in sentence.numbers]
    assert set(cited) <= {1, 2, 3}
    assert not [number for sentence in split(normalise(reply, 0)) for number in sentence.numbers]


@settings(max_examples=1_000, deadline=None)
@given(REPLIES)
def test_the_sentences_joined_are_the_reply_again(reply: str) -> None:
    once = tidy(reply)
    cut = split(once)
    assert joined(cut) == once
    assert "".join(sentence.before + sentence.text for sentence in cut) == once
    assert all(sentence.before.strip() == "" != sentence.text for sentence in cut)
    assert all(sentence.plain == sentence.text.strip() for sentence in cut if not sentence.numbers)


@settings(max_examples=1_000, deadline=None)
@given(REPLIES)
def test_stripping_leaves_no_mark_and_strips_once(reply: str) -> None:
    bare = stripped(reply)
    assert stripped(bare) == bare
    assert not [number for sentence in split(bare) for number in sentence.numbers]


WORDS = st.lists(st.sampled_from(["年假", "十二天", "battery", "“好”", "50 %", "(x)"]), min_size=1, max_size=4).map(
    " ".join
)
SAID = st.lists(
    st.tuples(
        WORDS,
        st.lists(st.integers(1, 9), max_size=3, unique=True),
        st.sampled_from(["。", "！", "？", "。”", ".", "!"]),
    ),
    min_size=1,
    max_size=6,
)
WRITTEN = st.sampled_from(["[{}]", "【{}】", "［{}］", "[citation:{}]", "[来源{}]", "[ {} ]"])


@settings(max_examples=500, deadline=None)
@given(SAID, WRITTEN, st.booleans(), st.sampled_from([" ", "\n", "\n\n"]))
def test_however_a_model_writes_its_marks_each_sentence_gets_its_own(
    said: list[tuple[str, list[int], str]], form: str, after: bool, between: str
) -> None:
    written = []
    for words, cited, ending in said:
        marks = "".join(form.format(number) for number in cited)
        written.append(
            f"{words}{ending}{marks}" if after else f"{words} {marks}{ending}" if marks else f"{words}{ending}"
        )
    cut = split(normalise(between.join(written), 9))
    assert [(sentence.plain, list(sentence.numbers)) for sentence in cut] == [(w + e, cited) for w, cited, e in said]
    if after:
        assert all(marked(sentence.plain, sentence.numbers) == sentence.text for sentence in cut)


@given(
    # As sentences are cut: without white space at their ends.
    st.text(alphabet=string.ascii_letters + "年假。.!?”) ", min_size=1, max_size=20).map(str.strip).filter(bool),
    st.lists(st.integers(1, 9), max_size=3),
)
def test_a_sentence_is_marked_before_its_end_with_each_number_once(sentence: str, cited: list[int]) -> None:
    said = marked(sentence, cited)
    marks = re.search(r" ?(?:\[\d\])+", said)
    assert (said[: marks.start()] + said[marks.end() :] if marks else said) in (sentence, sentence.replace(" ", "", 1))
    assert re.findall(r"\d", said) == [str(number) for number in dict.fromkeys(cited)]


@pytest.mark.parametrize(
    ("sentence", "said"),
    [
        ("年假。", "年假[1][3]。"),
        ("He said yes.", "He said yes [1][3]."),
        ("50 %", "50 % [1][3]"),
        ("好。”", "好[1][3]。”"),
        ("", "[1][3]"),
    ],
)
def test_several_marks_stand_together(sentence: str, said: str) -> None:
    assert marked(sentence, [1, 3, 1]) == said
    assert marked(sentence, []) == sentence


def test_a_reply_is_cut_into_sentences_lines_and_blocks() -> None:
    reply = (
        "# 年假\n\n年假十二天[1]。病假另计 [2]。\n- 甲。乙[3]。\n\n| a | b [1] |\n\n```\nx。[1]\n\ny\n```\n---\n见上。"
    )
    assert [(s.kind, s.before, s.plain, s.numbers) for s in split(reply)] == [
        ("heading", "", "# 年假", ()),
        ("sentence", "\n\n", "年假十二天。", (1,)),
        ("sentence", "", "病假另计。", (2,)),
        ("item", "\n", "- 甲。乙。", (3,)),
        ("table", "\n\n", "| a | b |", (1,)),
        ("code", "\n\n", "```\nx。[1]\n\ny\n```", ()),
        ("heading", "\n", "---", ()),
        ("sentence", "\n", "见上。", ()),
    ]


def test_what_follows_a_removed_sentence_keeps_its_paragraph() -> None:
    cut = split("一。二。\n\n三。四。\n五。")
    assert joined(without(cut, {0})) == "二。\n\n三。四。\n五。"
    assert joined(without(cut, {2})) == "一。二。\n\n四。\n五。"
    assert joined(without(cut, {2, 3})) == "一。二。\n\n五。"
    assert joined(without(cut, {4})) == "一。二。\n\n三。四。"
    assert joined(without(cut, set(range(5)))) == ""
    assert without(cut, ()) == cut


@pytest.mark.parametrize(
    ("turn", "bare"),
    [
        ("年假十二天[1][3]。病假另计 [2]。", "年假十二天。病假另计。"),
        ("It lasts 24 months [1]. It is [2] heavy【3】.", "It lasts 24 months. It is heavy."),
        ("用 `a[1]` 和 x[0]：[1]\n```\n[1]\n```", "用 `a[1]` 和 x[0]：\n```\n[1]\n```"),
        ("国发[2024]5号[1]。", "国发[2024]5号。"),
    ],
)
def test_old_turns_lose_their_marks_and_nothing_else(turn: str, bare: str) -> None:
    assert stripped(turn) == bare


@given(st.text(alphabet="`~a \n[]", max_size=40), st.integers(0, 40))
def test_code_is_where_it_is_however_the_text_is_cut(text: str, at: int) -> None:
    assert Code().after(text[:at]).after(text[at:]) == Code().after(text)
