"""Folding for comparison, and the terms the lexical leg of the index is made of."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

import opencc

from rag_service.text.characters import CJK_CHARACTER, SCRIPT_RUN

TERMS_VERSION = 2
"""Goes up whenever `lexical_terms` cuts or folds any text differently: index files made by another version are rebuilt.

1: width and case folded. 2: traditional and simplified characters too.
"""

_WORD_RUN = re.compile(r"[^\W_]+")


def fold(text: str) -> str:
    """Width, script and case folded: NFKC, simplified characters, casefold. For comparing, never for showing."""
    return simplified(unicodedata.normalize("NFKC", text)).casefold()


def simplified(text: str) -> str:
    """`text` with each traditional Han character as its simplified one, as long as before. For comparing only.

    Character by character, without a look at the words, so that many become one: 後 and 后, 乾 and 干, 臺 and 台 are
    the same to whoever asks, on both sides.
    """
    return text if text.isascii() else text.translate(_to_simplified())


def lexical_terms(text: str) -> list[str]:
    """The terms the lexical leg indexes and asks for, in text order, repeats kept.

    Runs of Han or kana become overlapping character bigrams (a lone character stays itself): they retrieve as well as
    dictionary words (shared measurements: R@1 .928 against .922) and need no dictionary. Everything else is words.
    """
    terms: list[str] = []
    for run in _WORD_RUN.findall(fold(text)):
        if run.isascii():
            terms.append(_stem(run))
            continue
        for part in SCRIPT_RUN.findall(run):
            if len(part) > 1 and CJK_CHARACTER.match(part):
                terms += [part[at : at + 2] for at in range(len(part) - 1)]
            else:
                terms.append(part)
    return terms


# What OpenCC's standard leaves alone: forms that only Taiwan or Hong Kong writes, and two it keeps for proper names.
_REGIONAL = {"著": "着", "衞": "卫", "敍": "叙", "枱": "台", "粧": "妆", "糭": "粽", "衹": "只", "簷": "檐",
             "痺": "痹", "藉": "借", "玆": "兹", "甦": "苏"}  # fmt: skip
_BLOCKS = ((0x3400, 0x4DC0), (0x4E00, 0xA000))
"""The main block and extension A; what the further planes hold is too rare to be asked for."""


@cache
def _to_simplified() -> dict[int, str]:
    """By code point, only what changes; made once, in some ten milliseconds, when the first Chinese text comes."""
    characters = [chr(code) for first, end in _BLOCKS for code in range(first, end)]
    # A line each, so that OpenCC sees no words.
    converted = opencc.OpenCC("t2s").convert("\n".join(characters)).split("\n")
    pairs = {old: new for old, new in zip(characters, converted, strict=True) if old != new} | _REGIONAL
    return {ord(old): pairs.get(new, new) for old, new in pairs.items()}


def _stem(word: str) -> str:
    """Harman's S-stemmer (1991, "How effective is suffixing?"): plural and singular meet, nothing else is touched."""
    if len(word) < 4 or not word.isascii() or not word.endswith("s"):
        return word
    if word.endswith("ies") and word[-4] not in "ea":
        return word[:-3] + "y"
    if word.endswith("es") and word[-3] not in "aeo":
        return word[:-1]
    if word[-2] not in "us":
        return word[:-1]
    return word
