"""Folding for comparison, and the terms the lexical legs of the index are made of."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import chain
from operator import add
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
_SPACED = f"{_PART}(?:[-_./@:+#\\\\]{_PART})*"
_SPACED_RUN, _RUN = re.compile(_SPACED), re.compile(f"{_SPACED}|[{HAN}{KANA}]+")
_SEPARATORS = re.compile(r"[-_./@:+#\\]")
_LETTER, _CODE = re.compile(r"[a-z]"), re.compile(r"[\d@_]|^[a-z]{1,3}/[a-z]$")
_LONGEST_IDENTIFIER = 64
_MOST_REMEMBERED = 1 << 16
_stemmer = Stemmer.Stemmer("english", 0)
_one_at_a_time = Lock()


def fold(text: str) -> str:
    """Width, script and case folded: NFKC, simplified characters, casefold. For comparing, never for showing."""
    return text.lower() if text.isascii() else simplified(unicodedata.normalize("NFKC", text)).casefold()


def simplified(text: str) -> str:
    """`text` with each traditional Han character as its simplified one, as long as before. For comparing only.

    Character by character, without a look at the words, so that many become one: 後 and 后, 乾 and 干, 臺 and 台 are
    the same to whoever asks, on both sides.
    """
    if text.isascii():
        return text
    traditional, table = _to_simplified()
    # Most texts are translated already, which is told in a tenth of the time.
    return text if traditional.search(text) is None else text.translate(table)


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


@dataclass(frozen=True, slots=True)
class Sought:
    """Terms that texts are looked through for, which takes half as long as cutting the texts into all of theirs.

    `spaced` are found by cutting; `unspaced` wherever they stand, as those are the characters of Han and kana and all
    pairs of them.
    """

    spaced: frozenset[str]
    unspaced: tuple[str, ...]

    @classmethod
    def of(cls, terms: Iterable[str]) -> Sought:
        distinct = frozenset(terms)
        unspaced = tuple(term for term in distinct if CJK_RUN.fullmatch(term))
        return cls(distinct.difference(unspaced), tuple(term for term in unspaced if len(term) < 3))

    def within(self, text: str) -> set[str]:
        """Those that are among the `index_terms` of `text`."""
        folded = fold(text)
        if folded.isascii():
            return set(self.spaced.intersection(chain.from_iterable(map(_terms_of, folded.split()))))
        found = set(self.spaced.intersection(chain.from_iterable(map(_terms_of, _SPACED_RUN.findall(folded)))))
        found.update([term for term in self.unspaced if term in folded])
        return found


def stem(word: str) -> str:
    """Of an English word, folded, by Porter's second stemmer (snowballstem.org); of anything else the word itself."""
    if not (word.isascii() and word.isalpha()):
        return word
    # Snowball's stemmers are for one thread at a time.
    with _one_at_a_time:
        stemmed: str = _stemmer.stemWord(word)
    return stemmed


# What OpenCC's standard leaves alone: forms that only Taiwan or Hong Kong writes, and two it keeps for proper names.
_REGIONAL = {"著": "着", "衞": "卫", "敍": "叙", "枱": "台", "粧": "妆", "糭": "粽", "衹": "只", "簷": "檐",
             "痺": "痹", "藉": "借", "玆": "兹", "甦": "苏"}  # fmt: skip
_BLOCKS = ((0x3400, 0x4DC0), (0x4E00, 0xA000))
"""The main block and extension A; what the further planes hold is too rare to be asked for."""
_AROUND = ((0, 0x100), (0x2000, 0x2070), (0x3000, 0x3100))
"""Latin, punctuation and kana, what else there is in a Chinese text."""


@cache
def _to_simplified() -> tuple[re.Pattern[str], dict[int, int]]:
    """Any character that changes, and by code point what each becomes; made once, in some twenty milliseconds, when the
    first Chinese text comes.

    What does not change is in there too: `translate` takes twice as long over characters that it does not find.
    """
    characters = [chr(code) for first, end in _BLOCKS for code in range(first, end)]
    # A line each, so that OpenCC sees no words.
    converted = opencc.OpenCC("t2s").convert("\n".join(characters)).split("\n")
    pairs = {old: new for old, new in zip(characters, converted, strict=True) if old != new} | _REGIONAL
    changed = {old: pairs.get(new, new) for old, new in pairs.items()}
    table = {code: code for first, end in (*_BLOCKS, *_AROUND) for code in range(first, end)}
    return re.compile(f"[{''.join(changed)}]"), table | {ord(old): ord(new) for old, new in changed.items()}


def _cut(folded: str) -> list[str]:
    if folded.isascii():
        return [*chain.from_iterable(map(_terms_of, folded.split()))]
    terms: list[str] = []
    for run in _RUN.findall(folded):
        if CJK_CHARACTER.match(run):
            terms += map(add, run, run[1:]) if len(run) > 1 else [run]
        else:
            terms += _terms_of(run)
    return terms


class _TermsRemembered(dict[str, tuple[str, ...]]):
    """By folded text without white space, Han and kana: nearly always a word, with the punctuation beside it, that has
    been seen before."""

    def __missing__(self, text: str) -> tuple[str, ...]:
        runs = _SPACED_RUN.findall(text)
        terms = _terms_of_run(text) if runs == [text] else tuple([term for run in runs for term in self[run]])
        if len(text) <= _LONGEST_IDENTIFIER:
            if len(self) >= _MOST_REMEMBERED:
                self.clear()
            self[text] = terms
        return terms


_terms_of = _TermsRemembered().__getitem__


def _terms_of_run(run: str) -> tuple[str, ...]:
    words = _WORD.findall(run)
    return (*map(stem, words), *_identifier(run)) if len(words) > 1 else (stem(run),)


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
