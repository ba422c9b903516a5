"""What a question asks for, as each lexical leg of the index takes it. Pure.

The lexical leg asks for the question's own terms. The bilingual leg asks for its words, each in its own language or as
any of its translations: so a question finds passages in the other language without anybody telling which language it
or they are in, and without a model. Where a passage says no word of a question in either language, both legs say 0.

Measured on XQuAD questions over ZH and EN (R@1 / R@10, dense weight .5, shared sets, 2026-11-26): zh→EN .491 / .754
without the bilingual leg, .717 / .919 with it; en→ZH .497 / .784, .684 / .890.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby

from rag_service.ports import Translations
from rag_service.text import EMPTY_STEMS, lexical_terms, matter_of
from rag_service.types import Concept, Way

MOST_CONCEPTS = 64
"""A pasted page is asked for by its first words alone: every word costs some thirty ways."""
_MOST_WORDS = 30
"""Chinese words for an English one, at most: those whose first sense it is come first."""
_LATER_SENSE = 0.05
_LEAST_FACTOR = 0.3
# How surely a lone character is the word that a longer text means by it.
_LONE_CHARACTER = 0.3
_LONGEST_WORD, _LONGEST_PHRASE = 12, 4
_HAN = re.compile("[\u3400-\u9fff]+")
_TOKEN = re.compile("[\u3400-\u9fff]+|[^\\W\u3400-\u9fff]+")


def words_asked(question: str) -> tuple[Concept, ...]:
    """For the lexical leg: the distinct terms of what the question is about."""
    terms = dict.fromkeys(lexical_terms(matter_of(question)))
    return tuple(Concept((Way((term,)),)) for term in terms)


def concepts_asked(question: str, translations: Translations) -> tuple[Concept, ...]:
    """For the bilingual leg: its words, Chinese ones found by the dictionary, each with its translations."""
    runs = _TOKEN.findall(matter_of(question))[: 4 * MOST_CONCEPTS]
    chinese = [run for run in runs if _HAN.match(run)]
    english = [stem for run in runs if not _HAN.match(run) for stem in lexical_terms(run)]
    concepts = [*_of_chinese(chinese, translations), *_of_english(english, translations)]
    return tuple(concepts[:MOST_CONCEPTS])


def _of_chinese(runs: Sequence[str], translations: Translations) -> Iterator[Concept]:
    known = translations.english([part for run in runs for part in _parts(run)])
    for run in runs:
        words = _segmented(run, known)
        for word in words:
            glosses = [Way(gloss, translated=True) for gloss in known.get(word, [])]
            if len(word) > 1:
                yield Concept((*glosses, Way(tuple(lexical_terms(word)))))
            elif glosses:
                yield Concept(tuple(glosses), _LONE_CHARACTER)
        yield from _of_strange_words(words)


def _of_strange_words(words: Sequence[str]) -> Iterator[Concept]:
    """Characters that stand alone beside each other are a word that the dictionary has not, a name as a rule: it can
    be found as it is written."""
    for alone, characters in groupby(words, key=lambda word: len(word) == 1):
        strange = "".join(characters) if alone else ""
        if len(strange) > 1:
            yield from (Concept((Way((pair,)),)) for pair in lexical_terms(strange))


def _parts(run: str) -> Iterator[str]:
    for start in range(len(run)):
        for end in range(start + 1, min(len(run), start + _LONGEST_WORD) + 1):
            yield run[start:end]


def _segmented(run: str, known: Mapping[str, object]) -> list[str]:
    """`run` in the fewest words of the dictionary; characters of none stand alone, and cost more than those of one."""
    costs, ends = [0.0] * (len(run) + 1), [0] * (len(run) + 1)
    for start in range(len(run) - 1, -1, -1):
        costs[start], ends[start] = costs[start + 1] + (1.2 if run[start] in known else 1.5), start + 1
        for end in range(start + 2, min(len(run), start + _LONGEST_WORD) + 1):
            if run[start:end] in known and costs[end] + 1 < costs[start]:
                costs[start], ends[start] = costs[end] + 1, end
    words, at = [], 0
    while at < len(run):
        words.append(run[at : ends[at]])
        at = ends[at]
    return words


def _of_english(stems: Sequence[str], translations: Translations) -> Iterator[Concept]:
    """The longest phrases that the dictionary has, from the left; words of none are asked for as they are."""
    telling = [stem for stem in stems if stem not in EMPTY_STEMS]
    spans = [(at, at + size) for at in range(len(telling)) for size in range(1, _LONGEST_PHRASE + 1)]
    phrases = {(at, end): " ".join(telling[at:end]) for at, end in spans if end <= len(telling)}
    known = translations.chinese(list(phrases.values()), _MOST_WORDS)
    at = 0
    while at < len(telling):
        size = next((n for n in range(_LONGEST_PHRASE, 0, -1) if phrases.get((at, at + n)) in known), 1)
        yield Concept((*_chinese_ways(known.get(phrases[at, at + size], [])), Way(tuple(telling[at : at + size]))))
        at += size


def _chinese_ways(words: Sequence[tuple[str, int]]) -> Iterator[Way]:
    for word, place in words:
        yield Way(_terms_of(word), max(_LEAST_FACTOR, 1 - _LATER_SENSE * place), translated=True)


@lru_cache(1 << 14)
def _terms_of(word: str) -> tuple[str, ...]:
    return tuple(lexical_terms(word))
