"""How long each stage of an answer took."""

from __future__ import annotations

from time import perf_counter


class Clock:
    """Milliseconds of each stage, by name."""

    def __init__(self) -> None:
        self._start = self._last = perf_counter()
        self._laps: dict[str, float] = {"retrieve": 0.0, "pack": 0.0, "generate": 0.0, "verify": 0.0}

    def lap(self, stage: str) -> None:
        """What went by since the last one was `stage`."""
        moment = perf_counter()
        self._laps[stage] = round((moment - self._last) * 1000, 2)
        self._last = moment

    def timings(self) -> dict[str, float]:
        return {**self._laps, "total": round((perf_counter() - self._start) * 1000, 2)}
