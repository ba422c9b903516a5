"""Universal Sentence Encoder multilingual v3 as int8 ONNX: about three times as fast as the float build.

Its vectors are near those of `use-multilingual` (cosine .98) and not the same: another embedder, never in one index.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import onnxruntime_extensions
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

from rag_service.errors import EmbeddingFailed
from rag_service.inference import use_onnx_file
from rag_service.inference.unit_vectors import unit_vectors
from rag_service.ports import Vector, Vectors


class UseMultilingualOnnx:
    """Implements `ports.Embedder`; safe to share between threads. `models` is the folder that has the file.

    One text a run: activations are scaled over the whole batch, so that a text would get another vector beside other
    texts (up to .04 a component). Alone they are no slower.
    """

    name = "use-multilingual-onnx"
    dimensions = 512

    def __init__(self, models: Path) -> None:
        """Raises InvalidConfiguration."""
        options = onnxruntime.SessionOptions()
        # As with the float build, parallel work comes from requests side by side.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # Its tokenizer is a part of the graph.
        options.register_custom_ops_library(onnxruntime_extensions.get_library_path())
        self._session = onnxruntime.InferenceSession(
            str(use_onnx_file.demand(models)), options, providers=["CPUExecutionProvider"]
        )
        self.embed_query("warm")

    def embed(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.empty((0, self.dimensions), dtype=np.float32)
        return unit_vectors(np.concatenate([self._run(text) for text in texts]), len(texts), self.dimensions, self.name)

    def embed_query(self, text: str) -> Vector:
        vector: Vector = self.embed([text])[0]
        return vector

    def _run(self, text: str) -> Vectors:
        """float32 [1, dimensions]"""
        try:
            [row] = self._session.run(["outputs"], {"inputs": np.array([text], dtype=object)})
        except RuntimeException as error:
            raise EmbeddingFailed(f"{self.name} could not read a text: {error}", reason="text") from error
        made: Vectors = row
        return made
