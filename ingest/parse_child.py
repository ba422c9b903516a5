"""The disposable process: takes limits upon itself, parses a file, answers, ends. Forked by `ingest.zygote`.

Only after plain text, where at most an encoding had to be guessed, it offers itself for another: a fork costs more
than reading a short text. It ends all the same once it has done enough, so that each parse has nearly all its limits.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, NoReturn

from PIL.Image import Image

from ingest.parse_protocol import LENGTH_BYTES, LOADED_OCR, READS_PICTURE, ParseLimits, encode_document, encode_failure
from ingest.parsers import ocr
from ingest.parsers.ocr import OcrLine
from ingest.parsers.pdf_scans import Reader
from ingest.parsers.registry import READER, parser_for
from rag_service.errors import ParseFailed
from rag_service.media_types import TEXT

_FRESH_CPU_SECONDS = 0.5
_FRESH_RSS_KILOBYTES = 150_000
_OPEN_FILES = 64
_DESCRIPTORS = 65_536
_NICENESS = 5
_OOM_FIRST = "1000"
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def run(work: socket.socket, limits: ParseLimits, *, zygote: int) -> NoReturn:
    """Wait on `work` for a file and a channel, parse the file as the media type read from the channel, answer there.

    The answer is 8 bytes of length and that many of JSON. A byte on `work` says that another may come; the end of
    `work` says that none will. Ends the process.
    """
    status = 1
    try:
        _detach(zygote, keep=work.fileno())
        _limit(limits)
        answer = _Answer(limits)
        again = True
        while again:
            _, descriptors, _, _ = socket.recv_fds(work, 1, 2)
            again = bool(descriptors) and _answer(answer, work, *descriptors)
        status = 0
    finally:
        # Not sys.exit: nothing of the zygote's (its socket, its exit handlers) may run here.
        os._exit(status)


def _answer(answer: _Answer, work: socket.socket, file: int, channel: int) -> bool:
    """Whether this process has offered itself for another."""
    with socket.socket(fileno=channel) as connection:
        media_type = connection.makefile("rb").read().decode()
        born_with_ocr = ocr.is_loaded()
        with answer:
            with open(file, "rb") as stream:
                data = stream.read()
            answer.give(encode_document(parser_for(media_type, _reader(work, answer.limits)).parse(data)))
        again = media_type == TEXT and _is_fresh()
        if again:
            # Before the answer: once that is read, the zygote may be told to let go of this parse.
            work.send(b"\0")
        elif ocr.is_loaded() and not born_with_ocr:
            work.send(LOADED_OCR)
        connection.sendall(len(answer.body).to_bytes(LENGTH_BYTES, "big") + answer.body)
    return again


def _reader(work: socket.socket, limits: ParseLimits) -> Reader | None:
    """What reads pictures; each one starts the clocks anew, so that a scan of many pages is not taken for a hang."""
    if READER is None or not limits.ocr:
        return None
    read = READER

    def read_with_time(image: Image) -> Sequence[OcrLine]:
        work.send(READS_PICTURE)
        used = resource.getrusage(resource.RUSAGE_SELF)
        _set(resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime) + limits.cpu, limits.most_cpu)
        return read(image)

    return read_with_time


def _is_fresh() -> bool:
    """Whether this process has used so little that the next parse has nearly its whole limits."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime < _FRESH_CPU_SECONDS and used.ru_maxrss < _FRESH_RSS_KILOBYTES


class _Answer:
    """What the child will say. Leaving the block by any exception makes that exception the answer.

    This is the one place where errors of parsing libraries become reasons; the client sees no traceback.
    """

    def __init__(self, limits: ParseLimits) -> None:
        self.limits = limits
        self._no_memory = encode_failure(
            "memory-limit", "parsing needed too much memory", {"limit_bytes": limits.memory_bytes}
        )
        self.body = b""

    def give(self, body: bytes) -> None:
        limit = self.limits.output_bytes
        if len(body) > limit:
            raise ParseFailed("output-limit", "the document's text is too long", limit_bytes=limit)
        self.body = body

    def __enter__(self) -> _Answer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Literal[True]:
        if isinstance(error, ParseFailed):
            self.body = encode_failure(error.reason, error.detail, error.data)
        elif isinstance(error, MemoryError):
            self.body = self._no_memory
        elif error is not None:
            name = type(error).__name__
            self.body = encode_failure("broken", f"{name}: {error}", {"error": name})
        return True


def _detach(zygote: int, keep: int) -> None:
    """An own group, no descriptor but one, silence, last in every queue, and death together with the zygote."""
    # Not a session: Linux shares the processors out between sessions first, and niceness counts only within one.
    os.setpgid(0, 0)
    os.nice(_NICENESS)
    _be_the_first_to_go()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != zygote:
        os._exit(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    os.closerange(3, keep)
    os.closerange(keep + 1, _DESCRIPTORS)


def _be_the_first_to_go() -> None:
    """When the machine is out of memory: several parses may swell at once, and the worker is worth more than any."""
    adjustment = Path("/proc/self/oom_score_adj")
    # Not every system has it or lets it be written; none lets it do harm.
    with contextlib.suppress(OSError):
        adjustment.write_text(_OOM_FIRST)


def _limit(limits: ParseLimits) -> None:
    sys.dont_write_bytecode = True
    _set(resource.RLIMIT_CORE, 0)
    _set(resource.RLIMIT_FSIZE, 0)
    _set(resource.RLIMIT_NOFILE, _OPEN_FILES)
    _set(resource.RLIMIT_CPU, limits.cpu, limits.most_cpu)
    _set(resource.RLIMIT_AS, _address_space() + limits.memory_bytes)


def _set(what: int, soft: int, hard: int | None = None) -> None:
    """Never above what the process was given."""
    given = resource.getrlimit(what)[1]
    wanted = (soft, soft if hard is None else hard)
    low, high = (value if given == resource.RLIM_INFINITY else min(value, given) for value in wanted)
    # macOS knows RLIMIT_AS but refuses to lower it.
    with contextlib.suppress(ValueError) if sys.platform == "darwin" else contextlib.nullcontext():
        resource.setrlimit(what, (low, high))


def _address_space() -> int:
    """Bytes mapped now; 0 where /proc does not tell."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return 0
    return int(statm.read_text().split()[0]) * resource.getpagesize()
