"""What a text is about, found without a model: names, titles and noun-like runs, in Chinese and English. Pure.

Neither language needs a dictionary for it. Between function words, words of conversation and words that only name an
attribute (price, address, 原因) there remain runs of content, and what a conversation is about is among them.
The Chinese words are written in simplified characters and looked for in `simplified` text, which is as long as it was:
topics of a traditional text are cut out of that text as it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rag_service.retrieval import common_words
from rag_service.text import simplified

_HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_LATIN = "A-Za-zÀ-ÖØ-öø-ÿĀ-ɏ"


@dataclass(frozen=True, slots=True)
class Topic:
    """`name`: marked as one by quotes, capitals or digits within a word; always False for other Chinese runs."""

    text: str
    name: bool


def topics(text: str) -> list[Topic]:
    """In no particular order, repeats kept. Numbers and what only measures them are none. Linear in `text`."""
    plain = unicodedata.normalize("NFKC", text)
    return [*_titles(plain), *_chinese(plain), *_english(plain)]


def clauses(text: str) -> list[str]:
    """What stands between commas and sentence ends of either language, white space included in neither count."""
    return [clause for clause in _CLAUSE_END.split(text) if clause.strip()]


def states_a_value(clause: str) -> bool:
    """Whether a Chinese clause tells the value of an attribute, an address or a price: nothing that is talked about."""
    plain = simplified(clause)
    return bool(_VALUED.search(plain) or (_HAN_RUN.search(plain) and _NUMBER.search(plain)))


def _titles(text: str) -> Iterator[Topic]:
    for match in _TITLE.finditer(text):
        yield Topic(next(group for group in match.groups() if group), name=True)


def _chinese(text: str) -> Iterator[Topic]:
    plain = _NUMBER.sub(lambda number: "，" * len(number.group()), simplified(text))
    for run in _HAN_RUN.finditer(plain):
        for start, end in _between(_CHINESE_OTHERS, plain, *run.span()):
            trimmed = end - len(plain[start:end].lstrip(_LEADING))
            topic = text[trimmed:end] if end - trimmed > 1 else text[start:end]
            if len(topic) > 1:
                yield Topic(topic, name=False)


def _between(others: re.Pattern[str], text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Spans of what the matches of `others` in `text[start:end]` leave."""
    for other in others.finditer(text, start, end):
        yield start, other.start()
        start = other.end()
    yield start, end


def _english(text: str) -> Iterator[Topic]:
    """Up to five words in a row, none of them in the lists below, nothing but spaces between them."""
    words: list[str] = []
    name, end = False, 0
    for match in _LATIN_WORD.finditer(text):
        word = _POSSESSIVE.sub("", match.group())
        between = text[end : match.start()]
        opens = not end or not _INSIDE_SENTENCE.fullmatch(between)
        if words and (between.strip(" ") or len(words) == _LONGEST_RUN):
            yield Topic(" ".join(words), name)
            words, name = [], False
        end = match.end()
        if word[0].isdigit() or word.lower().replace("’", "'") in _ENGLISH_OTHERS:
            if words:
                yield Topic(" ".join(words), name)
            words, name = [], False
            continue
        words.append(word)
        name = name or _is_name(word, opens)
    if words:
        yield Topic(" ".join(words), name)


def _is_name(word: str, opens_sentence: bool) -> bool:
    if any(character.isupper() or character.isdigit() for character in word[1:]):
        return True
    return word[0].isupper() and not opens_sentence


_LONGEST_RUN = 5
_HAN_RUN = re.compile(f"[{_HAN}]+")
_LATIN_WORD = re.compile(f"[{_LATIN}0-9][{_LATIN}0-9_.+#/-]*(?<![./-])(?:['’][A-Za-z]+)?")
_POSSESSIVE = re.compile(r"['’][sS]$")
_INSIDE_SENTENCE = re.compile(r"[^.!?:。！？：\n]*")
_CLAUSE_END = re.compile(r"[，。；？！,;?!\n]+")
_TITLE = re.compile(
    '《([^《》\n]{1,40})》|“([^“”\n]{1,40})”|「([^「」\n]{1,40})」|『([^『』\n]{1,40})』|"([^"\n]{2,40})"'
)
_NUMBER = re.compile(
    r"[0-9][0-9:.,~\-/%—～\s]*"
    r"(?:小时|分钟|个月|公里|千米|平方米|万元|左右|[年月日号点时分秒元块天周岁层米人次个位座家路线])?"
)

# Characters that are words of their own only at the beginning of a run (能源 is one word, 能去 is two).
_LEADING = "过也都就还很要能会去想给被把对从再又才只真好太更最可请让玩看"
_VALUED = re.compile("地址|位置|电话|时间|票价|价格|门票|开放")


def _alternatives(words: Iterable[str]) -> str:
    """A pattern for any of `words`, the longest first, tried only where one of them can begin."""
    by_first: dict[str, list[str]] = {}
    for word in sorted(words, key=lambda word: (-len(word), word)):
        by_first.setdefault(word[0], []).append(word[1:])
    branches = [f"{first}(?:{'|'.join(rests)})" for first, rests in by_first.items()]
    return f"(?=[{''.join(by_first)}])(?:{'|'.join(branches)})"


_CHINESE_OTHERS = re.compile(
    _alternatives(
        common_words.CHINESE_FUNCTION_WORDS | common_words.CHINESE_CONVERSATION | common_words.CHINESE_ATTRIBUTES
    )
)
_ENGLISH_OTHERS = (
    common_words.ENGLISH_FUNCTION_WORDS | common_words.ENGLISH_CONVERSATION | common_words.ENGLISH_ATTRIBUTES
)
