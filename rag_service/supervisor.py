"""Ingestion workers as child processes of `serve`: started, started again when they die, gone when it is gone."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5
_SHORTEST_LIFE_SECONDS = 10.0
_LONGEST_PAUSE_SECONDS = 30.0
_GRACE_SECONDS = 20.0


class Supervisor:
    """A worker ends when its standard input closes, which the system does for us however this process ends."""

    def __init__(self, count: int, arguments: Sequence[str], after: threading.Event) -> None:
        """Workers are started once `after` is set: two processes loading at once make each other late."""
        self._command = [sys.executable, "-P", "-m", "ingest", "--until-stdin-closes", *arguments]
        self._after = after
        self._stopping = threading.Event()
        self._keepers = [
            threading.Thread(target=self._keep_one, name=f"worker-{number}", daemon=True) for number in range(count)
        ]

    def start(self) -> None:
        for keeper in self._keepers:
            keeper.start()

    def stop(self) -> None:
        """Let workers finish what is under way, for a while; their leases lapse if they don't."""
        self._stopping.set()
        for keeper in self._keepers:
            keeper.join(_GRACE_SECONDS + 5)

    def _keep_one(self) -> None:
        while not self._after.wait(_LOOK_SECONDS):
            if self._stopping.is_set():
                return
        pause = 0.0
        while not self._stopping.wait(pause):
            begun = time.monotonic()
            code = self._run_one()
            if self._stopping.is_set():
                return
            lived = time.monotonic() - begun
            pause = 0.5 if lived > _SHORTEST_LIFE_SECONDS else min(2 * pause + 1, _LONGEST_PAUSE_SECONDS)
            log.error("an ingestion worker ended with %s after %.0f s; starting another in %.1f s", code, lived, pause)

    def _run_one(self) -> int:
        process = subprocess.Popen(self._command, stdin=subprocess.PIPE)
        while process.poll() is None and not self._stopping.wait(_LOOK_SECONDS):
            pass
        if process.stdin is not None:
            process.stdin.close()
        try:
            return process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
