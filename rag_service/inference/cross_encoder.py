"""A reranker by name: a cross-encoder of sentence-transformers, such as BAAI/bge-reranker-v2-m3."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from pathlib import Path

from sentence_transformers import CrossEncoder
from torch.nn import Sigmoid

from rag_service.errors import InvalidConfiguration, RerankingFailed
from rag_service.inference.model_location import locate

KIND = "cross-encoder:"
MOST_TOKENS = 512
"""Of a pair, as reading costs by the square of it; a longer one is cut, as is one that is too long for the model."""
_BATCH_PAIRS = 16


class CrossEncoderReranker:
    """Implements `ports.Reranker`; safe to share between threads, which take turns. Nothing is fetched.

    Scores are the sigmoid of the model's one output, whatever its files suggest: rankings of one question are the same
    as theirs, and scores of all models lie in one range.
    """

    def __init__(self, model: str) -> None:
        """Raises InvalidConfiguration."""
        self.name = f"{KIND}{model}"
        self._model = _loaded(model, locate(model))
        self._lock = threading.Lock()
        if self._model.num_labels != 1:
            raise InvalidConfiguration(
                f"{self.name} has {self._model.num_labels} outputs: a reranker has one", model=model
            )
        most = self._model.get_max_seq_length()
        self._model.max_seq_length = MOST_TOKENS if most is None else min(most, MOST_TOKENS)

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        if not texts:
            return []
        # The tokenizers of transformers are not to be used by two threads at once.
        with self._lock:
            scores = self._model.predict(
                [(query, text) for text in texts],
                batch_size=_BATCH_PAIRS,
                show_progress_bar=False,
                activation_fn=Sigmoid(),
            )
        made = [float(score) for score in scores]
        if len(made) != len(texts) or not all(math.isfinite(score) for score in made):
            raise RerankingFailed(f"{self.name} made no score for a text", reason="not-finite")
        return made


def _loaded(model: str, path: Path) -> CrossEncoder:
    try:
        return CrossEncoder(str(path), local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise InvalidConfiguration(f"{KIND}{model} cannot be loaded: {error}", model=model) from error
