"""What is known of the health of a server of models: whether to ask it, and what `/readyz` says."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

from rag_service.errors import YoujuError
from rag_service.inference.background_loop import BackgroundLoop
from rag_service.inference.circuit_breaker import Admission, CircuitBreaker, CircuitOpen

CHECK_SECONDS = 5.0


class ServerHealth:
    """The last thing learnt, be it from a question or from a check, and what the circuit breaker makes of it.

    Shared between threads without a lock: at worst two of them ask at once, or one learns what is a moment old.
    """

    def __init__(
        self,
        words: str,
        unavailable: type[YoujuError],
        breaker: CircuitBreaker,
        loop: BackgroundLoop,
        check: Callable[[], Awaitable[str]],
    ) -> None:
        """`words` name the server in what is said of it. `check` runs in `loop`."""
        self._words = words
        self._unavailable = unavailable
        self._breaker = breaker
        self._loop = loop
        self._check = check
        self._checking: asyncio.Task[None] | None = None
        self._last, self._asked_at = "the engine has not been reached yet", float("-inf")

    def admit(self) -> Admission:
        """Raises `unavailable` while the circuit is open."""
        try:
            return self._breaker.admit()
        except CircuitOpen as error:
            raise self._unavailable(
                f"{self._words} failed repeatedly and is left alone for a while",
                retry_after_seconds=math.ceil(error.retry_after_seconds),
            ) from error

    def state(self) -> str:
        """`ok` or why not, as last learnt; never waits: checks in the background where that is too long ago."""
        if time.monotonic() - self._asked_at > CHECK_SECONDS:
            self._asked_at = time.monotonic()
            self._loop.post(self._begin)
        last, seconds = self._last, self._breaker.open_for()
        if last == "ok" and seconds > 0:
            return f"{self._words} failed repeatedly and is left alone for {math.ceil(seconds)} s"
        return last

    def learnt(self, state: str) -> None:
        self._last, self._asked_at = state, time.monotonic()

    async def end(self) -> None:
        """In the loop: ends a check that is under way."""
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.wait([self._checking])

    def _begin(self) -> None:
        if self._checking is None or self._checking.done():
            self._checking = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        self.learnt(await self._check())
