"""Any sentence-transformers model, by name or directory: pooling, dimensions and prefixes are the model's own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from rag_service.errors import InvalidConfiguration
from rag_service.inference.model_location import locate
from rag_service.inference.prefixes import Prefixes, prefixes_of
from rag_service.inference.unit_vectors import unit_vectors
from rag_service.ports import Vector, Vectors

KIND = "sentence-transformers:"
_BATCH_TEXTS = 16
_PASSAGE_PROMPTS = ("document", "passage", "corpus")


class SentenceEmbedder:
    """Implements `ports.Embedder` and `ports.Bounded`; safe to share between threads, which take turns. Nothing is
    fetched.

    Prefixes: the prompts in the model's own files if it has any, else what its family is known to want. A text longer
    than `most_tokens` is cut by the model.
    """

    def __init__(self, model: str) -> None:
        """Raises InvalidConfiguration."""
        self.name = f"{KIND}{model}"
        self._model = _loaded(model, locate(model))
        self._lock = threading.Lock()
        self._prefixes = _prompts(self._model) or prefixes_of(model)
        self.dimensions = int(self._encoded(self._model.encode_document, ["warm"], "").shape[1])
        self.most_tokens = self._room_for_text()

    def embed(self, texts: Sequence[str]) -> Vectors:
        return self._embedded(self._model.encode_document, texts, self._prefixes.passage)

    def embed_query(self, text: str) -> Vector:
        vector: Vector = self._embedded(self._model.encode_query, [text], self._prefixes.query)[0]
        return vector

    def _embedded(self, encode: Callable[..., Any], texts: Sequence[str], prefix: str) -> Vectors:
        if not texts:
            return np.empty((0, self.dimensions), dtype=np.float32)
        return unit_vectors(self._encoded(encode, texts, prefix), len(texts), self.dimensions, self.name)

    def _encoded(self, encode: Callable[..., Any], texts: Sequence[str], prefix: str) -> NDArray[np.float32]:
        # The tokenizers of transformers are not to be used by two threads at once.
        with self._lock:
            rows: NDArray[np.float32] = encode(
                list(texts), prompt=prefix, batch_size=_BATCH_TEXTS, show_progress_bar=False
            )
        return rows

    def _room_for_text(self) -> int | None:
        """What the model reads, less the prefix of a passage and the special tokens."""
        most = self._model.get_max_seq_length()
        if most is None:
            return None
        return max(1, int(most) - len(self._model.tokenizer(self._prefixes.passage)["input_ids"]))


def _prompts(model: SentenceTransformer) -> Prefixes | None:
    """Those in the model's files, if there are any. Not left to the library, which takes an empty `document` that it
    adds itself for the prompt of a model that has only `passage`."""
    found = {name: prompt for name, prompt in model.prompts.items() if prompt}
    if not found:
        return None
    default = found.get(model.default_prompt_name or "", "")
    passage = next((found[name] for name in _PASSAGE_PROMPTS if name in found), default)
    return Prefixes(query=found.get("query", default), passage=passage)


def _loaded(model: str, path: Path) -> SentenceTransformer:
    try:
        return SentenceTransformer(str(path), local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise InvalidConfiguration(f"{KIND}{model} cannot be loaded: {error}", model=model) from error
