"""The HTTP side of an embeddings server: one request of some texts, with its tries."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import httpx
import numpy as np
from numpy.typing import NDArray

from rag_service.errors import EmbedderTimeout, EmbeddingFailed
from rag_service.inference.embedding_faults import refusal, unreachable
from rag_service.inference.embeddings_reply import rows_of
from rag_service.inference.model_server import ERROR_BODY_BYTES, Retries, address, below, client, sign_of_life

_MOST_BODY_BYTES = 1 << 20
"""A text: 4,096 numbers of 25 characters are a tenth of it."""


@dataclass(frozen=True, slots=True)
class EmbeddingLimits:
    """`connect` is for one connection, `total` for one request of up to `batch_texts`, all tries and waits included."""

    connect_seconds: float
    total_seconds: float
    batch_texts: int


class EmbeddingsServer:
    """Used from one event loop."""

    def __init__(self, url: str, model: str, api_key: str | None, limits: EmbeddingLimits, retries: Retries) -> None:
        """Raises InvalidConfiguration."""
        self._base = address(url, "YOUJU_EMBEDDER", "YOUJU_EMBEDDER_API_KEY")
        self._model = model
        self._api_key = api_key
        self._limits = limits
        self._retries = retries
        connections = httpx.Limits(max_connections=100, max_keepalive_connections=20)
        headers = {"accept": "application/json"}
        self._client = client(api_key, "YOUJU_EMBEDDER_API_KEY", headers, connections, limits.connect_seconds)

    async def rows(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """[len(texts), dimensions] as the server made them. Raises Fault, EmbedderTimeout, EmbeddingFailed."""
        members = {"model": self._model, "input": list(texts), "encoding_format": "float"}
        seconds = self._limits.total_seconds
        timeout = asyncio.timeout(seconds)
        try:
            async with timeout:
                attempt = partial(self._try, json.dumps(members).encode(), len(texts))
                body = await self._retries.result(attempt, partial(_left, timeout))
        except TimeoutError as error:
            raise EmbedderTimeout(
                f"the embedding server took longer than {seconds:g} s", limit="total", seconds=seconds
            ) from error
        return rows_of(body, len(texts))

    async def check(self) -> str:
        return await sign_of_life(self._client, self._base, self._limits.connect_seconds + 1.0, "the embedding server")

    async def close(self) -> None:
        await self._client.aclose()

    async def _try(self, content: bytes, texts: int) -> bytes:
        try:
            async with self._client.stream("POST", below(self._base, "embeddings"), content=content) as incoming:
                if incoming.status_code != 200:
                    body = await _read(incoming, ERROR_BODY_BYTES)
                    raise refusal(incoming.status_code, incoming.headers, body[:ERROR_BODY_BYTES], self._api_key)
                return await _whole(incoming, texts * _MOST_BODY_BYTES)
        except httpx.ConnectTimeout as error:
            seconds = self._limits.connect_seconds
            raise EmbedderTimeout(
                f"no connection to the embedding server within {seconds:g} s", limit="connect", seconds=seconds
            ) from error
        except httpx.TransportError as error:
            raise unreachable(str(error) or type(error).__name__) from error


def _left(timeout: asyncio.Timeout) -> float:
    return (timeout.when() or 0.0) - asyncio.get_running_loop().time()


async def _whole(incoming: httpx.Response, most_bytes: int) -> bytes:
    if incoming.headers.get("content-encoding", "identity") != "identity":
        raise EmbeddingFailed("the embedding server compresses though it was asked not to", reason="compressed")
    body = await _read(incoming, most_bytes)
    if len(body) > most_bytes:
        raise EmbeddingFailed(f"the embedding server answered with more than {most_bytes} bytes", reason="too-large")
    return body


async def _read(incoming: httpx.Response, most_bytes: int) -> bytes:
    """At most one piece more than that."""
    body = bytearray()
    async for piece in incoming.aiter_raw():
        body += piece
        if len(body) > most_bytes:
            break
    return bytes(body)
