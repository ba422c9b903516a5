"""What counts as a citation mark, in every form models write it. Pure grammar: one bracket at a time.

Marks: `[1]` `【1】` `［1］` `[ 1 ]` `[１]` `[1,3]` `[1、3]` `[1，3]` `[1;3]` `[1 3]` `[1-3]` `[^1]` `[citation: 1, 3]`
`[source 1]` `[来源1]` `【1†name】` `[[1], [3]]`, brackets of two kinds mixed, up to `LONGEST` characters.

Not marks, so left as they stand:
- any other word or sign inside: `[2024年]` `[x]` `[ ]` `[sic]` `[1.5]` `[1:3]` `[-1]`;
- a year of 1900–2099 without a label, as in `国发[2024]5号`; a list or range with a 0, as in `[0, 1]` and `[0-9]`;
- Markdown links: `[1](…` with nothing between;
- code, and an index after what can only be code in prose: `a[1]` `my_list[0]` `f()[2]` `a[1][2]`. A whole word is no
  such thing, `months[1]` is how many models cite; nor is a unit after its number, `12 h[1]`, nor a name in capitals.

A lone number that no passage has, `[0]` or `[99]`, is a mark all the same: one that names nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

OPENERS = "[［【"
CLOSERS = "]］】"
BLANKS = " \t\u00a0\u3000"
LONGEST = 40
"""Characters from bracket to bracket; what is longer is text."""
LOOK_BEHIND = 40
"""Characters before a bracket that decide whether it is an index."""

_LABELS = (
    "citation", "citations", "cite", "source", "sources", "reference", "references", "ref", "passage", "passages",
    "document", "doc", "来源", "引用", "出处", "资料", "参考资料", "文献", "参考文献", "参考", "段落", "片段", "文档",
)  # fmt: skip


def _longest_first(words: Iterable[str]) -> str:
    return "|".join(sorted(set(words), key=lambda word: (-len(word), word)))


_DASH = "-–—~～"
_LABEL = rf"(?:\^|(?:{_longest_first(_LABELS)})[{BLANKS}]?[:：]?)[{BLANKS}]?"
_BEGUN_LABEL = _longest_first(label[:length] for label in _LABELS for length in range(1, len(label) + 1))
_NUMBERS = rf"[0-9０-９]+(?:[{BLANKS}]?[{_DASH}][{BLANKS}]?[0-9０-９]+)?"
_ITEM = rf"(?:{_LABEL})?(?:{_NUMBERS}|\[[0-9]+\])"
_OPENER, _CLOSER = rf"[{re.escape(OPENERS)}]", rf"[{re.escape(CLOSERS)}]"
_INSIDE = rf"{_OPENER}(?:{_ITEM}|[,，、;；{BLANKS}])*+"
_NAME = r"†[^\[\]［］【】`\n†]*"
_MARK = re.compile(rf"{_INSIDE}(?P<name>{_NAME})?{_CLOSER}", re.IGNORECASE)
_BEGUN = rf"{_INSIDE}(?:{_LABEL}|{_BEGUN_LABEL}|[{_DASH}][{BLANKS}]?|{_NAME})?"
_UNFINISHED = re.compile(_BEGUN, re.IGNORECASE)
_UNFINISHED_LAST = re.compile(rf"{_BEGUN}\Z", re.IGNORECASE)
_RANGE = re.compile(
    rf"(?P<label>{_LABEL})?\[?(?P<first>[0-9０-９]+)(?:[{BLANKS}]?[{_DASH}][{BLANKS}]?(?P<last>[0-9０-９]+))?",
    re.IGNORECASE,
)
_YEARS = range(1900, 2100)

_BEFORE_INDEX = re.compile(r"(?:\[[^\[\]\n]*\])+\Z")
_LAST_WORD = re.compile(r"[A-Za-z0-9_]*\Z")
_CJK = re.compile("[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U000323af]")


def numbers(bracket: str, passages: int) -> tuple[int, ...] | None:
    """The numbers from 1 to `passages` that `bracket`, from its opener to its closer, cites, each once, in its order.

    None when it is no mark; empty when it is one that names no passage, or holds no number at all.
    """
    match = _MARK.fullmatch(bracket) if len(bracket) <= LONGEST else None
    if match is None:
        return None
    ranges = list(_ranges(bracket))
    labelled = bool(match["name"]) or any(label for label, _, _ in ranges)
    if not labelled and not _plausible([(first, last) for _, first, last in ranges]):
        return None
    named = (n for _, first, last in ranges for n in range(max(first, 1), min(last, passages) + 1))
    return tuple(dict.fromkeys(named))


def holds_a_number(bracket: str) -> bool:
    return any(character.isdigit() for character in bracket.partition("†")[0])


def unfinished(text: str) -> bool:
    """Whether `text`, from its opener on, may still become a mark that is not nested in it."""
    return len(text) < LONGEST and _UNFINISHED.fullmatch(text) is not None


def unfinished_before(text: str, end: int) -> int | None:
    """Where the longest unfinished mark begins that ends at `end`."""
    match = _UNFINISHED_LAST.search(text, max(end - LONGEST + 1, 0), end)
    return match.start() if match else None


def canonical(cited: Iterable[int]) -> str:
    return "".join(f"[{number}]" for number in cited)


def is_index(before: str) -> bool:
    """Whether a bracket that opens right after `before` is an array index."""
    near = before[-LOOK_BEHIND:]
    array = _BEFORE_INDEX.sub("", near)
    if array.endswith("()"):
        return True
    word = _LAST_WORD.findall(array)[0]
    if len(word) > 1:
        return "_" in word.strip("_") and word.strip("_") == word and word.upper() != word
    cut_off = array == word and len(near) == LOOK_BEHIND
    return word.islower() and not cut_off and not _runs_on(array[:-1])


def is_cjk(character: str) -> bool:
    """Han, kana, or a full-width mark: what stands without a blank beside it."""
    return _CJK.match(character) is not None


def is_word(character: str) -> bool:
    """A letter or digit of a script written with blanks between words."""
    return character.isalnum() and not is_cjk(character)


def _runs_on(before: str) -> bool:
    """Whether one more letter belongs to a word, or is a unit."""
    return before[-1:].isalnum() or (before[-1:] in tuple(BLANKS) and before[-2:-1].isdigit())


def _ranges(bracket: str) -> Iterator[tuple[str | None, int, int]]:
    for match in _RANGE.finditer(bracket.partition("†")[0], 1):
        yield match["label"], int(match["first"]), int(match["last"] or match["first"])


def _plausible(ranges: list[tuple[int, int]]) -> bool:
    several = len(ranges) > 1 or any(first != last for first, last in ranges)
    ends = [end for both in ranges for end in both]
    return all(first <= last for first, last in ranges) and not (several and 0 in ends) and not set(ends) & set(_YEARS)
