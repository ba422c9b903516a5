"""The index as it stood at a past revision, for replays: every chunk that was live then, read from SQL and scored.

Scores are those the live index gave. Its lexical statistics depend on the base segment that was searched (see
`View`): on which chunks it held, retired ones included, and on their average length. That base is gone, but the
chunks it was made of are known by its revision. What differs is rounding: tantivy adds up in float32, and FAISS adds
up products in another order, together below 1e-5.

What cannot be had again is what deletion has erased: chunks of documents deleted by now are not found, and no longer
count in the statistics. Superseded versions of documents that are still there are kept, with their vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np

from rag_service.errors import NotFound
from rag_service.index.attributes import Mask
from rag_service.index.bm25 import Integers, Reals, Statistics, WeightedLeg, distinct_terms, weigh
from rag_service.index.dense import Ids, Scores
from rag_service.index.lexical_tail import TailMatches, row_scores
from rag_service.index.tail import Tail
from rag_service.ports import Asked, Candidates, Head, IndexQuery, IndexRow
from rag_service.types import Concept, Hit, Weighed

_ROWS_AT_A_TIME = 1_000
_Legs = tuple[tuple[Concept, ...], ...]


class PastSnapshot(Protocol):
    head: Head

    def as_it_answered_at(self, revision: int) -> PastSnapshot:
        """The same state with the generation in its head that answered then. Raises VectorsForgotten."""
        ...

    def live_at(self, revision: int, after: int) -> Iterator[IndexRow]:
        """Chunks live at `revision` that were created at a revision > `after`, by ascending chunk id."""
        ...

    def retired_by(self, revision: int, after: int) -> list[int]:
        """Ids of chunks retired at a revision > `after`, at the latest at `revision`."""
        ...


class PastFeed(Protocol):
    def snapshot(self, knowledge_base_id: str) -> AbstractContextManager[PastSnapshot]: ...


class PastIndex:
    """Implements `ports.Index` for one revision of each knowledge base.

    `base_revisions` are those of the segments searched then (0: none); one that is not given is taken to be the
    revision itself, as if everything had just been compacted. A search reads every chunk of its knowledge base, and
    keeps a few numbers of each, so that going deeper with the same question costs little.
    """

    def __init__(self, feed: PastFeed, revisions: Mapping[str, int], base_revisions: Mapping[str, int]) -> None:
        self._feed = feed
        self._revisions = revisions
        self._base_revisions = base_revisions
        self._embedders: dict[str, str] = {}
        self._scans: dict[tuple[object, ...], _Scan] = {}

    def search(self, knowledge_base_id: str, asked: Asked, limit: int) -> Candidates:
        """The best `limit` chunks of each leg together, of those that were live then, by the embedder of then.

        Raises NotFound, also for a revision that SQL has not come to (it was restored from an older state);
        VectorsForgotten; what `asked` raises.
        """
        revision = self._revisions.get(knowledge_base_id)
        if revision is None:
            raise NotFound("no past revision of this knowledge base is known", knowledge_base_id=knowledge_base_id)
        query = asked(self._embedder_then(knowledge_base_id, revision))
        put = (knowledge_base_id, query.vector.tobytes(), query.words, query.concepts, query.only)
        if put not in self._scans:
            self._scans[put] = self._scan(knowledge_base_id, revision, query)
        return self._scans[put].candidates(revision, limit)

    def _embedder_then(self, knowledge_base_id: str, revision: int) -> str:
        if knowledge_base_id not in self._embedders:
            with self._as_it_answered(knowledge_base_id, revision) as snapshot:
                self._embedders[knowledge_base_id] = snapshot.head.space.embedder
        return self._embedders[knowledge_base_id]

    @contextmanager
    def _as_it_answered(self, knowledge_base_id: str, revision: int) -> Iterator[PastSnapshot]:
        with self._feed.snapshot(knowledge_base_id) as snapshot:
            if snapshot.head.revision < revision:
                known = snapshot.head.revision
                raise NotFound(f"revision {revision} is not known here, the newest is {known}", revision=revision)
            yield snapshot.as_it_answered_at(revision)

    def _scan(self, knowledge_base_id: str, revision: int, query: IndexQuery) -> _Scan:
        base = self._base_revisions.get(knowledge_base_id, revision)
        legs = (query.words, query.concepts)
        terms = distinct_terms(legs)
        with self._as_it_answered(knowledge_base_id, revision) as snapshot:
            in_base = _read(snapshot.live_at(base, 0), query, terms)
            in_tail = _read(snapshot.live_at(revision, base), query, terms)
            tombstones = np.array(snapshot.retired_by(revision, base), dtype=np.int64)
        return _scan_of(legs, terms, in_base, in_tail, tombstones)


@dataclass(frozen=True, slots=True)
class _Rows:
    """What scoring needs of some chunks, side by side; `matches` are where the question's terms occur in them."""

    ids: Ids
    dense: Scores
    lengths: Integers
    matches: TailMatches
    let_through: Mask

    @classmethod
    def joined(cls, parts: Sequence[_Rows], terms: int) -> _Rows:
        starts = np.cumsum([0, *(len(part.ids) for part in parts)])
        matches = TailMatches(
            _joined([part.matches.rows + start for part, start in zip(parts, starts[:-1], strict=True)]),
            _joined([part.matches.owners for part in parts]),
            _joined([part.matches.counts for part in parts]),
            sum((part.matches.frequencies for part in parts), np.zeros(terms, dtype=np.int64)),
        )
        dense = np.concatenate([np.empty(0, dtype=np.float32), *(part.dense for part in parts)])
        lengths = _joined([part.lengths for part in parts])
        let_through = np.concatenate([np.empty(0, dtype=np.bool_), *(part.let_through for part in parts)])
        return cls(_joined([part.ids for part in parts]), dense, lengths, matches, let_through)


@dataclass(frozen=True, slots=True)
class _Scan:
    """One question put to one past state: the chunks live then, by ascending id, with all scores each."""

    ids: Ids
    dense: Scores
    lexical: tuple[Reals, ...]
    weighed: Weighed

    def candidates(self, revision: int, limit: int) -> Candidates:
        chosen = np.arange(len(self.ids))
        if limit < len(self.ids):
            chosen = _best(self.dense, limit)
            for scores in self.lexical:
                best = _best(scores, limit)
                chosen = np.union1d(chosen, best[scores[best] > 0.0])
        cosines = np.clip(self.dense[chosen], 0.0, 1.0)
        columns = (self.ids[chosen].tolist(), cosines.tolist(), *(scores[chosen].tolist() for scores in self.lexical))
        hits = tuple(Hit(*members) for members in zip(*columns, strict=True))
        return Candidates(revision, hits, len(hits) == len(self.ids), self.weighed)


def _read(rows: Iterator[IndexRow], query: IndexQuery, terms: tuple[str, ...]) -> _Rows:
    """Texts and vectors are let go batch by batch."""
    parts = []
    while len((batch := Tail.empty(len(query.vector)).extended(islice(rows, _ROWS_AT_A_TIME))).ids):
        matches = batch.lexical.matches(terms, batch.alive)
        let_through = batch.attributes.let_through(query.only)
        parts.append(_Rows(batch.ids, batch.dense.scores(query.vector), batch.lexical.lengths, matches, let_through))
    return _Rows.joined(parts, len(terms))


def _scan_of(legs: _Legs, terms: tuple[str, ...], in_base: _Rows, in_tail: _Rows, tombstones: Ids) -> _Scan:
    """As `View` has it: tombstones of the base, and what the filter keeps out, count in the statistics and are not
    found."""
    rows = _Rows.joined([in_base, in_tail], len(terms))
    frequencies = rows.matches.frequencies
    statistics = Statistics(0, np.zeros_like(frequencies), len(rows.ids), frequencies)
    weighted = [weigh(leg, terms, statistics) for leg in legs]
    average_length = _average(in_base.lengths) or _average(in_tail.lengths) or 1.0
    live = np.flatnonzero(rows.let_through & ~np.isin(rows.ids, tombstones))
    live = live[np.argsort(rows.ids[live])]
    lexical = tuple(_shares(rows, leg, average_length)[live] for leg in weighted)
    return _Scan(rows.ids[live], rows.dense[live], lexical, Weighed(*(leg.weighed for leg in weighted)))


def _shares(rows: _Rows, leg: WeightedLeg, average_length: float) -> Reals:
    return row_scores(rows.lengths, rows.matches, leg, average_length) / (leg.most or 1.0)


def _average(lengths: Integers) -> float:
    return float(lengths.mean()) if len(lengths) else 0.0


def _best(scores: Scores | Reals, limit: int) -> Ids:
    """Rows of the `limit` highest scores; among equals the older."""
    best: Ids = np.argsort(-scores, kind="stable")[:limit]
    return best


def _joined(parts: Sequence[Integers]) -> Integers:
    return np.concatenate([np.empty(0, dtype=np.int64), *parts])
