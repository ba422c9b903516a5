"""What is known of a server's health, for `/readyz`: never waits, asks in the background."""

from __future__ import annotations

from collections.abc import Callable


class EngineCheck:
    """The last thing learnt, be it from a question or from a check.

    Shared between threads without a lock: at worst two of them ask at once, or one learns what is a moment old.
    """

    def __init__(self, ask: Callable[[], object], every_seconds: float, clock: Callable[[], float]) -> None:
        self._ask = ask
        self._every_seconds = every_seconds
        self._clock = clock
        self._state = "the engine has not been reached yet"
        self._asked_at = float("-inf")

    def state(self) -> str:
        """`ok` or why not, as last learnt; asks anew where that is older than `every_seconds`."""
        if self._clock() - self._asked_at > self._every_seconds:
            self._asked_at = self._clock()
            self._ask()
        return self._state

    def learnt(self, state: str) -> None:
        self._state, self._asked_at = state, self._clock()
