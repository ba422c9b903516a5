"""One state of one knowledge base, base + tail − deleted, and the search over it; immutable, so readers share it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from rag_service.index.attributes import Mask
from rag_service.index.bm25 import Reals, Statistics, WeightedLeg, distinct_terms, weigh
from rag_service.index.dense import Ids, Scores
from rag_service.index.segments import Base
from rag_service.index.tail import Tail
from rag_service.ports import Candidates, IndexQuery, IndexRow
from rag_service.types import Hit, PassageFilter, Weighed

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

    def search(self, query: IndexQuery, limit: int) -> Candidates:
        """The best `limit` live chunks of each leg together, of those that the question's filter lets through, with the
        exact scores of all legs each."""
        search = _Search(self, query)
        hits = search.hits(limit)
        weighed = Weighed(*(leg.asked.weighed for leg in search.lexical_legs))
        return Candidates(self.revision, hits, len(hits) == search.chunks, weighed, self.base.revision)

    def rows_found_by(self, only: PassageFilter) -> tuple[Mask | None, Mask]:
        """The live rows of the base, and of the tail, that `only` lets through; None where it is every live one."""
        if only.is_open():
            return None, self.tail.alive
        base = self.base.attributes.let_through(only)
        dead = np.fromiter(self.tombstones, dtype=np.int64, count=len(self.tombstones))
        base[np.searchsorted(self.base.dense.ids, dead)] = False
        return base, self.tail.attributes.let_through(only) & self.tail.alive


@dataclass(frozen=True, slots=True)
class _Leg:
    """A lexical leg: what it asks for, and what that gives every row of the tail."""

    asked: WeightedLeg
    tail: Reals


@dataclass(frozen=True, slots=True)
class _Found:
    """By a lexical leg in the base: the best of it, whether they are all that have a score, and the scores of others
    that it was asked for."""

    best: Scored = field(default_factory=dict)
    others: Scored = field(default_factory=dict)
    whole: bool = False


class _Search:
    """One question put to one view. The tail is scored whole at once; of the base only what any leg finds."""

    def __init__(self, view: View, query: IndexQuery) -> None:
        base, tail = view.base, view.tail
        legs = (query.words, query.concepts)
        self._terms = distinct_terms(legs)
        matches = tail.lexical.matches(self._terms, tail.alive)
        statistics = Statistics(
            base.lexical.chunks, base.lexical.frequencies(self._terms), tail.live, matches.frequencies
        )
        average_length = base.lexical.average_length or tail.average_length
        weighted = [weigh(leg, self._terms, statistics) for leg in legs]
        self.lexical_legs = [_Leg(leg, tail.lexical.scores(matches, leg, average_length)) for leg in weighted]
        self._view = view
        self._vector = query.vector
        self._only = query.only
        self._tail_dense = tail.dense.scores(query.vector)
        self._in_base, self._in_tail = view.rows_found_by(query.only)

    @property
    def chunks(self) -> int:
        """How many live ones the filter lets through."""
        if self._in_base is None:
            return self._view.live
        return int(np.count_nonzero(self._in_base) + np.count_nonzero(self._in_tail))

    def hits(self, limit: int) -> tuple[Hit, ...]:
        rows = self._tail_rows(limit)
        ids = self._view.tail.ids[rows].tolist()
        tail_dense: Scored = dict(zip(ids, self._tail_dense[rows].tolist(), strict=True))
        in_tail = [Scored(zip(ids, leg.tail[rows].tolist(), strict=True)) for leg in self.lexical_legs]
        if limit >= self.chunks:
            dense, found = Scored(), [_Found() for _ in self.lexical_legs]
            chosen = {*self._live_base(), *ids}
        else:
            dense = self._dense_top(limit)
            # The one that asks for the most terms comes last: it scores in passing what the others have found.
            words = self._lexical_top(self.lexical_legs[0].asked, limit, ())
            found = [words, self._lexical_top(self.lexical_legs[1].asked, limit, dense.keys() | words.best.keys())]
            chosen = {*_best(dense | tail_dense, limit)}
            for in_base, tail in zip(found, in_tail, strict=True):
                chosen |= {*_best(in_base.best | {i: score for i, score in tail.items() if score > 0.0}, limit)}
        of_base = chosen - tail_dense.keys()
        dense |= tail_dense | self._base_dense(of_base - dense.keys())
        lexical, bilingual = (
            self._completed(leg.asked, in_base, of_base) | tail
            for leg, in_base, tail in zip(self.lexical_legs, found, in_tail, strict=True)
        )
        most, bilingual_most = (leg.asked.most or 1.0 for leg in self.lexical_legs)
        # Rounding can put a cosine just above 1; BM25 stays below `most` by far more than that.
        return tuple(
            [
                Hit(i, min(1.0, max(0.0, dense[i])), lexical.get(i, 0.0) / most, bilingual.get(i, 0.0) / bilingual_most)
                for i in chosen
            ]
        )

    def _lexical_top(self, leg: WeightedLeg, limit: int, others: Collection[int]) -> _Found:
        of_others = Scored()

        def search(k: int) -> tuple[Ids, Reals]:
            lexical = self._view.base.lexical
            ids, scores, more = lexical.search_and_score(self._terms, leg, k, others, self._only)
            of_others.update(more)
            return ids, scores

        best, whole = self._live_top(search, limit)
        return _Found(best, of_others, whole)

    def _completed(self, leg: WeightedLeg, found: _Found, chosen: set[int]) -> Scored:
        """What was found, with the scores of all that other legs have found."""
        scored = found.others | found.best
        missing = () if found.whole else chosen - scored.keys()
        return scored | self._view.base.lexical.scores_of(self._terms, leg, [*missing])

    def _tail_rows(self, limit: int) -> Ids:
        """Rows of the tail, live and let through, that are among its best `limit` of any leg."""
        live = np.flatnonzero(self._in_tail)
        if len(live) <= limit:
            return live
        legs: list[Scores | Reals] = [self._tail_dense[live], *(leg.tail[live] for leg in self.lexical_legs)]
        best: Ids = np.unique(np.concatenate([np.argpartition(leg, -limit)[-limit:] for leg in legs]))
        return live[best]

    def _live_base(self) -> list[int]:
        tombstones, ids = self._view.tombstones, self._view.base.dense.ids
        if self._in_base is not None:
            among: list[int] = ids[self._in_base].tolist()
            return among
        return [chunk_id for chunk_id in ids.tolist() if chunk_id not in tombstones]

    def _dense_top(self, limit: int) -> Scored:
        """A filter leaves so little, as a rule, that telling FAISS the rows pays, unlike for tombstones alone."""
        if self._in_base is None:
            return self._live_top(self._search_dense, limit)[0]
        ids, scores = self._view.base.dense.search_among(self._vector, limit, self._in_base)
        return dict(zip(ids.tolist(), scores.tolist(), strict=True))

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

    def _base_dense(self, chunk_ids: set[int]) -> Scored:
        ids = np.array([*chunk_ids], dtype=np.int64)
        return dict(zip(ids.tolist(), self._view.base.dense.scores_of(self._vector, ids).tolist(), strict=True))


def _best(scored: Scored, limit: int) -> Iterable[int]:
    """The `limit` chunks of the highest scores; among equals the older."""
    if len(scored) <= limit:
        return scored
    return sorted(scored, key=lambda chunk_id: (-scored[chunk_id], chunk_id))[:limit]
