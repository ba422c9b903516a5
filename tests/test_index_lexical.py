from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from legs import SOME_TEXT, one_way

from rag_service.index.bm25 import (
    MOST_WAYS,
    TRANSLATED,
    Statistics,
    WeightedLeg,
    distinct_terms,
    quantised_lengths,
    weigh,
)
from rag_service.index.lexical import LexicalBase, LexicalWriter
from rag_service.index.lexical_tail import LexicalTail
from rag_service.ports import IndexRow
from rag_service.text import index_terms, lexical_terms
from rag_service.types import EVERYTHING, Concept, Language, PassageFilter, Way, WeighedConcept

Texts = dict[int, str]


def random_texts(count: int, longest: int, seed: int = 0) -> Texts:
    words = random.Random(seed)
    return {
        i: " ".join(f"w{int(words.paretovariate(0.8))}" for _ in range(words.randint(1, longest)))
        for i in range(3, 3 + 2 * count, 2)
    }


def row(chunk_id: int, text: str) -> IndexRow:
    return IndexRow(chunk_id, text, np.empty(0, dtype=np.float16), SOME_TEXT)


def base_of(texts: Texts, folder: Path, languages: tuple[Language, ...] = ("en",)) -> LexicalBase:
    """In the languages by turns."""
    rows = [
        replace(row(i, text), attributes=replace(SOME_TEXT, language=languages[n % len(languages)]))
        for n, (i, text) in enumerate(texts.items())
    ]
    with LexicalWriter(folder) as writer:
        tokens = sum(map(writer.add, rows))
        writer.finish()
    return LexicalBase.opened(folder, tokens)


def tail_of(texts: Texts) -> LexicalTail:
    return LexicalTail().extended(index_terms(text) for text in texts.values())


def statistics(base: LexicalBase, terms: Sequence[str], tail_chunks: int = 0, in_tail: int = 0) -> Statistics:
    return Statistics(base.chunks, base.frequencies(terms), tail_chunks, np.full(len(terms), in_tail))


def asked(base: LexicalBase, leg: Sequence[Concept], tail_chunks: int = 0, in_tail: int = 0) -> WeightedLeg:
    terms = distinct_terms([leg])
    return weigh(leg, terms, statistics(base, terms, tail_chunks, in_tail))


def found(base: LexicalBase, leg: Sequence[Concept], k: int) -> dict[int, float]:
    ids, scores = base.search(distinct_terms([leg]), asked(base, leg), k)
    return dict(zip(ids.tolist(), scores.tolist(), strict=True))


def tail_scores(tail: LexicalTail, leg: Sequence[Concept], average_length: float) -> tuple[list[float], float]:
    terms = distinct_terms([leg])
    matches = tail.matches(terms, np.ones(len(tail), dtype=np.bool_))
    query = weigh(leg, terms, Statistics(0, np.zeros(len(terms), dtype=np.int64), len(tail), matches.frequencies))
    return tail.scores(matches, query, average_length).tolist(), query.most


def reference(texts: Texts, terms: Sequence[str]) -> dict[int, float]:
    """Textbook BM25 with exact lengths."""
    cut = {i: index_terms(text) for i, text in texts.items()}
    average = sum(map(len, cut.values())) / len(cut)
    scores = dict.fromkeys(texts, 0.0)
    for term in terms:
        df = sum(term in words for words in cut.values())
        idf = math.log(1 + (len(cut) - df + 0.5) / (df + 0.5))
        for i, words in cut.items():
            tf = words.count(term)
            scores[i] += idf * 2.2 * tf / (tf + 1.2 * (0.25 + 0.75 * len(words) / average))
    return scores


TERMS = ("w1", "w3", "w7", "w40", "nowhere")
WORDS = one_way(*TERMS)
SEVERAL_WAYS = (
    Concept((Way(("w2",)), Way(("w5", "w1"), 0.6), Way(("nowhere",)))),
    Concept((Way(("w3",), 0.5), Way(("w9",), 0.9, translated=True)), 0.3),
    Concept((Way(("nowhere",)),)),
)


def test_the_base_scores_by_textbook_bm25(tmp_path: Path) -> None:
    texts = random_texts(300, longest=39)  # Up to 40 terms tantivy keeps lengths exactly.
    base, expected = base_of(texts, tmp_path), reference(texts, TERMS)
    scores = found(base, WORDS, 300)
    assert scores == pytest.approx({i: score for i, score in expected.items() if score > 0}, rel=1e-5)
    assert [*scores.values()] == sorted(scores.values(), reverse=True)


def test_the_tail_scores_by_textbook_bm25() -> None:
    texts = random_texts(300, longest=39)
    tail = tail_of(texts)
    scores, most = tail_scores(tail, WORDS, float(tail.lengths.mean()))
    np.testing.assert_allclose(scores, [*reference(texts, TERMS).values()], rtol=1e-9)
    assert max(scores) < most


@pytest.mark.parametrize("leg", [WORDS, SEVERAL_WAYS], ids=["words", "concepts"])
@pytest.mark.parametrize("longest", [39, 3000])
def test_base_and_tail_score_alike_and_round_long_texts_alike(
    tmp_path: Path, leg: tuple[Concept, ...], longest: int
) -> None:
    texts = random_texts(400, longest)
    base, tail = base_of(texts, tmp_path), tail_of(texts)
    expected, most = tail_scores(tail, leg, base.average_length)
    # tantivy's idf is float32, coarse for a term that nearly every chunk has.
    by_id = {i: score for i, score in zip(texts, expected, strict=True) if score > 0}
    assert found(base, leg, 400) == pytest.approx(by_id, rel=1e-4)
    assert 0 < max(expected) < most
    assert most == pytest.approx(asked(base, leg).most)


def test_base_and_tail_agree_on_chinese_and_mixed_text(tmp_path: Path) -> None:
    texts = {
        1: "有据可查的回答，每一句都有出处。",
        2: "FAISS 与 tantivy 都是缓存；SQL 才是真相。",
        3: "ＦＡＩＳＳ files, 𠮷野家",
    }
    leg = one_way(*lexical_terms("faiss 的回答有出處吗？𠮷野 file 书"), "才")
    base, tail = base_of(texts, tmp_path), tail_of(texts)
    expected, _ = tail_scores(tail, leg, base.average_length)
    assert found(base, leg, 3) == pytest.approx(dict(zip(texts, expected, strict=True)))


def test_a_base_weighs_terms_by_what_base_and_tail_hold_together(tmp_path: Path) -> None:
    texts = random_texts(200, longest=39)
    base = base_of(texts, tmp_path)
    leg = one_way("w3")
    alone, shared = asked(base, leg), asked(base, leg, tail_chunks=500, in_tail=450)
    (_, before), (_, after) = base.search(("w3",), alone, 50), base.search(("w3",), shared, 50)
    np.testing.assert_allclose(after / before, shared.weights[0] / alone.weights[0], rtol=1e-5)
    assert shared.weights[0] < alone.weights[0]


@pytest.mark.parametrize("leg", [WORDS, SEVERAL_WAYS], ids=["words", "concepts"])
def test_scores_of_given_chunks_are_those_of_the_search(tmp_path: Path, leg: tuple[Concept, ...]) -> None:
    texts = random_texts(300, longest=200)
    base = base_of(texts, tmp_path)
    everything = found(base, leg, 300)
    some = [*texts][::7]
    scores = base.scores_of(distinct_terms([leg]), asked(base, leg), some)
    assert set(scores) <= set(some)
    assert {i: scores.get(i, 0.0) for i in some} == pytest.approx({i: everything.get(i, 0.0) for i in some})


@pytest.mark.parametrize("only", [EVERYTHING, PassageFilter(languages=frozenset({"en"}))], ids=["all", "filtered"])
@pytest.mark.parametrize("leg", [WORDS, SEVERAL_WAYS], ids=["words", "concepts"])
def test_searching_and_scoring_at_once_is_searching_and_scoring(
    tmp_path: Path, leg: tuple[Concept, ...], only: PassageFilter
) -> None:
    texts = random_texts(300, longest=200)
    base = base_of(texts, tmp_path, ("en", "zh"))
    terms, weighted = distinct_terms([leg]), asked(base, leg)
    ids, scores = base.search(terms, weighted, 20, only)
    alone, tolerance = found(base, leg, 300), 2e-6 * weighted.most
    let_through = [*texts] if only.is_open() else [*texts][::2]
    for others in ([], let_through[::9], ids[:5].tolist(), let_through):
        best, best_scores, of_others = base.search_and_score(terms, weighted, 20, others, only)
        assert set(best.tolist()) <= set(let_through)
        np.testing.assert_allclose([alone[i] for i in best.tolist()], scores, rtol=0, atol=tolerance)
        np.testing.assert_allclose(best_scores, scores, rtol=0, atol=tolerance)
        assert of_others == pytest.approx(base.scores_of(terms, weighted, others), rel=0, abs=tolerance / 5)


def test_of_equal_chunks_the_older_are_found_also_where_some_were_asked_for(tmp_path: Path) -> None:
    base = base_of({i: f"w1 w2 {'w3 ' * (i % 2)}" for i in range(1, 101)}, tmp_path)
    leg = one_way("w1", "w2", "w3", "nowhere")
    terms, weighted = distinct_terms([leg]), asked(base, leg)
    for others in ([], [2, 98, 99], range(51, 101)):
        assert base.search_and_score(terms, weighted, 60, others)[0].tolist() == [*range(1, 101, 2), *range(2, 21, 2)]


def test_equal_chunks_have_equal_scores_whether_they_were_asked_for_or_not(tmp_path: Path) -> None:
    leg = one_way("w1", "w2", "w3")
    for others in range(24):
        # Other statistics each time: of some the bonus takes more than of others.
        rest = {10 + i: "f " * (i + 1) for i in range(others)}
        folder = tmp_path / str(others)
        folder.mkdir()
        base = base_of({1: "w1 w2 pad", 2: "w1 w2 pad", 3: "x " * others + "w3", **rest}, folder)
        terms, weighted = distinct_terms([leg]), asked(base, leg)
        ids, scores, of_others = base.search_and_score(terms, weighted, 3, [2])
        by_id = dict(zip(ids.tolist(), scores.tolist(), strict=True))
        assert [i for i in by_id if i < 3] == [1, 2]
        assert by_id[1] == by_id[2] == of_others[2]


@pytest.mark.parametrize("leg", [(), one_way("nowhere"), (Concept((Way(("no", "where")), Way(("nowhere",)))),)])
def test_a_query_without_known_terms_finds_nothing(tmp_path: Path, leg: tuple[Concept, ...]) -> None:
    base = base_of(random_texts(5, longest=9), tmp_path)
    assert found(base, leg, 5) == {}
    assert base.scores_of(distinct_terms([leg]), asked(base, leg), [3, 5]) == {}
    best, _, of_others = base.search_and_score(distinct_terms([leg]), asked(base, leg), 2, [3, 5])
    assert (best.tolist(), of_others) == ([], {})
    assert found(LexicalBase.empty(), leg, 5) == {}


def test_a_concept_nobody_mentions_still_counts_in_what_could_be_scored(tmp_path: Path) -> None:
    base = base_of(random_texts(50, longest=9), tmp_path)
    in_vain = Concept((Way(("nowhere",)), Way(("no", "where"))))
    alone, both = asked(base, one_way("w1")), asked(base, (*one_way("w1"), in_vain))
    assert both.most > alone.most + 2.2
    assert both.weighed == (*alone.weighed, WeighedConcept(pytest.approx(math.log1p(50.5 / 0.5)), ()))


def test_a_text_is_worth_the_best_of_a_concepts_ways_and_each_concept_once(tmp_path: Path) -> None:
    base = base_of({1: "ball x", 2: "sphere x", 3: "ball sphere", 4: "globe x", 5: "x x"}, tmp_path)
    ball, sphere, globe = Way(("ball",)), Way(("sphere",), 0.5), Way(("globe",), 0.25)
    scores = found(base, (Concept((ball, sphere, globe)),), 5)
    assert scores.keys() == {1, 2, 3, 4}
    assert scores[3] == pytest.approx(scores[1])
    assert scores[2] == pytest.approx(scores[1] / 2)
    assert scores[4] < scores[2]
    apart = found(base, (Concept((ball,)), Concept((sphere,))), 5)
    assert apart[3] > 1.9 * apart[2]


def test_a_way_is_scored_by_its_rarest_term(tmp_path: Path) -> None:
    texts = {1: "new york", 2: "new delhi", 3: "new old", 4: "york ham", 5: "new new"}
    leg = (Concept((Way(("new", "york")),)),)
    assert found(base_of(texts, tmp_path), leg, 5).keys() == {1, 4}
    scores, _ = tail_scores(tail_of(texts), leg, 2.0)
    assert [i for i, score in zip(texts, scores, strict=True) if score] == [1, 4]


def test_beside_the_word_itself_its_translation_is_worth_a_part_of_it() -> None:
    terms = ("word", "rare", "translation")

    def worth(*ways: Way) -> list[float]:
        """The word is in 90 of 100 chunks, its translations in one each."""
        leg = weigh((Concept(ways),), terms, Statistics(0, np.zeros(3, np.int64), 100, np.array([90, 1, 1])))
        return leg.weights.tolist()

    word, translation = Way(("word",)), Way(("translation",), translated=True)
    own, other = worth(word, translation)
    assert other == pytest.approx(TRANSLATED * own)
    assert worth(word, Way(("rare",)))[1] > own


def test_of_thousands_of_ways_the_rarest_that_occur_are_asked() -> None:
    terms = tuple(f"t{n}" for n in range(5000))
    nowhere = np.zeros(5000, dtype=np.int64)
    query = weigh(one_way(*terms), terms, Statistics(10_000, np.arange(5000), 0, nowhere))
    assert query.terms.tolist() == [*range(1, MOST_WAYS + 1)]
    assert (query.base_boosts > 0).all()
    assert len(query.weighed) == MOST_WAYS + 1
    assert query.most == pytest.approx(2.2 * (query.weights.sum() + math.log1p(10_000.5 / 0.5)))


def test_a_concept_keeps_those_of_its_ways_that_are_asked() -> None:
    terms = tuple(f"t{n}" for n in range(1, 601))
    frequencies = np.arange(1, 601)
    halves = (Concept(tuple(Way((t,)) for t in terms[::2])), Concept(tuple(Way((t,)) for t in terms[1::2])))
    common = Concept((Way((terms[-1],)),))
    query = weigh((*halves, common), terms, Statistics(1_000, frequencies, 0, np.zeros_like(frequencies)))
    assert sorted(query.terms.tolist()) == [*range(MOST_WAYS)]
    assert [len(concept.ways) for concept in query.weighed] == [MOST_WAYS // 2] * 2
    assert query.concepts.tolist() == [0] * (MOST_WAYS // 2) + [1] * (MOST_WAYS // 2)


LEGS = st.lists(
    st.builds(
        Concept,
        st.lists(
            st.builds(
                Way,
                st.lists(st.sampled_from(TERMS), min_size=1, max_size=3).map(tuple),
                st.sampled_from([1.0, 0.3]),
                st.booleans(),
            ),
            min_size=1,
            max_size=4,
        ).map(tuple),
        st.sampled_from([1.0, 0.3]),
    ),
    max_size=5,
).map(tuple)


@given(LEGS, st.lists(st.lists(st.sampled_from(TERMS[:4]), min_size=1, max_size=30), min_size=1, max_size=12))
def test_no_text_scores_more_than_there_is_to_score(leg: tuple[Concept, ...], texts: list[list[str]]) -> None:
    tail = LexicalTail().extended(texts)
    scores, most = tail_scores(tail, leg, float(tail.lengths.mean()))
    assert all(0 <= score < most for score in scores) or scores == [0.0] * len(texts)


def test_a_filter_keeps_out_all_that_it_does_not_let_through_and_changes_no_score(tmp_path: Path) -> None:
    texts = random_texts(300, longest=200)
    kinds = {i: replace(SOME_TEXT, document_id=f"Doc-{i % 10} é", language="zh" if i % 3 else "en", created_at=i / 8)
             for i in texts}  # fmt: skip
    with LexicalWriter(tmp_path) as writer:
        tokens = sum(writer.add(replace(row(i, text), attributes=kinds[i])) for i, text in texts.items())
        writer.finish()
    base = LexicalBase.opened(tmp_path, tokens)
    query, everything = asked(base, SEVERAL_WAYS), found(base, SEVERAL_WAYS, 300)
    filters = {
        PassageFilter(document_ids=frozenset({"Doc-3 é"})): lambda i: i % 10 == 3,
        PassageFilter(document_ids=frozenset({"doc-3 é", "Doc-3"})): lambda i: False,
        PassageFilter(languages=frozenset({"en"})): lambda i: i % 3 == 0,
        PassageFilter(languages=frozenset()): lambda i: False,
        PassageFilter(media_types=frozenset({"text/plain"}), languages=frozenset({"zh"})): lambda i: i % 3 > 0,
        PassageFilter(created_from=101 / 8): lambda i: i >= 101,
        PassageFilter(created_before=101 / 8): lambda i: i < 101,
        PassageFilter(created_from=101 / 8, created_before=151 / 8): lambda i: 101 <= i < 151,
    }
    for only, lets_through in filters.items():
        wanted = {i: score for i, score in everything.items() if lets_through(i)}
        for k in (1, 10, 300):
            ids, scores = base.search(distinct_terms([SEVERAL_WAYS]), query, k, only)
            assert len(ids) == min(k, len(wanted))
            got = dict(zip(ids.tolist(), scores.tolist(), strict=True))
            assert got == pytest.approx({i: wanted[i] for i in got})
            assert sorted(got.values()) == pytest.approx(sorted(wanted.values())[-k:])


IDENTIFIERS = ["GB/T 7714-2015", "X-200", "li.lei@example.com", "0x80070005", "ERR_CONN-42", "v2.10.3", "2026-11-26"]


@pytest.mark.parametrize("identifier", IDENTIFIERS)
def test_an_identifier_is_found_whole_before_its_parts(tmp_path: Path, identifier: str) -> None:
    """Among texts that have every one of its parts, oftener, but apart."""
    parts = " and ".join(re.findall(r"[^\W_]+", identifier))
    texts = {n: f"{parts}; {parts}; note {n}" for n in range(1, 30)}
    texts[30] = f"As told in {identifier}, see there, in the annex, and in what else was said of it at length."
    base = base_of(texts, tmp_path)
    leg = one_way(*lexical_terms(f"what does {identifier} say"))
    assert next(iter(found(base, leg, 5))) == 30


def test_lengths_are_rounded_down_to_what_tantivy_keeps() -> None:
    lengths = np.array([0, 1, 39, 40, 41, 42, 55, 57, 60, 103, 104, 1_000_000])
    rounded = quantised_lengths(lengths)
    assert rounded[:10].tolist() == [0, 1, 39, 40, 40, 42, 54, 56, 60, 96]
    assert (rounded <= lengths).all()
    assert (rounded[lengths > 0] > 0.88 * lengths[lengths > 0]).all()


@pytest.mark.parametrize("step", [1, 7, 100])
def test_a_tail_grown_in_steps_scores_like_one_made_at_once(step: int) -> None:
    texts = [index_terms(text) for text in random_texts(100, longest=60).values()]
    whole, grown = LexicalTail().extended(texts), [LexicalTail()]
    for begin in range(0, 100, step):
        grown.append(grown[-1].extended(texts[begin : begin + step]))
    for leg in (WORDS, SEVERAL_WAYS):
        assert tail_scores(grown[-1], leg, 30.0) == tail_scores(whole, leg, 30.0)
        for tail in grown[1:]:
            assert tail_scores(tail, leg, 30.0) == tail_scores(LexicalTail().extended(texts[: len(tail)]), leg, 30.0)
