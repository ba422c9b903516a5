from __future__ import annotations

from collections import Counter

from hypothesis import example, given
from hypothesis import strategies as st
from passages import ranked

from rag_service.retrieval.diversity import MOST_OF_ONE_DOCUMENT, OTHER_LANGUAGE, WORTH_A_PLACE, selected
from rag_service.types import RankedPassage

WORDS = [f"word{n}" for n in range(12)]
OFFERS = st.lists(
    st.tuples(st.sampled_from("ABC"), st.lists(st.sampled_from(WORDS), min_size=1, max_size=6)), max_size=25
)


def offers(made: list[tuple[str, list[str]]]) -> list[RankedPassage]:
    return [ranked(" ".join(words), 1 - n / 100, n, document) for n, (document, words) in enumerate(made)]


def select(passages: list[RankedPassage], size: int, one_document: bool = False) -> list[RankedPassage]:
    return list(selected(passages, size, one_document))


def distinct(document: str, count: int) -> list[tuple[str, list[str]]]:
    return [(document, [f"{document}{n}x{k}" for k in range(8)]) for n in range(count)]


@given(OFFERS, st.integers(1, 12), st.booleans())
def test_what_is_selected_was_offered_best_first_and_says_different_things(
    made: list[tuple[str, list[str]]], size: int, one_document: bool
) -> None:
    passages = offers(made)
    kept = select(passages, size, one_document)
    places = [passages.index(one) for one in kept]
    assert len(kept) <= size
    assert places == sorted(set(places))
    assert len({frozenset(one.passage.text.split()) for one in kept}) == len(kept)
    if passages:
        assert kept[0] == passages[0]


@given(OFFERS, st.integers(1, 12))
def test_no_document_crowds_out_another(made: list[tuple[str, list[str]]], size: int) -> None:
    kept = select(offers(made), size)
    counts = Counter(one.passage.document_id for one in kept)
    assert len(counts) <= 1 or max(counts.values()) <= MOST_OF_ONE_DOCUMENT


def test_an_only_document_may_fill_the_page() -> None:
    kept = select(offers(distinct("A", 6)), 5)
    assert [one.passage.chunk_id for one in kept] == [0, 1, 2, 3, 4]
    assert len(select(offers(distinct("A", 6)), 5, one_document=True)) == 5


def test_what_was_held_back_does_not_return_beside_another_document() -> None:
    kept = select(offers([*distinct("A", 6), *distinct("B", 1)]), 8)
    assert Counter(one.passage.document_id for one in kept) == {"A": 3, "B": 1}


def test_near_duplicates_are_folded_into_the_best_of_them() -> None:
    body = (
        "The warranty of the device lasts twenty four months from delivery and covers all parts and labour too, "
        "without any charge to its first buyer"
    )
    kept = select(
        [ranked(f"{body}. v1", 0.9, 1, "A"), ranked(f"{body}. v2", 0.8, 2, "B"), ranked("else", 0.7, 3, "C")], 5
    )
    assert [one.passage.chunk_id for one in kept] == [1, 3]
    other = body.replace("twenty four months", "one single year")
    assert len(select([ranked(body, 0.9, 1, "A"), ranked(other, 0.8, 2, "B")], 5)) == 2


def in_languages(languages: str, scores: list[float]) -> list[RankedPassage]:
    """One passage a document, `z` in Chinese and `e` in English, of no two the same words."""
    return [
        ranked(chr(0x4E00 + n) * 2 + chr(0x5E00 + n) if letter == "z" else f"text {n} says {n}", score, n, f"d{n}")
        for n, (letter, score) in enumerate(zip(languages, scores, strict=True))
    ]


def test_every_third_place_is_kept_for_the_other_language() -> None:
    passages = in_languages("zzzzzzzzee", [0.9 - n / 100 for n in range(10)])
    assert [one.passage.chunk_id for one in select(passages, 6)] == [0, 1, 2, 3, 8, 9]
    assert [one.passage.chunk_id for one in select(passages, 3)] == [0, 1, 8]
    assert [one.passage.chunk_id for one in select(passages, 2)] == [0, 1]


def test_what_is_worth_little_gets_no_place_because_of_its_language() -> None:
    little = in_languages("eeeeeez", [0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.8 * WORTH_A_PLACE - 0.01])
    assert [one.passage.chunk_id for one in select(little, 6)] == [0, 1, 2, 3, 4, 5]
    assert [one.passage.chunk_id for one in select(little, 7)] == [0, 1, 2, 3, 4, 5, 6]


@given(st.text("ze", min_size=1, max_size=20), st.integers(1, 12))
@example("ezeeeeeeeeez", 12)
def test_languages_change_neither_the_first_nor_the_order(languages: str, size: int) -> None:
    passages = in_languages(languages, [0.9 - n / 100 for n in range(len(languages))])
    kept = [one.passage.chunk_id for one in select(passages, size)]
    others = [n for n, letter in enumerate(languages) if letter != languages[0]]
    assert kept[0] == 0
    assert kept == sorted(kept)
    assert len(kept) == min(size, len(languages))
    assert len(set(kept) & set(others)) >= min(size // OTHER_LANGUAGE, len(others))
