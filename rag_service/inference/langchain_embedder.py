"""Any LangChain `Embeddings`: an object, or where to import one from."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Sequence
from typing import TypeVar

import httpx
import numpy as np
from langchain_core.embeddings import Embeddings

from rag_service.errors import EmbedderUnavailable, EmbeddingFailed, InvalidConfiguration
from rag_service.inference.unit_vectors import unit_vectors
from rag_service.ports import Vector, Vectors

KIND = "langchain:"
_BATCH_TEXTS = 32
Made = TypeVar("Made")


class LangChainEmbedder:
    """Implements `ports.Embedder`; as safe to share between threads as `embeddings` is."""

    def __init__(self, embeddings: Embeddings, name: str) -> None:
        """Asks for one vector, to learn its dimensions. Raises EmbedderUnavailable, EmbeddingFailed."""
        self.name = name
        self._embeddings = embeddings
        self.dimensions = len(self._asked(lambda: embeddings.embed_query("warm")))

    def embed(self, texts: Sequence[str]) -> Vectors:
        made = [self._some(texts[at : at + _BATCH_TEXTS]) for at in range(0, len(texts), _BATCH_TEXTS)]
        return np.concatenate(made) if made else np.empty((0, self.dimensions), dtype=np.float32)

    def embed_query(self, text: str) -> Vector:
        vector: Vector = self._unit([self._asked(lambda: self._embeddings.embed_query(text))], 1)[0]
        return vector

    def _some(self, texts: Sequence[str]) -> Vectors:
        return self._unit(self._asked(lambda: self._embeddings.embed_documents(list(texts))), len(texts))

    def _unit(self, rows: Sequence[Sequence[float]], texts: int) -> Vectors:
        try:
            array = np.array(rows, dtype=np.float64)
        except (ValueError, TypeError) as error:
            raise EmbeddingFailed(f"{self.name} made no vectors of numbers: {error}", reason="not-numbers") from error
        return unit_vectors(array, texts, self.dimensions, self.name)

    def _asked(self, ask: Callable[[], Made]) -> Made:
        try:
            return ask()
        except (OSError, httpx.TransportError) as error:
            raise EmbedderUnavailable(f"{self.name} cannot be reached: {_said(error)}") from error
        except Exception as error:
            # What an Embeddings raises is its author's choice: it is told, by name.
            raise EmbeddingFailed(f"{self.name} failed: {_said(error)}", reason="raised") from error


def imported(target: str) -> LangChainEmbedder:
    """`target` is `package.module:name` of an Embeddings, or of what returns one when called without arguments.

    Raises InvalidConfiguration, EmbedderUnavailable, EmbeddingFailed.
    """
    name = f"{KIND}{target}"
    try:
        found = pkgutil.resolve_name(target)
        made = found if isinstance(found, Embeddings) else found()
    except Exception as error:
        # Foreign code that runs at start: whatever it says is what has to be put right.
        raise InvalidConfiguration(f"{name} cannot be made: {_said(error)}") from error
    if not isinstance(made, Embeddings):
        raise InvalidConfiguration(f"{name} is a {type(made).__name__}, not a LangChain Embeddings")
    return LangChainEmbedder(made, name)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
