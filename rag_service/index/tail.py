"""What came after a base, searched exactly in memory; an immutable value like the two legs it joins."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rag_service.index.attributes import AttributeRows
from rag_service.index.dense import DenseTail, Ids
from rag_service.index.lexical_tail import LexicalTail
from rag_service.ports import Attributes, IndexRow
from rag_service.text import index_terms


@dataclass(frozen=True, slots=True)
class Tail:
    """Row r is chunk `ids[r]`, live while `alive[r]`. Retired rows stay, unseen, until a new base replaces the tail."""

    ids: Ids
    alive: NDArray[np.bool_]
    dense: DenseTail
    lexical: LexicalTail
    attributes: AttributeRows

    @classmethod
    def empty(cls, dimensions: int) -> Tail:
        nothing, dense = np.empty(0, dtype=np.int64), DenseTail(dimensions)
        return cls(nothing, nothing.astype(np.bool_), dense, LexicalTail(), AttributeRows.empty())

    @property
    def live(self) -> int:
        return int(np.count_nonzero(self.alive))

    @property
    def average_length(self) -> float:
        """Terms per live row; 1 where there are none, as nothing is then divided by it."""
        terms = int(self.lexical.lengths[self.alive].sum())
        return terms / self.live if terms else 1.0

    def extended(self, added: Iterable[IndexRow]) -> Tail:
        """This tail with further live rows; their texts are cut into terms and let go one by one."""
        ids: list[int] = []
        vectors: list[NDArray[np.float16]] = []
        attributes: list[Attributes] = []

        def terms(row: IndexRow) -> list[str]:
            ids.append(row.chunk_id)
            vectors.append(row.vector)
            attributes.append(row.attributes)
            return index_terms(row.text)

        lexical = self.lexical.extended(terms(row) for row in added)
        if not ids:
            return self
        return Tail(
            np.concatenate([self.ids, np.array(ids, dtype=np.int64)]),
            np.concatenate([self.alive, np.ones(len(ids), dtype=np.bool_)]),
            self.dense.extended(np.stack(vectors)),
            lexical,
            AttributeRows.joined([self.attributes, AttributeRows.of(attributes)]),
        )

    def without(self, retired: Ids) -> Tail:
        """This tail with those of `retired` that are in it no longer live."""
        return replace(self, alive=self.alive & ~np.isin(self.ids, retired))
