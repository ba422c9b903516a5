from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from ingest import heap

BLOCKS, BLOCK_BYTES = 1_000, 64_000
only_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what was freed")


@only_glibc
def test_what_was_freed_goes_back_to_the_system() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    blocks = [libc.malloc(BLOCK_BYTES) for _ in range(BLOCKS)]
    for block in blocks:
        ctypes.memset(block, 1, BLOCK_BYTES)
    # The last one stays: what lies below it is free and kept.
    for block in blocks[:-1]:
        libc.free(block)
    before = _resident_bytes()

    heap.give_back()

    assert before - _resident_bytes() > BLOCKS * BLOCK_BYTES / 2
    libc.free(blocks[-1])


LARGE_AND_FREED = """
import ctypes, sys
from pathlib import Path
from ingest import heap

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
if "apart" in sys.argv:
    heap.keep_large_apart()

def filled(size):
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    return block

# What glibc takes for large from here on, unless it is told not to.
libc.free(filled(30_000_000))
blocks = [filled(1_000_000) for _ in range(100)]
pin = filled(200_000)
for block in blocks:
    libc.free(block)
lines = Path("/proc/self/status").read_text().splitlines()
print(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS")))
"""


@only_glibc
def test_what_is_large_goes_back_when_it_is_freed_although_something_after_it_lives_on() -> None:
    def resident_bytes(*arguments: str) -> int:
        command = [sys.executable, "-c", LARGE_AND_FREED, *arguments]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert resident_bytes("apart") < resident_bytes() - 50_000_000


def _resident_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))
