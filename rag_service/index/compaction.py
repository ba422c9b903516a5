"""When folding the tail into a new base pays: pure policy."""

from __future__ import annotations

_SHARE_OF_BASE = 0.2


def is_due(tail_chunks: int, retired_chunks: int, base_chunks: int, minimum: int) -> bool:
    """Whether what has changed since the base is at least `minimum` chunks and a fifth of the base.

    A fifth keeps rebuilding proportional: each chunk is rewritten a handful of times while a knowledge base grows, and
    a search never scans more than a fifth beyond the base.
    """
    return tail_chunks + retired_chunks >= max(minimum, _SHARE_OF_BASE * base_chunks)
