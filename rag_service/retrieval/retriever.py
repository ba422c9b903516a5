"""From a question to passages: both legs, fused, through the gate, best first."""

from __future__ import annotations

from collections.abc import Sequence

from rag_service.ports import Candidates, Embedder, Index, PassageStore
from rag_service.retrieval.diversity import Selection
from rag_service.retrieval.fusion import ranked
from rag_service.text import language_of, lexical_terms
from rag_service.types import PassageFilter, RankedPassage, Retrieval, Scores

_SHALLOWEST = 32
# How far down an unfiltered search goes to fill `top_k` with more documents. A filtered one goes to the end: what the
# filter lets through may stand anywhere.
_DEEPEST_UNFILTERED = 1_024
_GATE_AT_ONCE = 500


class Retriever:
    def __init__(self, embedder: Embedder, index: Index, store: PassageStore) -> None:
        self._embedder = embedder
        self._index = index
        self._store = store

    def retrieve(
        self, tenant: str, knowledge_base_ids: Sequence[str], query: str, top_k: int, only: PassageFilter
    ) -> Retrieval:
        """Up to `top_k` passages. The caller has made sure that the knowledge bases are the tenant's.

        At most three of one document unless it is the only one, near-duplicates folded into the best of them.
        """
        vector = self._embedder.embed([query])[0]
        terms = lexical_terms(query)
        depth = max(_SHALLOWEST, 4 * top_k)
        while True:
            found = {kb: self._index.search(kb, vector, terms, depth) for kb in knowledge_base_ids}
            passages = self._select(tenant, found, top_k, only)
            exhausted = all(candidates.exhausted for candidates in found.values())
            too_deep = only.is_open() and depth >= _DEEPEST_UNFILTERED
            if len(passages) >= top_k or exhausted or too_deep:
                break
            depth *= 4
        return Retrieval(
            query=query,
            query_language=language_of(query),
            revision={kb: candidates.revision for kb, candidates in found.items()},
            passages=passages,
            term_weights=_heaviest([candidates.term_weights for candidates in found.values()]),
            base_revision={kb: candidates.base_revision for kb, candidates in found.items()},
        )

    def _select(
        self, tenant: str, found: dict[str, Candidates], top_k: int, only: PassageFilter
    ) -> tuple[RankedPassage, ...]:
        order = ranked(hit for candidates in found.values() for hit in candidates.hits)
        one_document = only.document_ids is not None and len(only.document_ids) == 1
        selection = Selection(top_k, one_document)
        at_once = min(2 * top_k, _GATE_AT_ONCE)
        start = 0
        while start < len(order) and not selection.is_full():
            self._offer(selection, tenant, list(found), order[start : start + at_once], only)
            start, at_once = start + at_once, min(2 * at_once, _GATE_AT_ONCE)
        return selection.passages()

    def _offer(
        self,
        selection: Selection,
        tenant: str,
        knowledge_base_ids: Sequence[str],
        order: Sequence[tuple[int, Scores]],
        only: PassageFilter,
    ) -> None:
        let_through = self._store.passages(tenant, knowledge_base_ids, [chunk_id for chunk_id, _ in order], only)
        for chunk_id, scores in order:
            if chunk_id in let_through:
                selection.offer(RankedPassage(let_through[chunk_id], scores))


def _heaviest(weights: Sequence[dict[str, float]]) -> dict[str, float]:
    """A term is as rare as it is where it is rarest."""
    merged: dict[str, float] = {}
    for each in weights:
        for term, weight in each.items():
            merged[term] = max(weight, merged.get(term, 0.0))
    return merged
