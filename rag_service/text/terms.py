"""Folding for comparison, and the terms the lexical legs of the index are made of."""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache
from threading import Lock

import opencc
import Stemmer

from rag_service.text.characters import CJK_CHARACTER, CJK_RUN, HAN, KANA

TERMS_VERSION = 3
"""Goes up whenever `index_terms` cuts or folds any text differently: index files made by another version are rebuilt.

1: width and case folded. 2: traditional and simplified characters too. 3: English by its stems, identifiers whole,
Han characters also one by one.
"""

_WORD = re.compile(r"[^\W_]+")
_PART = f"[^\\W_{HAN}{KANA}]+"
# Words of one script, with what codes, standards, addresses and versions are written with between their parts.
_RUN = re.compile(f"{_PART}(?:[-_./@:+#\\\\]{_PART})*|[{HAN}{KANA}]+")
_SEPARATORS = re.compile(r"[-_./@:+#\\]")
_LETTER, _CODE = re.compile(r"[a-z]"), re.compile(r"[\d@_]|^[a-z]{1,3}/[a-z]$")
_LONGEST_IDENTIFIER = 64
_STEMS_REMEMBERED = 1 << 16


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
    """The terms that a question is asked by, in text order, repeats kept.

    Runs of Han or kana become overlapping character bigrams (a lone character stays itself): they retrieve as well as
    dictionary words (shared measurements: R@1 .928 against .922) and need no dictionary. Everything else is words, the
    English ones by their stems, and after the words of an identifier (`GB/T`, `X-200`) the identifier as a whole.
    """
    return _cut(fold(text))


def index_terms(text: str) -> list[str]:
    """The terms a text is found by: its lexical terms, and every Han character of a longer run by itself.

    By a character alone a translation is found that is one (ball: 球); questions do not ask by them otherwise.
    """
    folded = fold(text)
    return _cut(folded) + [character for run in CJK_RUN.findall(folded) if len(run) > 1 for character in run]


def stem(word: str) -> str:
    """Of an English word, folded, by Porter's second stemmer (snowballstem.org); of anything else the word itself."""
    return _stem(word) if word.isascii() and word.isalpha() else word


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


def _cut(folded: str) -> list[str]:
    terms: list[str] = []
    for run in _RUN.findall(folded):
        # Most runs are a word.
        if run.isascii() and run.isalpha():
            terms.append(_stem(run))
        else:
            terms += _terms(run)
    return terms


def _terms(run: str) -> list[str]:
    if CJK_CHARACTER.match(run):
        return [run[at : at + 2] for at in range(len(run) - 1)] if len(run) > 1 else [run]
    words = _WORD.findall(run)
    terms = [stem(word) for word in words]
    return terms + _identifier(run) if len(words) > 1 else terms


def _identifier(run: str) -> list[str]:
    """A code, standard, e-mail address, version or date as one term: they are asked for whole.

    Separators go where there are letters (`X-200`, `x200` and `X_200` are one); between digits alone they are the
    number's own (7714-2015, 3.5).
    """
    if len(run) > _LONGEST_IDENTIFIER or not run.isascii():
        return []
    if not _LETTER.search(run):
        return [run]
    return [_SEPARATORS.sub("", run)] if _CODE.search(run) else []


_stemmer = Stemmer.Stemmer("english", 0)
_one_at_a_time = Lock()


@lru_cache(_STEMS_REMEMBERED)
def _stem(word: str) -> str:
    # Snowball's stemmers are for one thread at a time.
    with _one_at_a_time:
        stemmed: str = _stemmer.stemWord(word)
    return stemmed
