from __future__ import annotations

import ctypes
import platform
from pathlib import Path

import pytest

from ingest import heap

BLOCKS, BLOCK_BYTES = 1_000, 64_000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what was freed")
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


def _resident_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))
