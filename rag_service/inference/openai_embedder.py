"""Vectors from any server that speaks OpenAI's embeddings protocol: vLLM, TEI, llama.cpp, Ollama."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future

import numpy as np
from numpy.typing import NDArray

from rag_service.errors import EmbedderTimeout, EmbedderUnavailable, EmbeddingFailed, Overloaded
from rag_service.inference.background_loop import BackgroundLoop
from rag_service.inference.circuit_breaker import Admission, CircuitBreaker
from rag_service.inference.completion_faults import Fault
from rag_service.inference.embeddings_server import EmbeddingLimits, EmbeddingsServer
from rag_service.inference.model_server import Retries
from rag_service.inference.prefixes import prefixes_of
from rag_service.inference.server_health import ServerHealth
from rag_service.inference.unit_vectors import unit_vectors
from rag_service.ports import Vector, Vectors

KIND = "openai:"


class OpenAIEmbedder:
    """Implements `ports.Embedder` and `ports.Ready`; safe to share between threads. One thread with an event loop.

    - `target` is `<url>#<model>`. What the model's family wants before questions and passages is put there.
    - A request has at most `limits.batch_texts` texts; a server that is slow with one is not asked for the next.
    - Tried again, within the limit, where no whole answer came: no connection, a reset, 408, 429 (its Retry-After
      kept), 500, 502, 503, 504. An answer that makes no sense is not asked for again.
    - Vectors are put to unit length, in double precision; a wrong number of them, other dimensions than before, NaN,
      infinity and zeros are EmbeddingFailed, and nothing of the batch is used.
    - `api_key` goes as a bearer token and stands in no error, not even when the server repeats it.
    """

    def __init__(
        self,
        target: str,
        *,
        api_key: str | None,
        limits: EmbeddingLimits,
        dimensions: int | None = None,
        retries: Retries | None = None,
        breaker: CircuitBreaker | None = None,
    ) -> None:
        """Asks for one vector to learn `dimensions` where they are not given.

        Raises InvalidConfiguration, and then also EmbedderUnavailable, EmbedderTimeout, EmbeddingFailed, Overloaded.
        """
        url, _, model = target.partition("#")
        self.name = f"{KIND}{target}"
        self._batch_texts = limits.batch_texts
        self._prefixes = prefixes_of(model)
        self._server = EmbeddingsServer(url, model, api_key, limits, retries or Retries())
        self._breaker = breaker or CircuitBreaker(failures=5, open_seconds=10.0, clock=time.monotonic)
        self._lock = threading.Lock()
        self._closed = False
        self._loop = BackgroundLoop("openai-embedder")
        self._health = ServerHealth(
            "the embedding server", EmbedderUnavailable, self._breaker, self._loop, self._server.check
        )
        self.dimensions = dimensions or self._learnt_dimensions()

    def embed(self, texts: Sequence[str]) -> Vectors:
        return self._embedded([self._prefixes.passage + text for text in texts])

    def embed_query(self, text: str) -> Vector:
        vector: Vector = self._embedded([self._prefixes.query + text])[0]
        return vector

    def ready(self) -> str:
        return self._health.state()

    def close(self) -> None:
        """Ends every request under way with EmbedderUnavailable, and the thread. May be called again."""
        with self._lock:
            closed, self._closed = self._closed, True
        if not closed:
            self._loop.close(self._end_all())

    def _learnt_dimensions(self) -> int:
        try:
            rows = self._rows(["dimensions"])
            return len(unit_vectors(rows, 1, rows.shape[1], self.name)[0])
        except BaseException:
            self.close()
            raise

    def _embedded(self, texts: list[str]) -> Vectors:
        made = [self._some(texts[at : at + self._batch_texts]) for at in range(0, len(texts), self._batch_texts)]
        return np.concatenate(made) if made else np.empty((0, self.dimensions), dtype=np.float32)

    def _some(self, texts: list[str]) -> Vectors:
        return unit_vectors(self._rows(texts), len(texts), self.dimensions, self.name)

    def _rows(self, texts: list[str]) -> NDArray[np.float64]:
        admission = self._health.admit()
        try:
            rows = self._begin(texts).result()
        except Fault as fault:
            self._failed(admission, fault)
            raise fault.error from fault
        except EmbedderTimeout as error:
            self._failed(admission, Fault(error, again=False, blames_engine=True))
            raise
        except CancelledError as error:
            self._breaker.abandoned(admission)
            raise EmbedderUnavailable("the embedder is shut down") from error
        except BaseException:
            # An answer that makes no sense for these texts says nothing about others, and an interrupt nothing at all.
            self._breaker.abandoned(admission)
            raise
        self._breaker.succeeded(admission)
        self._health.learnt("ok")
        return rows

    def _begin(self, texts: list[str]) -> Future[NDArray[np.float64]]:
        with self._lock:
            if self._closed:
                raise EmbedderUnavailable("the embedder is shut down")
            return self._loop.begin(self._server.rows(texts))

    def _failed(self, admission: Admission, fault: Fault) -> None:
        if fault.blames_engine:
            self._breaker.failed(admission)
        else:
            self._breaker.abandoned(admission)
        # A refused key does not open the circuit, and yet nothing can be embedded until somebody mends it.
        if not isinstance(fault.error, EmbeddingFailed | Overloaded):
            self._health.learnt(fault.error.detail)

    async def _end_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._server.close()
