"""Loaded by every Python process that has this folder on its path: arms the failpoint it is told of.

`CRASH_AT=name:n` kills the process with SIGKILL when it reaches the failpoint `name` for the `n`-th time.
"""

from __future__ import annotations

import os
import signal

if "CRASH_AT" in os.environ:
    from rag_service import failpoints

    wanted, _, count = os.environ["CRASH_AT"].partition(":")
    left = int(count)

    def die(name: str) -> None:
        global left
        if name == wanted:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    failpoints.arm(die)
