"""Loaded by every Python process that has this folder on its path: a zygote notes what each child of it has used.

Beside this file it writes `zygote-PID`, made at its start, with a line for each child it has seen end:
process id, peak of resident memory in bytes, seconds of CPU time, signal or 0.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

if "ingest.zygote" in sys.orig_argv:
    book = Path(__file__).with_name(f"zygote-{os.getpid()}").open("a")
    wait4 = os.wait4

    def noted(pid: int, options: int) -> tuple[int, int, resource.struct_rusage]:
        pid, status, used = wait4(pid, options)
        seconds = used.ru_utime + used.ru_stime
        book.write(f"{pid} {used.ru_maxrss * 1024} {seconds:.2f} {max(0, -os.waitstatus_to_exitcode(status))}\n")
        book.flush()
        return pid, status, used

    os.wait4 = noted
