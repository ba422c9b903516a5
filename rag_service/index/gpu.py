"""The dense leg on a CUDA device: the same answers as the CPU's, faster where a base is large.

The device holds the rows as float16 and rounds the question to float16 too, so its scores are slightly off and its
order is a hint. It is asked for a few more than are wanted, those are scored again as the CPU scores them, and the
result counts only where no row left out could have come in between. Elsewhere the CPU searches.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import RLock
from typing import Any

import faiss
import numpy as np

from rag_service.errors import InvalidConfiguration
from rag_service.index.dense import Bytes, DenseBase, HalfRows, Ids, Scores

_log = logging.getLogger(__name__)

# The device's row numbers and its scores for the best `k` of one question, best first.
Nearest = Callable[[Scores, int], tuple[Ids, Scores]]

# What rounding a unit vector to float16 can change of an inner product with a unit row (2⁻¹¹ at most), and as much
# again as float32 sums over a thousand products could add.
ERROR = 6e-4
_SPARE = 64
# FAISS's kernels select at most this many (GPU_MAX_SELECTION_K); deeper searches are the CPU's.
_MOST = 2_048
_ROWS_AT_ONCE = 1 << 18
# One question needs little; FAISS's own 1.5 GB and 256 MB of pinned memory are missed where a model shares the card.
_SCRATCH_BYTES = 128 << 20
# faiss-cpu and faiss-gpu own the same folder: whichever was installed last is what is imported.
_INSTALL = (
    "install youju[gpu] on a machine with an NVIDIA driver (CUDA 12; where faiss-cpu was installed after it: "
    "pip install --force-reinstall --no-deps faiss-gpu), or set index = faiss"
)


class Gpu:
    """One CUDA device. `base` is what a LiveIndex loads its bases with."""

    def __init__(self, device: int = 0) -> None:
        """Raises InvalidConfiguration, with what to install, where FAISS cannot use the device."""
        if not hasattr(faiss, "StandardGpuResources"):
            raise InvalidConfiguration(f"index = faiss-gpu, but the FAISS installed is for the CPU: {_INSTALL}")
        if faiss.get_num_gpus() <= device:
            raise InvalidConfiguration(f"index = faiss-gpu, but there is no CUDA device {device}: {_INSTALL}")
        self._device = device
        # Resources, and whatever allocates or frees through them, are for one thread at a time. Re-entrant, because
        # rows may be freed by the garbage collector, in any thread and anywhere.
        self._lock = RLock()
        self._resources = faiss.StandardGpuResources()
        self._resources.setTempMemory(_SCRATCH_BYTES)
        self._resources.setPinnedMemory(0)

    def base(self, serialised: Bytes) -> DenseBase:
        """The verified bytes of a dense base, on the device, or on the CPU alone where the device has no room."""
        base = GpuBase(faiss.deserialize_index(serialised), self._place)
        if not base.placed:
            _log.error("no room on the GPU for %d rows of %d: the CPU searches them", len(base), base.dimensions)
        return base

    def _place(self, rows: HalfRows) -> Nearest | None:
        try:
            return _DeviceRows(self._resources, self._device, self._lock, rows).nearest
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            return None


class GpuBase(DenseBase):
    """A base that asks `nearest`, rows placed elsewhere, before it searches by itself; among some rows it searches by
    itself at once. Rows are of unit length."""

    def __init__(self, index: Any, place: Callable[[HalfRows], Nearest | None]) -> None:
        super().__init__(index)
        self._nearest = place(self._rows) if len(self) else None

    @property
    def placed(self) -> bool:
        return self._nearest is not None or not len(self)

    def search(self, vector: Scores, k: int) -> tuple[Ids, Scores]:
        """As `DenseBase.search`, apart from the order of scores that are equal up to rounding."""
        found = self._hinted(vector, min(k, len(self)))
        return found if found is not None else super().search(vector, k)

    def _hinted(self, vector: Scores, k: int) -> tuple[Ids, Scores] | None:
        """None where the hint leaves a doubt, or there is none."""
        wider = min(k + _SPARE, len(self))
        if self._nearest is None or wider > _MOST:
            return None
        try:
            rows, hints = self._nearest(vector, wider)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            return None
        ids = self.ids[rows]
        scores = self.scores_of(vector, ids)
        best = np.lexsort((ids, -scores))[:k]
        # No row left out scores more than this.
        ceiling = hints[-1] + ERROR * float(np.linalg.norm(vector))
        certain = wider == len(self) or scores[best[-1]] >= ceiling
        return (ids[best], scores[best]) if certain else None


class _DeviceRows:
    """Rows in the device's memory until the last reference goes."""

    def __init__(self, resources: Any, device: int, lock: RLock, rows: HalfRows) -> None:
        config = faiss.GpuIndexFlatConfig()
        config.device = device
        config.useFloat16 = True
        config.use_cuvs = False
        self._lock = lock
        with lock:
            self._flat: Any = faiss.GpuIndexFlatIP(resources, rows.shape[1], config)
            for start in range(0, len(rows), _ROWS_AT_ONCE):
                self._flat.add(rows[start : start + _ROWS_AT_ONCE].astype(np.float32))

    def nearest(self, vector: Scores, k: int) -> tuple[Ids, Scores]:
        with self._lock:
            scores, rows = self._flat.search(vector[np.newaxis, :], k)
        return rows[0], scores[0]

    def __del__(self) -> None:
        with self._lock:
            self.__dict__.pop("_flat", None)


def _is_out_of_memory(error: RuntimeError) -> bool:
    """FAISS throws one kind of exception for everything; this is what StandardGpuResources writes into it."""
    return "alloc fail" in str(error)
