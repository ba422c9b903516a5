"""The body of an embeddings reply: bytes to rows, everything checked, nothing trusted. Pure."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag_service.errors import EmbeddingFailed
from rag_service.inference.completion_stream import shown


def rows_of(body: bytes, texts: int) -> NDArray[np.float64]:
    """[texts, whatever the server has] in the order of the request. Raises EmbeddingFailed.

    A vector is a list of numbers, or the base64 of little-endian float32, whichever the server prefers.
    """
    entries = _entries(body)
    if len(entries) != texts:
        raise _failed("count", f"answered {texts} texts with {len(entries)} vectors", texts=texts, got=len(entries))
    rows = [_row(entry) for entry in _in_order(entries)]
    if len({len(row) for row in rows}) > 1:
        raise _failed("dimensions", "answered with vectors of different dimensions")
    return np.stack(rows)


def _entries(body: bytes) -> list[dict[str, Any]]:
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _failed("not-json", f"answered with something that is no JSON: {_shown(body)}") from error
    entries = reply.get("data") if isinstance(reply, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise _failed("no-data", f"answered with something that is no list of embeddings: {_shown(body)}")
    return entries


def _in_order(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By `index`, which servers may leave out of a reply in order, but must not get wrong."""
    if all("index" not in entry for entry in entries):
        return entries
    by_index = {entry.get("index"): entry for entry in entries if type(entry.get("index")) is int}
    if set(by_index) != set(range(len(entries))):
        raise _failed("index", "did not say which vector belongs to which text")
    return [by_index[at] for at in range(len(entries))]


def _row(entry: dict[str, Any]) -> NDArray[np.float64]:
    value = entry.get("embedding")
    if isinstance(value, str):
        return _decoded(value)
    # true would count as 1.
    if not isinstance(value, list) or not value or not all(type(number) in (int, float) for number in value):
        raise _failed("not-numbers", "made a vector that is no list of numbers")
    try:
        return np.array(value, dtype=np.float64)
    except OverflowError as error:
        raise _failed("not-finite", "made a vector with a number too large to be one") from error


def _decoded(text: str) -> NDArray[np.float64]:
    try:
        row = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4").astype(np.float64)
    except (binascii.Error, ValueError) as error:
        raise _failed("not-numbers", "made a vector that is neither numbers nor base64 of float32") from error
    if not len(row):
        raise _failed("not-numbers", "made an empty vector")
    return row


def _shown(body: bytes) -> str:
    return shown(body[:2_000].decode("utf-8", "replace"))


def _failed(reason: str, what: str, **data: int) -> EmbeddingFailed:
    return EmbeddingFailed(f"the embedding server {what}", reason=reason, **data)
