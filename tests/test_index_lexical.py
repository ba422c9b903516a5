from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from rag_service.index.bm25 import MOST_TERMS, WeightedTerms, quantised_lengths, weigh
from rag_service.index.lexical import LexicalBase, LexicalWriter
from rag_service.index.lexical_tail import LexicalTail
from rag_service.text import lexical_terms

Texts = dict[int, str]


def random_texts(count: int, longest: int, seed: int = 0) -> Texts:
    words = random.Random(seed)
    return {
        i: " ".join(f"w{int(words.paretovariate(0.8))}" for _ in range(words.randint(1, longest)))
        for i in range(3, 3 + 2 * count, 2)
    }


def base_of(texts: Texts, folder: Path) -> LexicalBase:
    with LexicalWriter(folder) as writer:
        tokens = sum(writer.add(chunk_id, text) for chunk_id, text in texts.items())
        writer.finish()
    return LexicalBase.opened(folder, tokens)


def tail_of(texts: Texts) -> LexicalTail:
    return LexicalTail().extended(lexical_terms(text) for text in texts.values())


def weights(base: LexicalBase, terms: Sequence[str], tail_chunks: int = 0, in_tail: int = 0) -> WeightedTerms:
    more = np.full(len(terms), in_tail)
    return weigh(terms, base.chunks, base.frequencies(terms), tail_chunks, more)


def tail_scores(tail: LexicalTail, terms: Sequence[str], average_length: float) -> tuple[list[float], float]:
    alive = np.ones(len(tail), dtype=np.bool_)
    matches = tail.matches(terms, alive)
    query = weigh(terms, 0, np.zeros(len(terms), dtype=np.int64), len(tail), matches.frequencies)
    return tail.scores(matches, query, average_length).tolist(), query.most


def reference(texts: Texts, terms: Sequence[str]) -> dict[int, float]:
    """Textbook BM25 with exact lengths."""
    cut = {i: lexical_terms(text) for i, text in texts.items()}
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


def test_the_base_scores_by_textbook_bm25(tmp_path: Path) -> None:
    texts = random_texts(300, longest=39)  # Up to 40 terms tantivy keeps lengths exactly.
    base, expected = base_of(texts, tmp_path), reference(texts, TERMS)
    found, scores = base.search(weights(base, TERMS), 300)
    assert set(found.tolist()) == {i for i, score in expected.items() if score > 0}
    np.testing.assert_allclose(scores, [expected[i] for i in found.tolist()], rtol=1e-5)
    assert (np.diff(scores) <= 0).all()


def test_the_tail_scores_by_textbook_bm25() -> None:
    texts = random_texts(300, longest=39)
    tail = tail_of(texts)
    scores, most = tail_scores(tail, TERMS, float(tail.lengths.mean()))
    np.testing.assert_allclose(scores, [*reference(texts, TERMS).values()], rtol=1e-9)
    assert max(scores) < most


def test_base_and_tail_round_long_texts_alike(tmp_path: Path) -> None:
    texts = random_texts(400, longest=3000)
    base, tail = base_of(texts, tmp_path), tail_of(texts)
    expected, _ = tail_scores(tail, TERMS, base.average_length)
    found, scores = base.search(weights(base, TERMS), 400)
    by_id = dict(zip(texts, expected, strict=True))
    # tantivy's idf is float32, coarse for a term that nearly every chunk has.
    np.testing.assert_allclose(scores, [by_id[i] for i in found.tolist()], rtol=1e-4)


def test_base_and_tail_agree_on_chinese_and_mixed_text(tmp_path: Path) -> None:
    texts = {
        1: "有据可查的回答，每一句都有出处。",
        2: "FAISS 与 tantivy 都是缓存；SQL 才是真相。",
        3: "ＦＡＩＳＳ files, 𠮷野家",
    }
    terms = tuple(dict.fromkeys(lexical_terms("faiss 的回答有出處吗？𠮷野 file")))
    base, tail = base_of(texts, tmp_path), tail_of(texts)
    expected, _ = tail_scores(tail, terms, base.average_length)
    found, scores = base.search(weights(base, terms), 3)
    assert dict(zip(found.tolist(), scores.tolist(), strict=True)) == pytest.approx(
        dict(zip(texts, expected, strict=True))
    )


def test_a_base_weighs_terms_by_what_base_and_tail_hold_together(tmp_path: Path) -> None:
    texts = random_texts(200, longest=39)
    base = base_of(texts, tmp_path)
    alone, shared = weights(base, ("w3",)), weights(base, ("w3",), tail_chunks=500, in_tail=450)
    (_, before), (_, after) = base.search(alone, 50), base.search(shared, 50)
    np.testing.assert_allclose(after / before, shared.idf[0] / alone.idf[0], rtol=1e-5)


def test_scores_of_given_chunks_are_those_of_the_search(tmp_path: Path) -> None:
    texts = random_texts(300, longest=200)
    base = base_of(texts, tmp_path)
    query = weights(base, TERMS)
    everything = dict(zip(*(part.tolist() for part in base.search(query, 300)), strict=True))
    asked = [*texts][::7]
    scores = base.scores_of(query, asked)
    assert set(scores) <= set(asked)
    assert {i: scores.get(i, 0.0) for i in asked} == pytest.approx({i: everything.get(i, 0.0) for i in asked})


@pytest.mark.parametrize("terms", [(), ("nowhere",)])
def test_a_query_without_known_terms_finds_nothing(tmp_path: Path, terms: tuple[str, ...]) -> None:
    base = base_of(random_texts(5, longest=9), tmp_path)
    query = weights(base, terms)
    assert len(base.search(query, 5)[0]) == 0
    assert base.scores_of(query, [3, 5]) == {}
    assert LexicalBase.empty().search(weights(LexicalBase.empty(), terms), 5)[0].size == 0


def test_a_term_nobody_has_still_counts_in_what_could_be_scored(tmp_path: Path) -> None:
    base = base_of(random_texts(50, longest=9), tmp_path)
    assert weights(base, ("w1", "nowhere")).most > weights(base, ("w1",)).most + 2.2


def test_of_thousands_of_terms_the_rarest_that_occur_are_asked() -> None:
    in_base = np.arange(5000)
    query = weigh([f"t{n}" for n in range(5000)], 10_000, in_base, 0, np.zeros(5000, dtype=np.int64))
    assert np.flatnonzero(query.base_boosts).tolist() == list(range(1, MOST_TERMS + 1))
    assert query.most == pytest.approx(2.2 * query.idf[: MOST_TERMS + 1].sum())


def test_lengths_are_rounded_down_to_what_tantivy_keeps() -> None:
    lengths = np.array([0, 1, 39, 40, 41, 42, 55, 57, 60, 103, 104, 1_000_000])
    rounded = quantised_lengths(lengths)
    assert rounded[:10].tolist() == [0, 1, 39, 40, 40, 42, 54, 56, 60, 96]
    assert (rounded <= lengths).all()
    assert (rounded[lengths > 0] > 0.88 * lengths[lengths > 0]).all()


@pytest.mark.parametrize("step", [1, 7, 100])
def test_a_tail_grown_in_steps_scores_like_one_made_at_once(step: int) -> None:
    texts = [lexical_terms(text) for text in random_texts(100, longest=60).values()]
    whole, grown = LexicalTail().extended(texts), [LexicalTail()]
    for begin in range(0, 100, step):
        grown.append(grown[-1].extended(texts[begin : begin + step]))
    assert tail_scores(grown[-1], TERMS, 30.0) == tail_scores(whole, TERMS, 30.0)
    for tail in grown[1:]:
        assert tail_scores(tail, TERMS, 30.0) == tail_scores(LexicalTail().extended(texts[: len(tail)]), TERMS, 30.0)
