"""Which parses run: a feedback queue of two levels. Pure: it is told what happens and when, and starts nothing itself.

A document begins in a fast place. Once its parse has outlasted a slice of wall time it keeps that place only until
another document needs it: then it goes on in one of the few slow places, or, when those are taken, is ended and given
back, to be claimed once more into a slow place, from which nothing drives it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

SLICE_SECONDS = 1.0
PATIENCE_SECONDS = 15.0
_LEAST_SLOW_PLACES = 2


@dataclass(frozen=True, slots=True)
class Orders:
    """`start` documents that wait may begin now; the parses in `end` have to make room first."""

    start: int
    end: tuple[int, ...] = ()


@dataclass(slots=True)
class _Run:
    begun: float
    lane: Literal["fast", "slow"]
    leaving: bool = False


class Lanes:
    """Parses by a key of the caller's, times in seconds of one clock that does not go back.

    At most `fast_places` parses run in the fast lane and `slow_places` beside it. Neither lane starves: a fast document
    waits no longer than a slice for its place. And once nobody has looked for slow documents during `patience_seconds`,
    the next free slow place is kept until somebody has.
    """

    def __init__(self, fast_places: int, slice_seconds: float, patience_seconds: float) -> None:
        self.fast_places = fast_places
        self.slow_places = max(_LEAST_SLOW_PLACES, fast_places // 2)
        self._slice_seconds = slice_seconds
        self._patience_seconds = patience_seconds
        self._looked_at = -math.inf
        self._runs: dict[int, _Run] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def begin(self, key: int, now: float, *, slow: bool = False) -> None:
        self._runs[key] = _Run(now, "slow" if slow else "fast")

    def end(self, key: int) -> None:
        del self._runs[key]

    def outlasted(self, now: float) -> list[int]:
        """The parses, of either lane, that have had their slice; the longest at it first."""
        late = [key for key, run in self._runs.items() if now - run.begun >= self._slice_seconds]
        return sorted(late, key=lambda key: self._runs[key].begun)

    def may_start(self, now: float) -> bool:
        """Whether a fast document that were found now would soon have a place."""
        return self._free("fast") > 0 or bool(self._movable(now))

    def slow_may_start(self, now: float, quiet: bool) -> bool:
        """`quiet`: nothing fast waits."""
        return self._free("slow") > 0 and (quiet or self._is_slow_overdue(now))

    def looked_for_slow(self, now: float) -> None:
        self._looked_at = now

    def orders(self, waiting: int, now: float) -> Orders:
        """What to do for `waiting` fast documents. May move parses aside; those to be ended are named once."""
        leaving = sum(run.leaving for run in self._runs.values())
        wanted = max(0, waiting - self._free("fast") - leaving)
        ended = [key for key in self._movable(now)[:wanted] if not self._move_aside(key, now)]
        return Orders(min(waiting, self._free("fast")), tuple(ended))

    def _move_aside(self, key: int, now: float) -> bool:
        run = self._runs[key]
        if self._free("slow") > 0 and not self._is_slow_overdue(now):
            run.lane = "slow"
            return True
        run.leaving = True
        return False

    def _movable(self, now: float) -> list[int]:
        return [key for key in self.outlasted(now) if self._runs[key].lane == "fast" and not self._runs[key].leaving]

    def _free(self, lane: Literal["fast", "slow"]) -> int:
        places = self.fast_places if lane == "fast" else self.slow_places
        return places - sum(run.lane == lane for run in self._runs.values())

    def _is_slow_overdue(self, now: float) -> bool:
        return now - self._looked_at >= self._patience_seconds
