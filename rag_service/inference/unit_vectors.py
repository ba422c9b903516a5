"""What an embedder's answer must be before anything else sees it: one finite vector of unit length for each text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rag_service.errors import EmbeddingFailed
from rag_service.ports import Vectors

_LEAST_LENGTH = 1e-12
"""Shorter than this a vector has no direction to speak of."""


def unit_vectors(rows: NDArray[np.floating], texts: int, dimensions: int, embedder: str) -> Vectors:
    """`rows` at unit length, float32 [texts, dimensions]. Raises EmbeddingFailed."""
    if rows.ndim != 2 or len(rows) != texts:
        raise _failed("count", f"answered {texts} texts with {_shape(rows)}", embedder, texts=texts)
    if rows.shape[1] != dimensions:
        raise _failed(
            "dimensions",
            f"made vectors of {rows.shape[1]} dimensions, where it has always had {dimensions}",
            embedder,
            dimensions=dimensions,
            got=rows.shape[1],
        )
    wide = rows.astype(np.float64)
    if not np.isfinite(wide).all():
        raise _failed("not-finite", "made a vector with NaN or infinity in it", embedder)
    # Numbers near the end of their range overflow when squared.
    with np.errstate(over="ignore"):
        lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or (lengths < _LEAST_LENGTH).any():
        raise _failed("no-direction", "made a vector of zeros, or one of no measurable length", embedder)
    unit: Vectors = (wide / lengths).astype(np.float32)
    return unit


def _shape(rows: NDArray[np.floating]) -> str:
    return f"{len(rows)} vectors" if rows.ndim == 2 else f"an array of shape {rows.shape}"


def _failed(reason: str, what: str, embedder: str, **data: int) -> EmbeddingFailed:
    return EmbeddingFailed(f"{embedder} {what}", reason=reason, embedder=embedder, **data)
