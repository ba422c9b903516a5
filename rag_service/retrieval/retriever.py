"""From a question to passages: all legs, fused, through the gate, ranked again by what they say, best first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from types import MappingProxyType

from rag_service.ports import Asked, Candidates, Embedders, Index, IndexQuery, PassageStore, Reranker, Translations
from rag_service.retrieval.concepts import concepts_asked, words_asked
from rag_service.retrieval.coverage import Coverage, by_coverage
from rag_service.retrieval.diversity import OTHER_LANGUAGE, selected
from rag_service.retrieval.fusion import ranked
from rag_service.text import language_of
from rag_service.types import Concept, PassageFilter, RankedPassage, Retrieval, Scores, Way

_SHALLOWEST = 32
# How far down a search goes to fill `top_k` with more documents.
_DEEPEST = 1_024
_GATE_AT_ONCE = 500
_NO_CONTEXT: Mapping[str, float] = MappingProxyType({})


class Retriever:
    """`reranker` is a model that reads question and passage together; without one, coverage ranks what was found."""

    def __init__(
        self,
        embedders: Embedders,
        index: Index,
        store: PassageStore,
        translations: Translations,
        reranker: Reranker | None = None,
    ) -> None:
        self._embedders = embedders
        self._index = index
        self._store = store
        self._translations = translations
        self._reranker = reranker

    def retrieve(
        self,
        tenant: str,
        knowledge_base_ids: Sequence[str],
        query: str,
        top_k: int,
        only: PassageFilter,
        context: Mapping[str, float] = _NO_CONTEXT,
    ) -> Retrieval:
        """Up to `top_k` passages. The caller has made sure that the knowledge bases are the tenant's.

        At most three of one document unless it is the only one, near-duplicates folded into the best of them.
        `context` are lexical terms of the conversation, asked for beside the query's own, each by its weight.
        """
        asked = self._asked(query, context, only)
        depth = max(_SHALLOWEST, 4 * top_k)
        while True:
            found = {kb: self._index.search(kb, asked, depth) for kb in knowledge_base_ids}
            passages = self._select(tenant, query, found, top_k, only)
            exhausted = all(candidates.exhausted for candidates in found.values())
            if len(passages) >= top_k or exhausted or depth >= _DEEPEST:
                break
            depth *= 4
        return Retrieval(
            query=query,
            query_language=language_of(query),
            revision={kb: candidates.revision for kb, candidates in found.items()},
            passages=passages,
            weighed={kb: candidates.weighed for kb, candidates in found.items()},
            base_revision={kb: candidates.base_revision for kb, candidates in found.items()},
            context=dict(context),
        )

    def _asked(self, query: str, context: Mapping[str, float], only: PassageFilter) -> Asked:
        """Embedded once by each embedder among the knowledge bases."""
        beside = tuple(Concept((Way((term,)),), weight) for term, weight in context.items())
        words, concepts = words_asked(query) + beside, concepts_asked(query, self._translations) + beside
        return cache(lambda embedder: IndexQuery(self._embedders.embed_query(embedder, query), words, concepts, only))

    def _select(
        self, tenant: str, query: str, found: Mapping[str, Candidates], top_k: int, only: PassageFilter
    ) -> tuple[RankedPassage, ...]:
        order = _first_those_to_look_at(ranked(hit for candidates in found.values() for hit in candidates.hits), top_k)
        coverage = {kb: Coverage(candidates.weighed) for kb, candidates in found.items()}
        one_document = only.document_ids is not None and len(only.document_ids) == 1
        passages: list[RankedPassage] = []
        start, at_once = 0, 2 * top_k + top_k // OTHER_LANGUAGE
        while True:
            more = self._let_through(tenant, list(found), order[start : start + at_once], only)
            passages += self._read_by_the_model(query, more)
            start, at_once = start + at_once, min(2 * at_once, _GATE_AT_ONCE)
            chosen = selected(self._reranked(passages, coverage), top_k, one_document)
            if len(chosen) >= top_k or start >= len(order):
                return chosen

    def _let_through(
        self,
        tenant: str,
        knowledge_base_ids: Sequence[str],
        order: Sequence[tuple[int, Scores]],
        only: PassageFilter,
    ) -> list[RankedPassage]:
        passages = self._store.passages(tenant, knowledge_base_ids, [chunk_id for chunk_id, _ in order], only)
        return [RankedPassage(passages[chunk_id], scores) for chunk_id, scores in order if chunk_id in passages]

    def _read_by_the_model(self, query: str, passages: Sequence[RankedPassage]) -> list[RankedPassage]:
        """With the reranker's scores, where there is one; each passage is read once."""
        if self._reranker is None or not passages:
            return list(passages)
        return _scored(passages, self._reranker.rerank(query, [ranked.passage.text for ranked in passages]))

    def _reranked(self, passages: Sequence[RankedPassage], coverage: Mapping[str, Coverage]) -> list[RankedPassage]:
        """Best first; of equals the older."""
        scored = passages if self._reranker is not None else _scored(passages, by_coverage(passages, coverage))
        return sorted(scored, key=lambda ranked: (-ranked.score, ranked.passage.chunk_id))


def _scored(passages: Sequence[RankedPassage], scores: Sequence[float]) -> list[RankedPassage]:
    return [RankedPassage(r.passage, replace(r.scores, rerank=s)) for r, s in zip(passages, scores, strict=True)]


def _first_those_to_look_at(order: Sequence[tuple[int, Scores]], top_k: int) -> list[tuple[int, Scores]]:
    """The best, and behind them, before all others, the best of those that only translations have found."""
    best, others = order[: 2 * top_k], order[2 * top_k :]
    translated = [one for one in others if one[1].lexical <= one[1].bilingual / 2][: top_k // OTHER_LANGUAGE]
    taken = {chunk_id for chunk_id, _ in translated}
    return [*best, *translated, *(one for one in others if one[0] not in taken)]
