"""A sentence as verification reads it: words, Han characters and quantities in order, and its terms. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rag_service.answering.verification.dates import calendar
from rag_service.answering.verification.quantities import Quantity, normal, quantities, without

MOST_TOKENS = 400
"""Of one sentence: what comes later is not read, so that hostile text costs linear time."""


@dataclass(frozen=True, slots=True)
class Token:
    """`key` is what is compared, `text` what is written; a number holds the quantities of one span."""

    kind: Literal["word", "han", "number"]
    key: str
    text: str
    start: int
    quantities: tuple[Quantity, ...] = ()
    function: bool = False
    """Says nothing by itself: an article, a particle."""

    @property
    def capital(self) -> bool:
        return self.kind == "word" and (self.text[0].isupper() or any(c.isdigit() or c.isupper() for c in self.text))


@dataclass(frozen=True, slots=True)
class Reading:
    """`text` is the normal form tokens point into; `terms` are weighted by how much they say."""

    text: str
    tokens: tuple[Token, ...]
    terms: dict[str, float]


def read(sentence: str) -> Reading:
    text = _spelled_out(normal(sentence))
    tokens = tuple(_tokens(text))[:MOST_TOKENS]
    return Reading(text, tokens, terms_of(tokens))


def joined(readings: Sequence[Reading]) -> Reading:
    """Several sentences as one; a line break parts them."""
    if len(readings) == 1:
        return readings[0]
    text, tokens = "", list[Token]()
    for reading in readings:
        tokens += [replace(token, start=token.start + len(text)) for token in reading.tokens]
        text += reading.text + "\n"
    return Reading(text, tuple(tokens), {})


def terms_of(tokens: tuple[Token, ...]) -> dict[str, float]:
    """Words, pairs of neighbouring Han characters, numbers; a term of function words only weighs little."""
    terms: dict[str, float] = {}
    before: Token | None = None
    for token in tokens:
        if token.kind != "han":
            terms[token.key] = _FUNCTION if token.function else _NUMBER if token.kind == "number" else 1.0
        elif before is not None and before.kind == "han" and before.start + 1 == token.start:
            functions = before.function + token.function
            terms[before.key + token.key] = (_HAN_PAIR, _MIXED_PAIR, _FUNCTION)[functions]
        before = token
    return terms


_FUNCTION, _MIXED_PAIR, _HAN_PAIR, _NUMBER = 0.05, 0.2, 0.7, 1.0

_SCAN = re.compile(r"[^\W\d_][^\W_]*|[0-9]+(?:[.:/-][0-9]+)*[A-Za-z]*")
_SINGLE = re.compile("[\u2e80-\u2fdf\u3005-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")
_CONTRACTED = re.compile(r"\b(ca|wo|sha|\w+?)n['’]t\b|\bcan(not)\b", re.IGNORECASE)
_WHOLE = {"ca": "can", "wo": "will", "sha": "shall"}
_POSSESSIVE = re.compile(r"['’]s\b")


def _spelled_out(text: str) -> str:
    text = _CONTRACTED.sub(lambda m: "can not" if m[2] else f"{_WHOLE.get(m[1].lower(), m[1])} not", text)
    return _POSSESSIVE.sub(" ", text)


def _tokens(text: str) -> Iterator[Token]:
    dated = calendar(text)
    counted = quantities(without(text, dated))
    spans: dict[int, list[Quantity]] = {}
    for quantity in [*dated, *counted]:
        spans.setdefault(quantity.start, []).append(quantity)
    rest = without(text, [*dated, *counted])
    at = 0
    for start in [*sorted(spans), len(text)]:
        yield from _words(rest, at, start)
        if start in spans:
            group = tuple(spans[start])
            at = group[0].end
            yield Token("number", "#" + "/".join(f"{q.value:g}" for q in group), text[start:at], start, group)


def _words(text: str, start: int, end: int) -> Iterator[Token]:
    at = start
    while at < end:
        if text[at] == "\0" or text[at].isspace():
            at += 1
        elif _SINGLE.match(text, at):
            yield Token("han", text[at], text[at], at, function=text[at] in _HAN_FUNCTION)
            at += 1
        elif found := _SCAN.match(text, at, end):
            stop = _before_han(text, at, found.end())
            word = text[at:stop]
            yield Token("word", _root(word.lower()), word, at, function=word.lower() in _FUNCTION_WORDS)
            at = stop
        else:
            at += 1


def _before_han(text: str, start: int, end: int) -> int:
    han = _SINGLE.search(text, start, end)
    return han.start() if han else end


def _root(word: str) -> str:
    """Forms of one word meet: "established", "establishing", "establishment". Six
    letters tell words apart well enough."""
    for ending in ("ing", "ed", "ies", "es", "s", "ly", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            word = word[: -len(ending)]
            break
    return word[:6] if word.isalpha() else word


_WITHOUT_CONTENT = """
a an the of in on at to for from by with as and or but that this these those which who whom whose it its it he his him
she her they their them we our us you your i my me is was are were be been being am has have had having do does did done
will would shall should can could may might must also such than then there here so if into onto over under about up out
off very just more most some any each other both when where while what how because since however yet thus after before
during through between within according further additionally moreover furthermore therefore including include includes
among them get got
"""
_FUNCTION_WORDS = frozenset(_WITHOUT_CONTENT.split())
_HAN_FUNCTION = frozenset(
    "的了在是和与及或也都就而且但并被把对于为以由从到向之其这那个些所等着地得又再很更最该此将会能可因如若则中上下里后前时间来去"
)
