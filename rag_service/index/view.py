"""One state of one knowledge base, base + tail − deleted, and the search over it; immutable, so readers share it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from rag_service.index.bm25 import Reals, WeightedTerms, weigh
from rag_service.index.dense import Ids, Scores
from rag_service.index.segments import Base
from rag_service.index.tail import Tail
from rag_service.ports import Candidates, IndexRow
from rag_service.types import Hit

Scored = dict[int, float]
BaseSearch = Callable[[int], tuple[Ids, Scores | Reals]]


@dataclass(frozen=True, slots=True)
class View:
    """`tombstones` are the chunks of the base that are no longer live at `revision`.

    A view depends only on its base and the state of SQL at `revision`, not on the steps that led there. Statistics
    (how many chunks, how many with a term) are those of the whole base, its tombstones included, and the live tail;
    the average length is the base's, or the tail's where the base is empty, because tantivy's cannot be changed and
    the same text must score the same in either.
    """

    base: Base
    tail: Tail
    tombstones: frozenset[int]
    revision: int

    @classmethod
    def over(cls, base: Base, dimensions: int) -> View:
        return cls(base, Tail.empty(dimensions), frozenset(), base.revision)

    @property
    def live(self) -> int:
        return len(self.base.dense) - len(self.tombstones) + self.tail.live

    def changed(self, added: Iterable[IndexRow], retired: Sequence[int], revision: int) -> View:
        """The view at `revision`, given what came and went since this one's."""
        tail, gone = self.tail.extended(added), np.array(retired, dtype=np.int64)
        dead = gone[self.base.dense.contains(gone)].tolist()
        tail = tail.without(gone) if len(gone) else tail
        return View(self.base, tail, self.tombstones.union(dead) if dead else self.tombstones, revision)

    def search(self, vector: Scores, terms: Sequence[str], limit: int) -> Candidates:
        """The best `limit` live chunks of each leg together, with both exact scores each."""
        search = _Search(self, vector, tuple(dict.fromkeys(terms)))
        hits = search.hits(limit)
        weights = dict(zip(search.query.terms, search.query.idf.tolist(), strict=True))
        return Candidates(self.revision, hits, len(hits) == self.live, weights, self.base.revision)


class _Search:
    """One question put to one view. The tail is scored whole at once; of the base only what either leg finds."""

    def __init__(self, view: View, vector: Scores, terms: tuple[str, ...]) -> None:
        base, tail = view.base, view.tail
        matches = tail.lexical.matches(terms, tail.alive)
        self.query: WeightedTerms = weigh(
            terms, base.lexical.chunks, base.lexical.frequencies(terms), tail.live, matches.frequencies
        )
        average_length = base.lexical.average_length or tail.average_length
        self._view = view
        self._vector = vector
        self._tail_dense = tail.dense.scores(vector)
        self._tail_lexical = tail.lexical.scores(matches, self.query, average_length)

    def hits(self, limit: int) -> tuple[Hit, ...]:
        rows = self._tail_rows(limit)
        ids = self._view.tail.ids[rows].tolist()
        tail_dense: Scored = dict(zip(ids, self._tail_dense[rows].tolist(), strict=True))
        tail_lexical: Scored = dict(zip(ids, self._tail_lexical[rows].tolist(), strict=True))
        if limit >= self._view.live:
            dense, lexical, matched_all = Scored(), Scored(), False
            chosen = {*self._live_base(), *ids}
        else:
            dense, _ = self._live_top(self._search_dense, limit)
            lexical, matched_all = self._live_top(self._search_lexical, limit)
            found = {chunk_id: score for chunk_id, score in tail_lexical.items() if score > 0.0}
            chosen = {*_best(dense | tail_dense, limit), *_best(lexical | found, limit)}
        in_base = chosen - tail_dense.keys()
        dense |= tail_dense | self._base_dense(in_base - dense.keys())
        if not matched_all:
            lexical |= self._view.base.lexical.scores_of(self.query, [*(in_base - lexical.keys())])
        lexical |= tail_lexical
        most = self.query.most or 1.0
        # Rounding can put a cosine just above 1; BM25 stays below `most` by far more than that.
        return tuple([Hit(i, min(1.0, max(0.0, dense[i])), lexical.get(i, 0.0) / most) for i in chosen])

    def _tail_rows(self, limit: int) -> Ids:
        """Live rows of the tail that are among its best `limit` of either leg."""
        live = np.flatnonzero(self._view.tail.alive)
        if len(live) <= limit:
            return live
        legs = (self._tail_dense[live], self._tail_lexical[live])
        best: Ids = np.unique(np.concatenate([np.argpartition(-leg, limit - 1)[:limit] for leg in legs]))
        return live[best]

    def _live_base(self) -> list[int]:
        tombstones = self._view.tombstones
        return [chunk_id for chunk_id in self._view.base.dense.ids.tolist() if chunk_id not in tombstones]

    def _live_top(self, search: BaseSearch, limit: int) -> tuple[Scored, bool]:
        """The best `limit` live chunks of a leg of the base, and whether they are all it has.

        Tombstones are met by asking for more and dropping them: FAISS's selectors cost more than they save (shared
        measurements).
        """
        tombstones = self._view.tombstones
        size = len(self._view.base.dense)
        k = min(size, limit + min(limit, len(tombstones)))
        while True:
            ids, scores = search(k)
            pairs = zip(ids.tolist(), scores.tolist(), strict=True)
            live = {chunk_id: score for chunk_id, score in pairs if chunk_id not in tombstones}
            whole = len(ids) < k or k >= size
            if whole or len(live) >= limit:
                return dict(islice(live.items(), limit)), whole and len(live) <= limit
            k = min(size, 2 * k)

    def _search_dense(self, k: int) -> tuple[Ids, Scores]:
        return self._view.base.dense.search(self._vector, k)

    def _search_lexical(self, k: int) -> tuple[Ids, Reals]:
        return self._view.base.lexical.search(self.query, k)

    def _base_dense(self, chunk_ids: set[int]) -> Scored:
        ids = np.array([*chunk_ids], dtype=np.int64)
        return dict(zip(ids.tolist(), self._view.base.dense.scores_of(self._vector, ids).tolist(), strict=True))


def _best(scored: Scored, limit: int) -> Iterable[int]:
    """The `limit` chunks of the highest scores; among equals the older."""
    if len(scored) <= limit:
        return scored
    return sorted(scored, key=lambda chunk_id: (-scored[chunk_id], chunk_id))[:limit]
