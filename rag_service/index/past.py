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
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rag_service.errors import NotFound
from rag_service.index.bm25 import Integers, Reals, weigh
from rag_service.index.dense import Ids, Scores
from rag_service.index.lexical_tail import TailMatches, row_scores
from rag_service.index.tail import Tail
from rag_service.ports import Candidates, Head, IndexRow
from rag_service.types import Hit

_ROWS_AT_A_TIME = 1_000


class PastSnapshot(Protocol):
    head: Head

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

    def __init__(
        self, feed: PastFeed, revisions: Mapping[str, int], dimensions: int, base_revisions: Mapping[str, int]
    ) -> None:
        self._feed = feed
        self._revisions = revisions
        self._dimensions = dimensions
        self._base_revisions = base_revisions
        self._scans: dict[tuple[str, bytes, tuple[str, ...]], _Scan] = {}

    def search(
        self, knowledge_base_id: str, vector: NDArray[np.float32], terms: Sequence[str], limit: int
    ) -> Candidates:
        """The best `limit` chunks of each leg together, of those that were live then.

        Raises NotFound, also for a revision that SQL has not come to (it was restored from an older state).
        """
        revision = self._revisions.get(knowledge_base_id)
        if revision is None:
            raise NotFound("no past revision of this knowledge base is known", knowledge_base_id=knowledge_base_id)
        distinct = tuple(dict.fromkeys(terms))
        asked = (knowledge_base_id, vector.tobytes(), distinct)
        if asked not in self._scans:
            self._scans[asked] = self._scan(knowledge_base_id, revision, vector, distinct)
        return self._scans[asked].candidates(revision, limit)

    def _scan(self, knowledge_base_id: str, revision: int, vector: Scores, terms: tuple[str, ...]) -> _Scan:
        base = self._base_revisions.get(knowledge_base_id, revision)
        with self._feed.snapshot(knowledge_base_id) as snapshot:
            if snapshot.head.revision < revision:
                known = snapshot.head.revision
                raise NotFound(f"revision {revision} is not known here, the newest is {known}", revision=revision)
            in_base = _read(snapshot.live_at(base, 0), self._dimensions, vector, terms)
            in_tail = _read(snapshot.live_at(revision, base), self._dimensions, vector, terms)
            tombstones = np.array(snapshot.retired_by(revision, base), dtype=np.int64)
        return _scan_of(terms, in_base, in_tail, tombstones)


@dataclass(frozen=True, slots=True)
class _Rows:
    """What scoring needs of some chunks, side by side; `matches` are where the question's terms occur in them."""

    ids: Ids
    dense: Scores
    lengths: Integers
    matches: TailMatches

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
        return cls(_joined([part.ids for part in parts]), dense, lengths, matches)


@dataclass(frozen=True, slots=True)
class _Scan:
    """One question put to one past state: the chunks live then, by ascending id, with both scores each."""

    ids: Ids
    dense: Scores
    lexical: Reals
    term_weights: dict[str, float]

    def candidates(self, revision: int, limit: int) -> Candidates:
        chosen = np.arange(len(self.ids))
        if limit < len(self.ids):
            dense, lexical = _best(self.dense, limit), _best(self.lexical, limit)
            chosen = np.union1d(dense, lexical[self.lexical[lexical] > 0.0])
        cosines = np.clip(self.dense[chosen], 0.0, 1.0)
        columns = (self.ids[chosen].tolist(), cosines.tolist(), self.lexical[chosen].tolist())
        hits = tuple(Hit(*members) for members in zip(*columns, strict=True))
        return Candidates(revision, hits, len(hits) == len(self.ids), self.term_weights)


def _read(rows: Iterator[IndexRow], dimensions: int, vector: Scores, terms: tuple[str, ...]) -> _Rows:
    """Texts and vectors are let go batch by batch."""
    parts = []
    while len((batch := Tail.empty(dimensions).extended(islice(rows, _ROWS_AT_A_TIME))).ids):
        matches = batch.lexical.matches(terms, batch.alive)
        parts.append(_Rows(batch.ids, batch.dense.scores(vector), batch.lexical.lengths, matches))
    return _Rows.joined(parts, len(terms))


def _scan_of(terms: tuple[str, ...], in_base: _Rows, in_tail: _Rows, tombstones: Ids) -> _Scan:
    """As `View` has it: tombstones of the base count in the statistics and are not found."""
    rows = _Rows.joined([in_base, in_tail], len(terms))
    chunks, frequencies = len(rows.ids), rows.matches.frequencies
    query = weigh(terms, 0, np.zeros_like(frequencies), chunks, frequencies)
    average_length = _average(in_base.lengths) or _average(in_tail.lengths) or 1.0
    lexical = row_scores(rows.lengths, rows.matches, query, average_length) / (query.most or 1.0)
    live = np.flatnonzero(~np.isin(rows.ids, tombstones))
    live = live[np.argsort(rows.ids[live])]
    weights = dict(zip(terms, query.idf.tolist(), strict=True))
    return _Scan(rows.ids[live], rows.dense[live], lexical[live], weights)


def _average(lengths: Integers) -> float:
    return float(lengths.mean()) if len(lengths) else 0.0


def _best(scores: Scores | Reals, limit: int) -> Ids:
    """Rows of the `limit` highest scores; among equals the older."""
    best: Ids = np.argsort(-scores, kind="stable")[:limit]
    return best


def _joined(parts: Sequence[Integers]) -> Integers:
    return np.concatenate([np.empty(0, dtype=np.int64), *parts])
