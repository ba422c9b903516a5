"""From a question to passages, over an index and a gate that do as they are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from legs import NoTranslations, one_way
from passages import passage

from rag_service.errors import RerankingFailed
from rag_service.ports import Asked, Candidates, IndexQuery, Reranker, Vector
from rag_service.retrieval.coverage import DOCUMENT_WEIGHT, SENTENCE_WEIGHT
from rag_service.retrieval.diversity import MOST_OF_ONE_DOCUMENT
from rag_service.retrieval.fusion import ranked
from rag_service.retrieval.retriever import Retriever
from rag_service.types import Concept, Hit, Passage, PassageFilter, RankedPassage, Way, Weighed, WeighedConcept

QUESTION = "How long does the battery last?"
OPEN = PassageFilter()


@dataclass
class FakeIndex:
    """The best `limit` of its hits, by the dense score, of one knowledge base or more."""

    hits: Sequence[Hit]
    weighed: Weighed = field(default_factory=lambda: Weighed((), ()))
    depths: list[int] = field(default_factory=list)
    asked: list[IndexQuery] = field(default_factory=list)

    def search(self, knowledge_base_id: str, asked: Asked, limit: int) -> Candidates:
        self.depths.append(limit)
        self.asked.append(asked("its own embedder"))
        best = sorted(self.hits, key=lambda hit: -hit.dense)[:limit]
        return Candidates(7, tuple(best), len(best) == len(self.hits), self.weighed, 3)


@dataclass
class FakeStore:
    """Lets through the chunks it has."""

    passages_by_id: dict[int, Passage]

    def passages(
        self, tenant: str, knowledge_base_ids: Sequence[str], chunk_ids: Sequence[int], only: PassageFilter
    ) -> dict[int, Passage]:
        return {i: self.passages_by_id[i] for i in chunk_ids if i in self.passages_by_id}


class FakeEmbedders:
    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def embed_query(self, embedder: str, text: str) -> Vector:
        self.asked.append((embedder, text))
        return np.ones(4, dtype=np.float32)


@dataclass
class ScriptedReranker:
    """Scores by what the script says of a text, else 0."""

    script: dict[str, float]
    name: str = "scripted"
    read: list[list[str]] = field(default_factory=list)

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        assert query == QUESTION
        self.read.append(list(texts))
        return [self.script.get(text, 0.0) for text in texts]


def store_of(*texts: str) -> FakeStore:
    """Chunk n, from 1, is the n-th text, each of a document of its own."""
    return FakeStore({n: passage(text, n, f"d{n}") for n, text in enumerate(texts, 1)})


def hits(*dense: float) -> list[Hit]:
    return [Hit(n, score, 0.0) for n, score in enumerate(dense, 1)]


def retrieve(
    index: FakeIndex, store: FakeStore, reranker: Reranker | None = None, top_k: int = 8, only: PassageFilter = OPEN
) -> tuple[RankedPassage, ...]:
    retriever = Retriever(FakeEmbedders(), index, store, NoTranslations(), reranker)
    return retriever.retrieve("default", ["kb"], QUESTION, top_k, only).passages


def test_a_reranker_has_the_last_word_and_what_the_legs_said_is_kept() -> None:
    reranker = ScriptedReranker({"one": 0.1, "two": 0.9, "three": 0.5})
    found = retrieve(FakeIndex(hits(0.9, 0.5, 0.7)), store_of("one", "two", "three"), reranker)
    assert [one.passage.text for one in found] == ["two", "three", "one"]
    assert [one.score for one in found] == [0.9, 0.5, 0.1]
    assert [one.scores.rerank for one in found] == [0.9, 0.5, 0.1]
    assert [one.scores.dense for one in found] == [0.5, 0.7, 0.9]
    assert reranker.read == [["one", "three", "two"]]


def test_a_reranker_reads_little_more_than_twice_what_is_wanted_of_many() -> None:
    texts = [f"text {n}" for n in range(100)]
    reranker = ScriptedReranker({"text 15": 1.0, "text 16": 1.0})
    found = retrieve(FakeIndex(hits(*(1 - n / 100 for n in range(100)))), store_of(*texts), reranker)
    assert reranker.read == [texts[:18]]
    assert len(found) == 8
    assert found[0].passage.text == "text 15"


def test_equal_scores_of_a_reranker_go_to_the_older_chunk() -> None:
    found = retrieve(FakeIndex(hits(0.1, 0.9, 0.5)), store_of("one", "two", "three"), ScriptedReranker({}))
    assert [one.passage.chunk_id for one in found] == [1, 2, 3]


def test_what_a_reranker_fails_at_is_no_ranking_without_it() -> None:
    class Failing:
        name = "failing"

        def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
            raise RerankingFailed("it is down")

    with pytest.raises(RerankingFailed):
        retrieve(FakeIndex(hits(0.9)), store_of("one"), Failing())


def test_a_reranker_that_answers_for_other_texts_is_refused() -> None:
    class Short:
        name = "short"

        def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
            return [1.0]

    with pytest.raises(ValueError, match="shorter"):
        retrieve(FakeIndex(hits(0.9, 0.8)), store_of("one", "two"), Short())


def test_nothing_found_is_nothing_reranked() -> None:
    reranker = ScriptedReranker({})
    assert retrieve(FakeIndex([]), store_of(), reranker) == ()
    assert [text for texts in reranker.read for text in texts] == []


def worth(*terms: str) -> Weighed:
    return Weighed(tuple(WeighedConcept(1.0, (((term,), 1.0),)) for term in terms), ())


def test_of_passages_found_alike_the_one_that_says_it_in_one_sentence_comes_first() -> None:
    store = store_of("The battery is new. It cannot last.", "The battery lasts a day. Or two.", "Nothing of it.")
    index = FakeIndex([Hit(n, 0.5, 0.5) for n in (1, 2, 3)], worth("batteri", "last"))
    found = retrieve(index, store)
    assert [one.passage.chunk_id for one in found] == [2, 1, 3]
    assert [one.scores.rerank for one in found] == sorted((one.scores.rerank or 0.0 for one in found), reverse=True)
    assert len({one.scores.fused for one in found}) == 1


def test_what_the_best_sentence_says_does_not_outdo_what_the_legs_say() -> None:
    store = store_of("The battery lasts.", "Something else entirely")
    found = retrieve(FakeIndex([Hit(1, 0.1, 0.1), Hit(2, 0.9, 0.9)], worth("batteri", "last")), store)
    assert [one.passage.chunk_id for one in found] == [2, 1]


SHARE = st.integers(0, 1000).map(lambda share: share / 1000)


@given(st.lists(st.tuples(SHARE, SHARE, SHARE, st.sampled_from(["battery lasts", "battery", "x", ""])), max_size=20))
def test_scores_are_shares_best_first_and_ranked_by_them(made: list[tuple[float, float, float, str]]) -> None:
    store = store_of(*(f"{text} {n}." for n, (_, _, _, text) in enumerate(made)))
    index = FakeIndex([Hit(n, *legs) for n, (*legs, _) in enumerate(made, 1)], worth("batteri", "last"))
    found = retrieve(index, store, top_k=50)
    assert {one.passage.chunk_id for one in found} == {hit.chunk_id for hit in index.hits}
    assert all(0 <= one.score <= 1 for one in found)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    fused = dict(ranked(index.hits))
    for one in found:
        assert one.scores.fused == fused[one.passage.chunk_id].fused
        most = SENTENCE_WEIGHT + DOCUMENT_WEIGHT
        assert one.scores.fused / (1 + most) - 1e-9 <= one.score <= (one.scores.fused + most) / (1 + most) + 1e-9


def test_the_question_is_embedded_once_by_each_embedder_and_asked_in_its_own_words() -> None:
    embedders, index = FakeEmbedders(), FakeIndex(hits(0.5))
    retriever = Retriever(embedders, index, store_of("one"), NoTranslations())
    found = retriever.retrieve("default", ["kb", "b"], QUESTION, 8, OPEN)
    assert embedders.asked == [("its own embedder", QUESTION)]
    assert {query.words for query in index.asked} == {one_way("batteri", "last")}
    assert (found.revision, found.base_revision) == ({"kb": 7, "b": 7}, {"kb": 3, "b": 3})
    assert found.query_language == "en"


def test_the_search_goes_deeper_until_there_is_enough_and_no_deeper() -> None:
    many = [Hit(n, 1 - n / 10_000, 0.0) for n in range(1, 5_000)]
    near, far = FakeIndex(many), FakeIndex(many)
    assert len(retrieve(near, FakeStore({n: passage(f"text {n}", n, f"d{n}") for n in range(1, 9)}))) == 8
    assert len(retrieve(far, FakeStore({n: passage(f"text {n}", n, f"d{n}") for n in range(500, 509)}))) == 8
    assert near.depths == [32]
    assert far.depths == [32, 128, 512]


def test_a_filter_is_put_to_the_index_with_the_question_and_costs_no_further_search() -> None:
    only = PassageFilter(languages=frozenset({"en"}))
    index, many = FakeIndex(hits(0.9, 0.8)), FakeIndex([Hit(n, 1 - n / 10_000, 0.0) for n in range(1, 5_000)])
    retrieve(index, store_of("one", "two"), top_k=50, only=only)
    assert [query.only for query in index.asked] == [only]
    # The gate lets none through: what the index said of a filter is not searched for to its end.
    retrieve(many, store_of(), only=only)
    assert many.depths == [32, 128, 512, 2_048]


def test_where_everything_was_found_there_is_nothing_deeper() -> None:
    index = FakeIndex(hits(0.9, 0.8))
    assert len(retrieve(index, store_of("one", "two"), top_k=50)) == 2
    assert len(index.depths) == 1


def test_no_document_crowds_out_another_and_an_only_one_may_fill_the_page() -> None:
    store = FakeStore({n: passage(f"text {n} of {n % 7}", n, "A" if n < 9 else "B") for n in range(1, 11)})
    index = FakeIndex(hits(*(1 - n / 100 for n in range(10))))
    kept = [one.passage.document_id for one in retrieve(index, store)]
    assert kept == ["A"] * MOST_OF_ONE_DOCUMENT + ["B"] * 2
    only_a = FakeStore({n: one for n, one in store.passages_by_id.items() if one.document_id == "A"})
    assert len(retrieve(index, only_a, only=PassageFilter(document_ids=frozenset({"A"})))) == 8


def test_what_only_translations_have_found_is_looked_at_behind_the_best() -> None:
    own = [Hit(n, 0.9 - n / 1_000, 0.5, 0.5) for n in range(1, 26)]
    twin = Hit(99, 0.2, 0.0, 0.3)
    store = store_of(*(f"text {n}" for n in range(1, 26)))
    store.passages_by_id[99] = replace(passage("第九十九段", 99, "d99"), language="zh")
    found = retrieve(FakeIndex([*own, twin]), store)
    assert [one.passage.chunk_id for one in found] == [1, 2, 3, 4, 5, 6, 7, 99]


def test_terms_of_the_conversation_are_asked_for_beside_the_question_by_their_weight() -> None:
    index = FakeIndex(hits(0.5))
    retriever = Retriever(FakeEmbedders(), index, store_of("one"), NoTranslations())
    found = retriever.retrieve("default", ["kb"], QUESTION, 8, OPEN, {"lamp": 0.5})
    [query] = index.asked
    beside = Concept((Way(("lamp",)),), 0.5)
    assert query.words[-1] == query.concepts[-1] == beside
    assert found.context == {"lamp": 0.5}
