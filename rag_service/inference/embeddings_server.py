"""The HTTP side of an embeddings server: one request of some texts, with its tries."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
import numpy as np
from numpy.typing import NDArray

from rag_service.errors import EmbedderTimeout, EmbeddingFailed, InvalidConfiguration
from rag_service.inference.completion_faults import Fault
from rag_service.inference.completion_stream import shown
from rag_service.inference.completions_server import ERROR_BODY_BYTES, Retries
from rag_service.inference.embedding_faults import refusal, unreachable
from rag_service.inference.embeddings_reply import rows_of

_MOST_BODY_BYTES = 1 << 20
"""A text: 4,096 numbers of 25 characters are a tenth of it."""


@dataclass(frozen=True, slots=True)
class EmbeddingLimits:
    """`connect` is for one connection, `total` for one request of up to `batch_texts`, all tries and waits included."""

    connect_seconds: float
    total_seconds: float
    batch_texts: int


class EmbeddingsServer:
    """Used from one event loop. No proxy is asked, no redirect followed: texts go to `url` and nowhere else."""

    def __init__(self, url: str, model: str, api_key: str | None, limits: EmbeddingLimits, retries: Retries) -> None:
        """Raises InvalidConfiguration."""
        base = _base(url)
        self._embeddings = base.copy_with(path=f"{base.path.rstrip('/')}/embeddings")
        self._models = base.copy_with(path=f"{base.path.rstrip('/')}/models")
        self._model = model
        self._api_key = api_key
        self._limits = limits
        self._retries = retries
        self._client = httpx.AsyncClient(
            headers=_headers(api_key),
            # Time is kept over all steps together; only the connection has a limit of its own.
            timeout=httpx.Timeout(None, connect=limits.connect_seconds),
            verify=ssl.create_default_context(),
            trust_env=False,
            follow_redirects=False,
        )

    async def rows(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """[len(texts), dimensions] as the server made them. Raises Fault, EmbedderTimeout, EmbeddingFailed."""
        members = {"model": self._model, "input": list(texts), "encoding_format": "float"}
        seconds = self._limits.total_seconds
        timeout = asyncio.timeout(seconds)
        try:
            async with timeout:
                body = await self._tries(json.dumps(members).encode(), len(texts), timeout)
        except TimeoutError as error:
            raise EmbedderTimeout(
                f"the embedding server took longer than {seconds:g} s", limit="total", seconds=seconds
            ) from error
        return rows_of(body, len(texts))

    async def check(self) -> str:
        """`ok`, or why the server would not answer; any answer but a refused key or a server error is a living server,
        as not all of them have `/models`."""
        try:
            async with (
                asyncio.timeout(self._limits.connect_seconds + 1.0),
                self._client.stream("GET", self._models) as r,
            ):
                status = r.status_code
        except (httpx.TransportError, TimeoutError) as error:
            return f"the embedding server cannot be reached: {shown(str(error) or type(error).__name__)}"
        if status in (401, 403):
            return f"the embedding server refuses the API key ({status})"
        return "ok" if status < 500 else f"the embedding server answers {status}"

    async def close(self) -> None:
        await self._client.aclose()

    async def _tries(self, content: bytes, texts: int, timeout: asyncio.Timeout) -> bytes:
        for failed in range(1, self._retries.tries + 1):
            try:
                return await self._try(content, texts)
            except Fault as fault:
                wait = max(self._retries.wait(failed), fault.retry_after_seconds or 0.0)
                left = (timeout.when() or 0.0) - asyncio.get_running_loop().time()
                if not fault.again or failed == self._retries.tries or wait >= left:
                    raise
            await asyncio.sleep(wait)
        raise AssertionError("the last try returns or raises")

    async def _try(self, content: bytes, texts: int) -> bytes:
        try:
            async with self._client.stream("POST", self._embeddings, content=content) as incoming:
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


def _base(url: str) -> httpx.URL:
    try:
        base = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidConfiguration(f"YOUJU_EMBEDDER: {error}") from error
    if base.userinfo:
        raise InvalidConfiguration("a password in YOUJU_EMBEDDER would end up in logs: use YOUJU_EMBEDDER_API_KEY")
    return base


def _headers(api_key: str | None) -> dict[str, str]:
    if api_key is not None and not re.fullmatch(r"[!-~]+", api_key):
        # Found here, as the HTTP library would quote the key in its own error, once something is to be embedded.
        raise InvalidConfiguration("YOUJU_EMBEDDER_API_KEY has blanks, line ends or characters other than ASCII")
    plain = {
        "accept": "application/json",
        # A compressed answer could unfold to any size inside the HTTP library, before a limit here sees it.
        "accept-encoding": "identity",
        "content-type": "application/json",
        "user-agent": "youju",
    }
    return plain if api_key is None else plain | {"authorization": f"Bearer {api_key}"}
