"""What a question asks the lexical legs for, by a dictionary of a few words and by the real one."""

from __future__ import annotations

import time
from collections.abc import Sequence

import opencc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_service.dictionary.bilingual import Bilingual
from rag_service.ports import Translations
from rag_service.retrieval.concepts import MOST_CONCEPTS, concepts_asked, words_asked
from rag_service.text import EMPTY_STEMS, lexical_terms, matter_of
from rag_service.types import Concept

REAL = Bilingual()
TRADITIONAL = opencc.OpenCC("s2t")


class FewWords:
    """By Chinese word its glosses, and the other way round."""

    def __init__(self, **glosses: str) -> None:
        self._glosses = {word: said.split("/") for word, said in glosses.items()}

    def english(self, words: Sequence[str]) -> dict[str, list[tuple[str, ...]]]:
        known = (word for word in words if word in self._glosses)
        return {word: [tuple(gloss.split(" ")) for gloss in self._glosses[word]] for word in known}

    def chinese(self, phrases: Sequence[str], most: int) -> dict[str, list[tuple[str, int]]]:
        pairs = [(g, word, at) for word, glosses in self._glosses.items() for at, g in enumerate(glosses)]
        found = {phrase: [(word, at) for gloss, word, at in pairs if gloss == phrase][:most] for phrase in phrases}
        return {phrase: words for phrase, words in found.items() if words}


FEW = FewWords(
    研究="research/studi", 研究生="graduat student", 生命="life", 命="fate/life", 起源="origin", 纽约="new york"
)


def said(concept: Concept) -> list[str]:
    """Its ways, best first as they stand, each as one text."""
    return [" ".join(way.terms) for way in concept.ways]


def asked(question: str, translations: Translations = FEW) -> list[list[str]]:
    return [said(concept) for concept in concepts_asked(question, translations)]


def test_a_chinese_run_is_cut_into_the_fewest_words_that_the_dictionary_has() -> None:
    assert asked("研究生命起源") == [["research", "studi", "研究"], ["life", "生命"], ["origin", "起源"]]
    assert asked("研究生起源") == [["graduat student", "研究 究生"], ["origin", "起源"]]


def test_a_lone_character_that_the_dictionary_has_not_is_not_asked_for_and_the_word_beside_it_is() -> None:
    assert asked("龘研究龘") == [["research", "studi", "研究"]]


def test_a_name_that_the_dictionary_has_not_is_asked_for_as_it_is_written() -> None:
    assert asked("龘靐研究齉龖龗") == [["research", "studi", "研究"], ["龘靐"], ["齉龖"], ["龖龗"]]
    assert asked("龘命研究") == [["fate", "life"], ["research", "studi", "研究"], ["龘命"]]


def test_a_lone_character_is_asked_by_its_translations_alone_and_counts_little() -> None:
    [word, character] = concepts_asked("研究命", FEW)
    assert said(character) == ["fate", "life"]
    assert character.weight < word.weight / 2


def test_english_words_are_asked_as_the_longest_phrases_that_the_dictionary_has() -> None:
    assert asked("research in New York on student life") == [
        ["研究", "research"],
        ["纽约", "new york"],
        ["student"],
        ["生命", "命", "life"],
    ]
    assert asked("new graduate students of York") == [["new"], ["研究 究生", "graduat student"], ["york"]]


def test_a_later_sense_is_less_sure_and_the_word_itself_is_sure() -> None:
    [life] = concepts_asked("life", FEW)
    first, later, itself = life.ways
    assert (first.terms, later.terms, itself.terms) == (("生命",), ("命",), ("life",))
    assert 1.0 == first.factor > later.factor > 0.0
    assert itself.factor == 1.0
    assert [way.translated for way in life.ways] == [True, True, False]


def test_words_that_only_ask_or_join_are_no_concept() -> None:
    assert asked("What is the origin of life?") == [["起源", "origin"], ["生命", "命", "life"]]
    assert asked("什么是生命的起源吗？")[-1] == ["origin", "起源"]


def test_a_question_in_both_languages_asks_for_both() -> None:
    assert [one[-1] for one in asked("生命 and origin")] == ["生命", "origin"]


@given(st.text(max_size=60) | st.text(alphabet="研究生命起源纽约 life new york X-2的", max_size=40))
@pytest.mark.parametrize("translations", [FEW, REAL], ids=["few", "real"])
def test_every_concept_can_be_said_and_is_worth_at_most_one(translations: Translations, question: str) -> None:
    for concept in concepts_asked(question, translations):
        assert 0 < concept.weight <= 1
        assert concept.ways
        for way in concept.ways:
            assert way.terms
            assert all(way.terms)
            assert 0 < way.factor <= 1
    # No word leg without its own words: where the dictionary knows nothing, plain BM25 is what is left.
    assert [said(concept) for concept in words_asked(question)] == [
        [term] for term in dict.fromkeys(lexical_terms(matter_of(question)))
    ]


@given(st.text(alphabet="研究生命起源龘纽约 life new york the", max_size=40))
def test_the_word_itself_is_always_one_of_its_ways_and_no_word_comes_from_elsewhere(question: str) -> None:
    own = set(lexical_terms(question))
    for concept in concepts_asked(question, REAL):
        itself = [way for way in concept.ways if not way.translated]
        assert len(itself) == 1 or concept.weight < 1
        assert all(set(way.terms) <= own for way in itself)


@given(st.text(alphabet="lifeorgnstudyak ", max_size=40))
def test_every_english_word_that_tells_something_is_asked_for_once_in_its_own_language(question: str) -> None:
    telling = [stem for stem in lexical_terms(matter_of(question)) if stem not in EMPTY_STEMS]
    own = [term for c in concepts_asked(question, FEW) for way in c.ways if not way.translated for term in way.terms]
    assert own == telling[: len(own)]
    assert len(own) == len(telling) or len(telling) > MOST_CONCEPTS


@pytest.mark.parametrize("question", ["", " \n", "🙂🙂", "？！。", "...", "\u200b", "_", "的", "the", "一"])
def test_a_question_of_nothing_much_asks_for_little_and_breaks_nothing(question: str) -> None:
    assert len(words_asked(question)) <= 1
    assert len(concepts_asked(question, REAL)) <= 1


@pytest.mark.parametrize("character", ["球", "假", "龘", "x", "7"])
def test_a_question_of_one_character_asks_for_it(character: str) -> None:
    assert [said(concept) for concept in words_asked(character)] == [[character]]


@pytest.mark.parametrize(
    ("question", "term"),
    [
        ("Кто написал роман?", "роман"),
        ("소설은 누가 썼나요", "소설은"),
        ("カタカナ", "タカ"),
        ("¿Quién escribió?", "quién"),
    ],
)
def test_a_question_in_a_third_language_is_asked_by_its_own_words(question: str, term: str) -> None:
    assert [term] in [said(concept) for concept in words_asked(question)]
    assert [term] in asked(question, REAL)


@pytest.mark.parametrize("word", ["银行年假球", "bank holiday ball ", "роман ", "カナ球 bank "])
def test_a_pasted_page_is_asked_for_by_its_first_words_alone(word: str) -> None:
    page = word * 1_000
    begun = time.perf_counter()
    concepts = concepts_asked(page, REAL)
    assert time.perf_counter() - begun < 2.0
    assert 1 < len(concepts) <= MOST_CONCEPTS
    assert len(words_asked(page)) < 12


@given(st.lists(st.sampled_from(["软体授权", "费用", "头发", "发型", "衞生间", "台风", "图书馆", "bank"]), max_size=8))
def test_a_traditional_question_is_the_simplified_one(parts: list[str]) -> None:
    simplified = "".join(parts)
    traditional = TRADITIONAL.convert(simplified)
    assert words_asked(traditional) == words_asked(simplified)
    assert concepts_asked(traditional, REAL) == concepts_asked(simplified, REAL)
    assert concepts_asked("軟體授權費用由誰負擔？", REAL) == concepts_asked("软体授权费用由谁负担？", REAL)
