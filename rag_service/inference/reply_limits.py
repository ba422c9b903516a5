"""How long a reply of an engine may take, held as one deadline that moves with its progress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from rag_service.errors import GeneratorTimeout

AFTER_END_SECONDS = 2.0
"""How long a reply that has ended is kept open for its usage figures, which some servers send and some do not."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`connect` is for one connection; `first_token` from the start of the question, all tries and waits included."""

    connect_seconds: float
    first_token_seconds: float
    between_tokens_seconds: float
    total_seconds: float


class Watch:
    """The limits of one reply under way: always exactly one of them is the next to pass."""

    def __init__(self, limits: Limits, timeout: asyncio.Timeout) -> None:
        self._limits = limits
        self._timeout = timeout
        self._total_at = asyncio.get_running_loop().time() + limits.total_seconds
        self._limit, self._seconds = "", 0.0
        self._expect("first_token", limits.first_token_seconds)

    def progressed(self) -> None:
        """The engine produced something."""
        self._expect("between_tokens", self._limits.between_tokens_seconds)

    def ended(self) -> None:
        """The reply is complete but for its usage."""
        self._expect("after_end", min(AFTER_END_SECONDS, self._limits.between_tokens_seconds))

    def left(self) -> float:
        """Seconds until the next limit passes."""
        return (self._timeout.when() or 0.0) - asyncio.get_running_loop().time()

    def passed(self) -> GeneratorTimeout:
        what = self._limit.replace("_", " ")
        return GeneratorTimeout(
            f"the limit for {what} of {self._seconds:g} s passed", limit=self._limit, seconds=self._seconds
        )

    def _expect(self, limit: str, seconds: float) -> None:
        at = asyncio.get_running_loop().time() + seconds
        self._limit, self._seconds = limit, seconds
        if at >= self._total_at:
            at, self._limit, self._seconds = self._total_at, "total", self._limits.total_seconds
        self._timeout.reschedule(at)


@asynccontextmanager
async def watched(limits: Limits) -> AsyncIterator[Watch]:
    """Cancels its body when a limit passes and raises GeneratorTimeout naming it."""
    timeout = asyncio.timeout(None)
    watch: Watch | None = None
    try:
        async with timeout:
            watch = Watch(limits, timeout)
            yield watch
    except TimeoutError as error:
        if watch is None or not timeout.expired():
            raise
        raise watch.passed() from error
