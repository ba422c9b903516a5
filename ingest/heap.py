"""Memory that is free again, back to the system."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

_LIBC = ctypes.CDLL(None)
_trim: Callable[[int], int] | None = getattr(_LIBC, "malloc_trim", None)


def give_back() -> None:
    """What the allocator keeps of what was freed. Only glibc has to be told; elsewhere nothing happens.

    A rebuild holds every vector and posting of a knowledge base for a moment, and glibc would keep the most that ever
    was: 10,000 small documents grew a worker from 190 to 276 MB (2026-11-26).
    """
    if _trim is not None:
        _trim(0)
