from __future__ import annotations

import random
import re
import time
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rag_service.answering.stream_guard import HELD, StreamGuard, guarded

STOP = ("### Human", "### Assistant")
FORBIDDEN = ("<|startoftext|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "[INST]", "</s>")
PASSAGES = 3
# Read by other means than the guard's own: whatever a reader would take for a mark, and its beginnings.
ANY_MARK = re.compile(r"[\[［【][ ,，、;；]*(?:citation:? ?)?[0-9０-９][ 0-9０-９,，、;；]*[\]］】]")
SHOWN_MARK = re.compile(r"\[[1-3]\]")
NO_MARK = re.compile(r"\[1\]\(http|(?:`a|x|国发)\[[0-9]*\]?")
HALF_MARK = re.compile(r"[\[［【](?:[0-9０-９]{1,3}(?:[,，、;；] ?[0-9０-９]{1,3})?|citation: ?[0-9]*)?\Z")


def shown(text: str) -> str:
    return guarded(text, passages=PASSAGES, stop=STOP, forbidden=FORBIDDEN)


def arrivals(pieces: Iterable[str]) -> list[str]:
    """What the client has after every piece, and at the end."""
    guard = StreamGuard(STOP, FORBIDDEN, PASSAGES)
    texts = [""]
    for piece in pieces:
        texts.append(texts[-1] + guard.feed(piece))
    return [*texts, texts[-1] + guard.finish()]


def names_a_year(mark: str) -> bool:
    return any(1900 <= int(number) < 2100 for number in re.findall(r"\d+", mark))


def cut(text: str, at: Iterable[int]) -> list[str]:
    places = [0, *sorted(min(place, len(text)) for place in at), len(text)]
    return [text[start:end] for start, end in pairwise(places)]


def assert_harmless(text: str) -> None:
    assert not any(bad in text for bad in STOP + FORBIDDEN), text
    assert all(SHOWN_MARK.fullmatch(mark) or names_a_year(mark) for mark in ANY_MARK.findall(text)), text
    assert not HALF_MARK.search(text), text


# Segments as a model may write them, and what of each is to be shown. None leans on its neighbours.
TEXT = [
    "年假十二天", "，另见附录。", "The battery lasts ", "24 months. ", "C# ", "a < b ", "## 小结\n", "### Humus\n",
    "[sic]", "[2024年]", "国发[2024]5号", "【注意】", "[x](http://a.example/1) ", "[1](http://a.example) ", "`a[7]` ",
    "x[9] ", "|im_end|", "* ", "\n\n", "  - ", "🙂", "𠮷", "</p>", "[未完", "1] ", "##", "**粗**",
]  # fmt: skip
MARKS = [
    ("[1]", "[1]"), ("【2】", "[2]"), ("［３］", "[3]"), ("[1,3]", "[1][3]"), ("[1、3]", "[1][3]"),
    ("[1，2]", "[1][2]"), ("[2;3]", "[2][3]"), ("[1-3]", "[1][2][3]"), ("[ 1 ]", "[1]"), ("[citation:1]", "[1]"),
    ("[[1], [3]]", "[1][3]"), ("[Citation: 1, 3]", "[1][3]"), ("[来源2]", "[2]"), ("[^1]", "[1]"),
    ("【3†手册】", "[3]"), ("[99]", ""), ("[0]", ""), ("【9】", ""), ("[4-7]", ""), ("[2,8]", "[2]"),
    ("[citation: 12, 13]", ""), ("[[9]]", ""), ("[1,1]", "[1]"), ("[9[99]9]", ""), (" [99]", ""),
]  # fmt: skip
REMOVED = [(text, "") for text in (*FORBIDDEN, "<|im_<|im_end|>end|>", "<|im_[99]end|>", "[<|im_end|>99]")]
ENDS = [
    "", "### Human", "### Assistant: x [1]", "### [99]Human: x", "##<|im_end|># Human", "### Hum", "<|endof",
    "[citation: 1", "【", "[1", "[1### Human",
]  # fmt: skip


def stream(rng: random.Random) -> tuple[str, str]:
    """A reply and what of it is to be shown."""
    said, wanted = "", ""
    for _ in range(rng.randrange(12)):
        part = rng.choice([*((t, t) for t in rng.choices(TEXT, k=2)), rng.choice(MARKS), rng.choice(REMOVED)])
        # A closing full stop keeps the parts from making one word, index or link with each other.
        said, wanted = said + part[0] + "。", wanted + part[1] + "。"
    return said + rng.choice(ENDS), wanted


def test_nothing_but_text_and_marks_of_the_prompt_reaches_the_client_in_10_000_streams() -> None:
    rng = random.Random(20261125)
    for _ in range(10_000):
        said, wanted = stream(rng)
        whole = arrivals(said)
        assert whole[-1] == wanted
        for text in (whole[rng.randrange(len(whole))], whole[-1]):
            assert_harmless(NO_MARK.sub("", text))
        some = arrivals(cut(said, rng.choices(range(len(said) + 1), k=4)))
        assert some[-1] == wanted
        assert all(wanted.startswith(text) for text in some)


def test_the_client_never_sees_the_harmful_half_of_anything_at_any_position() -> None:
    for harmful in (*STOP, *FORBIDDEN, *(mark for mark, _ in MARKS)):
        for position in range(1, len(harmful) + 1):
            for text in arrivals(["年假。", harmful[:position], harmful[position:], "。"]):
                assert_harmless(text)


HOSTILE = st.lists(
    st.sampled_from([
        "[", "]", "【", "】", "［", "］", "1", "2", "9", "７", "#", "###", " Human", "### ", "Human", "<|", "<", "|>",
        "endoftext", "endoftext|>", "<|endoftext|>", "citation", ": ", ",", "、", " ", "\n", "年", "。", "[99]", "[1]",
        "†", "-", "INST]", "\u3000",
    ]), max_size=40,
).map("".join)  # fmt: skip


@settings(max_examples=1_000, deadline=None)
@given(HOSTILE, st.lists(st.integers(0, 200), max_size=6))
@example("[9[99]9]", [])
@example("[ [99]9]", [3])
@example("[[99]]", [])
@example("<|im_<|im_end|>end|>", [6])
@example("### [99]Human", [5])
@example("[9" * 60 + "9]" * 60, [])
@example("<|im_" * 40 + "<|im_end|>" + "end|>" * 40, [])
def test_hostile_text_is_harmless_in_every_prefix_however_it_is_cut(text: str, places: list[int]) -> None:
    by_character = arrivals(text)
    assert by_character[-1] == shown(text) == arrivals(cut(text, places))[-1]
    for before, after in pairwise(by_character):
        assert after.startswith(before)
    for prefix in by_character:
        assert_harmless(prefix)


@settings(max_examples=300, deadline=None)
@given(HOSTILE)
def test_what_was_shown_would_be_shown_again(text: str) -> None:
    once = guarded(text, passages=PASSAGES, forbidden=FORBIDDEN)
    ended = once + "."
    assert guarded(ended, passages=PASSAGES, forbidden=FORBIDDEN) == ended


@settings(max_examples=500, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(TEXT), HOSTILE, st.text(max_size=20)), max_size=8).map("".join))
def test_little_is_held_back(text: str) -> None:
    said = arrivals(text + "." * HELD)
    if said[-1] == text + "." * HELD:
        assert all(count - len(prefix) <= HELD for count, prefix in enumerate(said[:-1]))


@pytest.mark.parametrize("opener", ["[", "[1", "【", "[citation: 1, 3", "<|im_", "### Huma", "[1†a", "   [", "[1, [2"])
def test_what_turns_out_to_be_text_is_let_go(opener: str) -> None:
    guard = StreamGuard(STOP, FORBIDDEN, PASSAGES)
    text = f"年假{opener}" + "字" * 40
    assert guard.feed(text) == text


def test_a_mark_without_an_end_is_let_go_after_forty_characters() -> None:
    guard = StreamGuard(STOP, FORBIDDEN, PASSAGES)
    assert guard.feed("[" + "1, " * 12) == ""
    assert guard.feed("1, 1") == "[" + "1, " * 12 + "1, 1"


def test_text_flows_while_it_comes() -> None:
    guard = StreamGuard(STOP, FORBIDDEN, PASSAGES)
    assert [guard.feed(piece) for piece in ("年假", "十二天", " ", "[", "1", "]", "。", "#", "#", "#", " H", "i")] == [
        "年假", "十二天", "", "", "", "", " [1]。", "", "", "", "", "### Hi",
    ]  # fmt: skip


def test_nothing_comes_after_a_stop_string() -> None:
    guard = StreamGuard(STOP, FORBIDDEN, PASSAGES)
    assert guard.feed("好。\n\n### Hum") == "好。\n\n"
    assert not guard.stopped
    assert guard.feed("an: 再来") == ""
    assert guard.stopped
    assert guard.feed("x [1]") == guard.finish() == ""


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("# 一\n## 二\n### 三\n#### 四\n", "# 一\n## 二\n### 三\n#### 四\n"),
        ("###", ""),
        ("用 C#", "用 C#"),
        ("a <", "a <"),
        ("a <|", "a"),
        ("天 [1", "天"),
        ("天[1] [", "天[1]"),
        ("好 <|im_end|>", "好 "),
    ],
)
def test_how_a_reply_that_was_cut_off_ends(said: str, wanted: str) -> None:
    assert shown(said) == wanted


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("年假 [9]。", "年假。"),
        ("word [9] word", "word word"),
        ("word [9]word", "word word"),
        ("word[9] word", "word word"),
        ("年假 [9]是", "年假是"),
        ("word [9] [8], word", "word, word"),
        ("word [9][1].", "word [1]."),
        ("[9] 年假\n[9] 病假", "年假\n病假"),
        ("x  [9]", "x"),
    ],
)
def test_a_mark_goes_with_the_blanks_before_it(said: str, wanted: str) -> None:
    assert shown(said) == wanted


CODE = [
    "`[9]`", "``a ` [9]``", "```\n【9】\n```", "~~~\n[9]\n```\n[9]\n~~~", "```python\na = [7, 8, 9]", "`open [9]",
    "a[9]", "my_list[9]", "f()[9]", "x[0][9]", "  ```\n[9]\n  ```",
]  # fmt: skip


@pytest.mark.parametrize("code", CODE)
@pytest.mark.parametrize("before", ["", "见\n", "见\n\n"])
def test_code_is_no_place_for_marks(code: str, before: str) -> None:
    assert shown(f"{before}{code}\n") == arrivals(f"{before}{code}\n")[-1] == f"{before}{code}\n"


@pytest.mark.parametrize(
    "said",
    ["`a`[9]", "```\na\n```\n[9]", "```a``` [9]", "`a\n[9]", "months[9]", "12 h[9]", "YOUJU_DATA[9]", "参数n[9]"],
)
def test_a_mark_after_code_is_a_mark(said: str) -> None:
    assert shown(said).rstrip() == said.replace("[9]", "").rstrip()


def test_stop_strings_and_template_text_count_in_code_too() -> None:
    assert shown("```\n<|im_end|>a\n### Human: x") == "```\na\n"


def test_a_full_width_mark_before_a_bracket_does_not_become_a_link() -> None:
    assert shown("年假【1】(附录)") == "年假[1] (附录)"


@pytest.mark.parametrize(
    ("said", "wanted"), [(" 年假", "年假"), ("  年假", " 年假"), ("年假 x", "年假 x"), ("\n年假", "\n年假")]
)
def test_healed_spacing_owes_one_space(said: str, wanted: str) -> None:
    for pieces in ([said], list(said), ["", *said]):
        guard = StreamGuard(STOP, FORBIDDEN, PASSAGES, strip_first_space=True)
        assert "".join(map(guard.feed, pieces)) + guard.finish() == wanted


def test_without_passages_no_mark_is_shown() -> None:
    assert guarded("年假[1]。见【2】。", passages=0) == "年假。见。"


@pytest.mark.parametrize(
    "base",
    [
        "年假十二天[1]。",
        "It lasts 24 months [9]. ",
        "[",
        "[1",
        "[9[99]",
        "#",
        "<",
        " ",
        "`",
        "[[1]",
        "a_b_[",
        "\n",
        "<|im_",
    ],
)
def test_a_long_stream_costs_linear_time(base: str) -> None:
    """Each character costs at most tens of microseconds; anything quadratic would take minutes here."""
    guard = StreamGuard(STOP, FORBIDDEN, PASSAGES)
    begun = time.thread_time()
    for character in base * (200_000 // len(base)):
        guard.feed(character)
    guard.finish()
    assert time.thread_time() - begun < 15
