"""Scripts that make `engine.Engine` an embeddings server: vectors from the words of a text, or a fault."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from engine import Script, Wire

DIMENSIONS = 24


def vector_of(text: str, dimensions: int = DIMENSIONS) -> np.ndarray:
    """float32 [dimensions], of any length: texts that share words are near each other."""
    row = np.full(dimensions, 0.01, dtype=np.float32)
    for word in re.findall(r"\w+", text.lower()):
        row[int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big") % dimensions] += 1.0
    return row


def unit(text: str, dimensions: int = DIMENSIONS) -> np.ndarray:
    row = vector_of(text, dimensions).astype(np.float64)
    return row / np.linalg.norm(row)


def embeds(dimensions: int = DIMENSIONS, *, packed: bool = False, change: Callable[[Any], Any] | None = None) -> Script:
    """A healthy answer; `change` gets its list of entries and returns what is sent instead."""

    def encoded(row: np.ndarray) -> object:
        return base64.b64encode(row.astype("<f4").tobytes()).decode() if packed else row.tolist()

    def script(wire: Wire) -> None:
        texts: Sequence[str] = wire.asked.body["input"]
        entries: Any = [{"index": n, "embedding": encoded(vector_of(t, dimensions))} for n, t in enumerate(texts)]
        wire.head(200, "application/json")
        wire.send(json.dumps({"object": "list", "data": change(entries) if change else entries}).encode())

    return script


def spoiled(number: float) -> Script:
    """Every vector has `number` in it."""

    def change(entries: Any) -> Any:
        for entry in entries:
            entry["embedding"][0] = number
        return entries

    return embeds(change=change)
