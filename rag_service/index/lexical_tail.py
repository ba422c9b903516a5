"""The lexical leg of the tail: BM25 in memory, the same formula and rounding as tantivy's.

Like `DenseTail` an immutable value: `extended` gives a new tail. The postings are a few immutable parts, each
kept more than twice as large as the next by merging, so n appends copy O(n log n) postings in all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rag_service.index.bm25 import Integers, Reals, WeightedLeg, quantised_lengths, term_scores


@dataclass(frozen=True, slots=True)
class _Part:
    """Postings by term: those of `terms[i]` (sorted, distinct) are at `offsets[i]:offsets[i + 1]`."""

    terms: Integers
    offsets: Integers
    rows: Integers
    counts: Integers

    @classmethod
    def sorted(cls, terms: Integers, rows: Integers, counts: Integers) -> _Part:
        order = np.argsort(terms, kind="stable")
        distinct, starts = np.unique(terms[order], return_index=True)
        return cls(distinct, np.append(starts, len(terms)), rows[order], counts[order])

    def merged(self, other: _Part) -> _Part:
        pairs = [np.repeat(part.terms, np.diff(part.offsets)) for part in (self, other)]
        return _Part.sorted(
            np.concatenate(pairs),
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.counts, other.counts]),
        )


@dataclass(frozen=True, slots=True)
class TailMatches:
    """Postings of live rows: row `rows[i]` has query term number `owners[i]` `counts[i]` times."""

    rows: Integers
    owners: Integers
    counts: Integers
    frequencies: Integers


class LexicalTail:
    """Term statistics of rows in the order they came. One thread at a time may extend; any number may read."""

    def __init__(self) -> None:
        # Grows under the one extending thread. A reader with an older tail may see numbers its parts do not have yet.
        self._vocabulary: dict[str, int] = {}
        self._parts: tuple[_Part, ...] = ()
        self.lengths: Integers = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.lengths)

    def extended(self, texts: Iterable[Sequence[str]]) -> LexicalTail:
        """This tail with the terms of further rows after its own."""
        terms, rows, counts, lengths = [], [], [], []
        for row, text in enumerate(texts, start=len(self)):
            for term, count in Counter(text).items():
                terms.append(self._vocabulary.setdefault(term, len(self._vocabulary)))
                rows.append(row)
                counts.append(count)
            lengths.append(len(text))
        part = _Part.sorted(_integers(terms), _integers(rows), _integers(counts))
        longer = LexicalTail()
        longer._vocabulary = self._vocabulary
        longer._parts = _with(self._parts, part)
        longer.lengths = np.concatenate([self.lengths, _integers(lengths)])
        return longer

    def matches(self, terms: Sequence[str], alive: NDArray[np.bool_]) -> TailMatches:
        """Where `terms`, distinct, occur in live rows; `alive` is [len(self)]."""
        wanted = _integers([self._vocabulary.get(term, -1) for term in terms])
        rows, owners, counts = [_integers([])], [_integers([])], [_integers([])]
        for part in self._parts:
            if not len(part.terms):
                continue
            at = np.minimum(np.searchsorted(part.terms, wanted), len(part.terms) - 1)
            for owner in np.flatnonzero(part.terms[at] == wanted).tolist():
                postings = slice(part.offsets[at[owner]], part.offsets[at[owner] + 1])
                rows.append(part.rows[postings])
                counts.append(part.counts[postings])
                owners.append(np.full(len(rows[-1]), owner))
        found = np.concatenate(rows)
        live = alive[found]
        owner_of = np.concatenate(owners)[live]
        frequencies = np.bincount(owner_of, minlength=len(terms))
        return TailMatches(found[live], owner_of, np.concatenate(counts)[live], frequencies)

    def scores(self, matches: TailMatches, leg: WeightedLeg, average_length: float) -> Reals:
        """The score of every row, in row order, not yet divided by `leg.most`."""
        return row_scores(self.lengths, matches, leg, average_length)


def row_scores(lengths: Integers, matches: TailMatches, leg: WeightedLeg, average_length: float) -> Reals:
    """The score of every row, given how many terms each has, not yet divided by `leg.most`."""
    if not len(matches.rows):
        return np.zeros(len(lengths))
    rows, concepts, values = _ways_said(lengths, matches, leg, average_length)
    if not len(rows):
        return np.zeros(len(lengths))
    # The best way of a concept in a row: those of one concept in one row stand together.
    order = np.lexsort((rows, concepts))
    rows, concepts, values = rows[order], concepts[order], values[order]
    starts = np.flatnonzero((np.diff(concepts, prepend=-1) != 0) | (np.diff(rows, prepend=-1) != 0))
    best = np.maximum.reduceat(values, starts)
    scores: Reals = np.bincount(rows[starts], weights=best, minlength=len(lengths)).astype(np.float64)
    return scores


def _ways_said(
    lengths: Integers, matches: TailMatches, leg: WeightedLeg, average_length: float
) -> tuple[Integers, Integers, Reals]:
    """Side by side: a row, a concept that it says in one of its ways, and what that way adds."""
    order = np.argsort(matches.owners, kind="stable")
    bounds = np.searchsorted(matches.owners[order], np.arange(len(matches.frequencies) + 1))
    said = [order[bounds[term] : bounds[term + 1]] for term in leg.terms.tolist()]
    postings = np.concatenate([np.empty(0, dtype=np.int64), *said])
    sizes = np.array([len(part) for part in said], dtype=np.int64)
    rows = matches.rows[postings]
    added = term_scores(matches.counts[postings].astype(np.float64), quantised_lengths(lengths[rows]), average_length)
    return rows, np.repeat(leg.concepts, sizes), np.repeat(leg.weights, sizes) * added


def _with(parts: tuple[_Part, ...], last: _Part) -> tuple[_Part, ...]:
    while parts and len(parts[-1].rows) <= 2 * len(last.rows):
        last = parts[-1].merged(last)
        parts = parts[:-1]
    return (*parts, last)


def _integers(values: Sequence[int]) -> Integers:
    return np.array(values, dtype=np.int64)
