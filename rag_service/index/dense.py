"""The dense leg: an immutable FAISS base and an in-memory tail, both exact inner products over float16 rows.

FAISS is held to one OpenMP thread a query: more made single queries slower (shared measurements), and requests run
side by side anyway. OpenMP keeps that number per calling thread, so it is set in every search, not once a process.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Scores = NDArray[np.float32]
HalfRows = NDArray[np.float16]
Bytes = NDArray[np.uint8]


class DenseBuilder:
    """Collects rows, ids strictly ascending, and serialises them as one FAISS index."""

    def __init__(self, dimensions: int) -> None:
        flat = faiss.IndexScalarQuantizer(dimensions, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
        self._index = faiss.IndexIDMap(flat)

    def add(self, ids: Ids, rows: HalfRows) -> None:
        """`rows` is [len(ids), dimensions]. float16 to float32 and back loses nothing."""
        self._index.add_with_ids(np.ascontiguousarray(rows, dtype=np.float32), ids)

    def serialised(self) -> Bytes:
        """The file's bytes. FAISS's own writer is not used: on a full disk it reports success (shared measurements)."""
        serialised: Bytes = faiss.serialize_index(self._index)
        return serialised


class DenseBase:
    """A read-only FAISS index over chunk ids in ascending order."""

    def __init__(self, index: Any) -> None:
        flat: Any = faiss.downcast_index(index.index)
        self._index, self._flat = index, flat
        self.dimensions: int = index.d
        self.ids: Ids = faiss.vector_to_array(index.id_map)
        # FAISS keeps QT_fp16 codes as IEEE half floats, so its own memory is the matrix; `self._index` keeps it alive.
        self._rows: HalfRows = np.empty((0, index.d), dtype=np.float16)
        if index.ntotal:
            codes = faiss.rev_swig_ptr(flat.codes.data(), flat.codes.size())
            self._rows = codes.view(np.float16).reshape(index.ntotal, index.d)

    @classmethod
    def deserialised(cls, serialised: Bytes) -> DenseBase:
        """The bytes must have been verified: FAISS files carry no checksum of their own."""
        return cls(faiss.deserialize_index(serialised))

    @classmethod
    def empty(cls, dimensions: int) -> DenseBase:
        return cls.deserialised(DenseBuilder(dimensions).serialised())

    def __len__(self) -> int:
        return len(self.ids)

    def search(self, vector: Scores, k: int) -> tuple[Ids, Scores]:
        """The `k` best (or all, where there are fewer), best first; `vector` is float32 [dimensions]."""
        faiss.omp_set_num_threads(1)
        if not len(self):
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        scores, ids = self._index.search(vector[np.newaxis, :], min(k, len(self)))
        return ids[0], scores[0]

    def search_among(self, vector: Scores, k: int, rows: NDArray[np.bool_]) -> tuple[Ids, Scores]:
        """As `search`, of those rows alone that are marked: [len(self)], in the order of `ids`.

        Where half of them are, FAISS takes about as long as for all, and in proportion less for fewer.
        """
        faiss.omp_set_num_threads(1)
        k = min(k, int(np.count_nonzero(rows)))
        if not k:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        selected = _selecting(np.packbits(rows, bitorder="little"))
        scores, found = self._flat.search(vector[np.newaxis, :], k, params=selected)
        return self.ids[found[0]], scores[0]

    def scores_of(self, vector: Scores, ids: Ids) -> Scores:
        """Inner products for chunk ids that are all in this base, in their order."""
        rows = self._rows[np.searchsorted(self.ids, ids)]
        return _inner_products(rows.astype(np.float32), vector)

    def vector(self, chunk_id: int) -> HalfRows:
        """float16 [dimensions] of a chunk that is in this base."""
        row: HalfRows = self._rows[int(np.searchsorted(self.ids, chunk_id))]
        return row

    def contains(self, ids: Ids) -> NDArray[np.bool_]:
        if not len(self):
            return np.zeros(len(ids), dtype=np.bool_)
        found: NDArray[np.bool_] = self.ids[np.minimum(np.searchsorted(self.ids, ids), len(self) - 1)] == ids
        return found


class _Buffer:
    """Rows shared by successive tails; each of them looks only at its own first rows, so appending disturbs none."""

    def __init__(self, capacity: int, dimensions: int) -> None:
        self.rows: NDArray[np.float32] = np.empty((capacity, dimensions), dtype=np.float32)
        self.used = 0


class DenseTail:
    """Rows in the order they came, as an immutable value: `extended` gives a new tail and leaves this one as it was.

    Rows go into a buffer that doubles, so n appends copy O(n) rows in all. One thread at a time may extend.
    """

    def __init__(self, dimensions: int) -> None:
        self._buffer = _Buffer(0, dimensions)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def extended(self, rows: HalfRows) -> DenseTail:
        """This tail with `rows`, float16 [n, dimensions], after its own."""
        buffer = self._buffer
        total = self._count + len(rows)
        # Someone who extended this very tail before has used the rows after it: then, too, a fresh buffer is needed.
        if total > len(buffer.rows) or buffer.used != self._count:
            buffer = _Buffer(max(total, 2 * self._count), buffer.rows.shape[1])
            buffer.rows[: self._count] = self._buffer.rows[: self._count]
        buffer.rows[self._count : total] = rows
        buffer.used = total
        longer = DenseTail.__new__(DenseTail)
        longer._buffer, longer._count = buffer, total
        return longer

    def scores(self, vector: Scores) -> Scores:
        """The inner product with every row, in row order."""
        return _inner_products(self._buffer.rows[: self._count], vector)


def _selecting(bitmap: Bytes) -> Any:
    # Made as FAISS's Python wrappers have it, of which its stubs know nothing.
    parameters: Any = faiss.SearchParameters
    bits: Any = faiss.IDSelectorBitmap
    return parameters(sel=bits(bitmap))


def _inner_products(rows: NDArray[np.float32], vector: Scores) -> Scores:
    """Row by row on the calling thread. `rows @ vector` wakes BLAS's threads: with two cores and busy neighbours its
    p95 over 20,000 rows was 19 ms against 1.7 ms, at much the same median."""
    products: Scores = np.vecdot(rows, vector)
    return products
