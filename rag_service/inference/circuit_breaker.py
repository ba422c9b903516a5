"""Stops asking an engine that keeps failing, and lets one question through now and then to see whether it is back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass


class CircuitOpen(Exception):
    """The engine is known to be down; asking again makes sense after `retry_after_seconds`."""

    def __init__(self, retry_after_seconds: float) -> None:
        super().__init__(f"open for another {retry_after_seconds:.1f} s")
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class Admission:
    """One question let through; exactly one of `succeeded`, `failed` and `abandoned` hands it back."""

    number: int


class CircuitBreaker:
    """Closed, then open for `open_seconds` after `failures` failures in a row, then half-open: one probe at a time.

    The probe's success closes the circuit, its failure opens it again. As a reply can take minutes, its first sign of
    life (`answering`) already lets the others in, but on parole: until some reply has succeeded, one failure opens the
    circuit again. Questions admitted before it opened say nothing about the engine now when they fail, and everything
    when they succeed. No input or output, no sleeping, time comes from `clock`; safe to share between threads.
    """

    def __init__(self, failures: int, open_seconds: float, clock: Callable[[], float]) -> None:
        self._limit = failures
        self._open_seconds = open_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._opened_at: float | None = None
        self._probe: Admission | None = None
        self._admitted = 0

    def admit(self) -> Admission:
        """Raises CircuitOpen while the engine is known to be down or a probe is under way."""
        with self._lock:
            if self._opened_at is not None and self._probe is not None:
                raise CircuitOpen(1.0)
            if (remaining := self._remaining()) > 0:
                raise CircuitOpen(remaining)
            self._admitted += 1
            admission = Admission(self._admitted)
            if self._opened_at is not None:
                self._probe = admission
            return admission

    def answering(self, admission: Admission) -> None:
        """The engine has begun to answer."""
        with self._lock:
            if admission == self._probe:
                self._close(failures=self._limit - 1)

    def succeeded(self, admission: Admission) -> None:
        with self._lock:
            self._close(failures=0)

    def failed(self, admission: Admission) -> None:
        with self._lock:
            if self._opened_at is None:
                self._failures += 1
            if admission == self._probe or (self._opened_at is None and self._failures >= self._limit):
                self._opened_at, self._probe = self._clock(), None

    def abandoned(self, admission: Admission) -> None:
        """It ended in a way that says nothing about the engine, such as a client that left."""
        with self._lock:
            if admission == self._probe:
                self._probe = None

    def open_for(self) -> float:
        """Seconds until the next probe may go; 0 when closed or due."""
        with self._lock:
            return self._remaining()

    def _remaining(self) -> float:
        return 0.0 if self._opened_at is None else max(0.0, self._opened_at + self._open_seconds - self._clock())

    def _close(self, failures: int) -> None:
        self._failures, self._opened_at, self._probe = failures, None, None
