"""What a failed try to get embeddings means: for the caller, for another try, and for the circuit breaker."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rag_service.errors import EmbedderUnavailable, EmbeddingFailed, Overloaded, YoujuError
from rag_service.inference.completion_faults import RETRIED, Fault, retry_after_seconds, server_words
from rag_service.inference.completion_stream import shown


def unreachable(reason: str) -> Fault:
    """No connection, or one that broke before the answer was whole."""
    error = EmbedderUnavailable(f"the embedding server cannot be reached: {shown(reason)}")
    return Fault(error, again=True, blames_engine=True)


def refusal(status: int, headers: Mapping[str, str], body: bytes, secret: str | None) -> Fault:
    """What a status other than 200 means; only 5xx and 408 blame the server.

    Where the texts are to blame (400, 413, 422: one is too long, say) it is EmbeddingFailed, which ends a document;
    anything else is for an operator to mend, and documents wait for it.
    """
    words = server_words(body, secret)
    retry_after = retry_after_seconds(headers.get("retry-after"))
    blames_server = status >= 500 or status == 408
    return Fault(
        _error(status, words, retry_after), again=status in RETRIED, blames_engine=blames_server,
        retry_after_seconds=retry_after,
    )  # fmt: skip


def _error(status: int, words: str, retry_after: float | None) -> YoujuError:
    if status == 429:
        seconds = math.ceil(retry_after or 1.0)
        return Overloaded(f"the embedding server is full: {words}", retry_after_seconds=seconds, status=status)
    if status in (400, 413, 422):
        return EmbeddingFailed(
            f"the embedding server refused the texts ({status}): {words}", reason="refused", status=status
        )
    return EmbedderUnavailable(f"{_complaint(status)} ({status}: {words})", status=status)


def _complaint(status: int) -> str:
    if 300 <= status < 400:
        return "the embedding server redirects elsewhere, which is not followed: check the URL in YOUJU_EMBEDDER"
    if status in (401, 403):
        return "the embedding server refuses the API key: check YOUJU_EMBEDDER_API_KEY_FILE"
    if status == 404:
        return (
            "the embedding server knows no such address or model: check YOUJU_EMBEDDER, openai:URL#MODEL with the"
            " URL's /v1"
        )
    return "the embedding server failed"
