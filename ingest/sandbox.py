"""Every parse in a process of its own, which may die, hang or swell without harm to this one.

A warm zygote (`ingest.zygote`) forks the children, so that a parse waits for no interpreter.
The zygote is started at the first parse, again when it has died, and gets none of this process's secrets.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from ingest.parse_protocol import LENGTH_BYTES, READY_WITHOUT_NETWORK, ParseLimits, decode_answer
from rag_service.errors import BlobMissing, ParseFailed, UnsupportedType
from rag_service.media_types import IMAGES, PDF, SUFFIXES
from rag_service.types import ParsedDocument

log = logging.getLogger(__name__)

__all__ = ["Leash", "ParseAbandoned", "ParseLimits", "Sandbox"]

_GRACE_SECONDS = 20.0
"""Beyond the wall time the zygote enforces, before it is itself taken for dead."""
_START_SECONDS = 120.0
_STOP_SECONDS = 5.0
_PIECE_BYTES = 1 << 18
_GLANCE_SECONDS = 0.5
_GIVEN_UP = (signal.SIGABRT, signal.SIGTRAP, signal.SIGILL)
_NEAR_THE_LIMIT = 1 / 3
"""What is asked for when a buffer doubles is twice what is there, beside it."""
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "LD_LIBRARY_PATH")


class ParseAbandoned(Exception):
    """Nobody wants this document any more: nothing is wrong with it."""


class Leash:
    """By which another thread ends a parse, before it, during it, or (then nothing happens) after it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channel: socket.socket | None = None
        self._is_let_go = False

    @property
    def is_let_go(self) -> bool:
        return self._is_let_go

    def let_go(self) -> None:
        with self._lock:
            self._is_let_go = True
            if self._channel is not None:
                # Wakes whoever reads from it.
                self._channel.shutdown(socket.SHUT_RDWR)

    def check(self) -> None:
        """Raises ParseAbandoned once it was let go of."""
        if self._is_let_go:
            raise ParseAbandoned

    @contextlib.contextmanager
    def holding(self, channel: socket.socket) -> Iterator[None]:
        """While the block runs, letting go shuts `channel` down. Raises ParseAbandoned at its end, too."""
        with self._lock:
            self.check()
            self._channel = channel
        try:
            yield
        finally:
            with self._lock:
                self._channel = None
        self.check()


class Sandbox:
    """Thread-safe: parses of several threads run at the same time, each in its child."""

    def __init__(self, limits: ParseLimits | None = None) -> None:
        self._limits = limits or ParseLimits()
        self._lock = threading.Lock()
        self._zygote: _Zygote | None = None
        self._closed = False
        self._has_told_of_network = False

    def start(self) -> None:
        """Return once parses can begin at once. Raises ChildProcessError, and RuntimeError once it is closed."""
        with self._lock:
            self._demand_zygote()

    def parse(self, path: Path, media_type: str, leash: Leash | None = None) -> ParsedDocument:
        """The document in the file at `path`.

        Raises ParseFailed with a reason of `ingest.parsers.REASONS`, UnsupportedType, BlobMissing when there is no
        such file, ParseAbandoned when `leash` was let go of (the child is killed), ChildProcessError when there can be
        no child, and RuntimeError once the sandbox is closed.
        """
        if media_type not in SUFFIXES.values():
            raise UnsupportedType(f"no parser takes {media_type}", media_type=media_type)
        # Twice, because a zygote may die of something that is not this document's doing.
        for _ in range(2):
            answer, ending = self._attempt(path, media_type, leash or Leash())
            if ending:
                return self._read(answer, ending)
        raise ParseFailed("crashed", "the parsing process could not be kept alive")

    def close(self) -> None:
        """End the zygote and whatever it runs; parses under way fail."""
        with self._lock:
            self._closed = True
            zygote, self._zygote = self._zygote, None
        if zygote is not None:
            zygote.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _attempt(self, path: Path, media_type: str, leash: Leash) -> tuple[bytes, str]:
        """The child's answer and how it ended; the latter is empty when the zygote died meanwhile."""
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(path.open("rb"))
            except FileNotFoundError as error:
                raise BlobMissing(f"there is no file {path.name}", path=str(path)) from error
            ours, theirs = (stack.enter_context(end) for end in socket.socketpair())
            reader, writer = (
                stack.enter_context(open(end, mode)) for end, mode in zip(os.pipe(), ("rb", "wb"), strict=True)
            )
            zygote = self._send([file.fileno(), theirs.fileno(), writer.fileno()])
            theirs.close()
            writer.close()
            deadline = time.monotonic() + self._most_seconds(media_type) + _GRACE_SECONDS
            # Whichever way this block is left, closing our end of the pipe makes the zygote kill a child still running.
            try:
                with leash.holding(ours):
                    answer = self._receive(ours, media_type, deadline)
                # A child that has answered is not waited for: it ends by itself, or with our end of the pipe.
                return answer, "answered" if answer else _ending(reader.fileno(), deadline, leash)
            except TimeoutError:
                # The zygote itself does not react: it is given up, with all it runs.
                with self._lock:
                    if self._zygote is zygote:
                        self._zygote = None
                zygote.stop()
                return b"", "timeout 0 0"

    def _most_seconds(self, media_type: str) -> float:
        """After which the zygote has ended the parse: only what may hold pictures may take as long as they do."""
        return self._limits.most_seconds if media_type in {PDF, *IMAGES} else self._limits.wall_seconds

    def _send(self, descriptors: list[int]) -> _Zygote:
        """Hand one parse to the zygote, starting one where there is none or the last one died."""
        with self._lock:
            for _ in range(2):
                zygote = self._demand_zygote()
                try:
                    zygote.send(descriptors)
                except (BrokenPipeError, ConnectionResetError):
                    zygote.stop()
                    self._zygote = None
                else:
                    return zygote
        raise ParseFailed("crashed", "the parsing process could not be kept alive")

    def _demand_zygote(self) -> _Zygote:
        if self._closed:
            raise RuntimeError("the sandbox is closed")
        if self._zygote is not None and not self._zygote.is_alive():
            self._zygote.stop()
            self._zygote = None
        if self._zygote is None:
            self._zygote = _Zygote(self._limits)
            if self._zygote.has_network and not self._has_told_of_network:
                self._has_told_of_network = True
                log.warning("the system lets parses have no network namespace of their own: they can reach the network")
        return self._zygote

    def _receive(self, channel: socket.socket, media_type: str, deadline: float) -> bytes:
        """The child's whole answer, or nothing when it ended before.

        Raises ParseFailed("output-limit") when it announces too much, TimeoutError.
        """
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            channel.sendall(media_type.encode())
            channel.shutdown(socket.SHUT_WR)
        length = int.from_bytes(_exactly(channel, LENGTH_BYTES, deadline), "big")
        limit = self._limits.output_bytes
        if length > limit:
            # Closing our ends, on the way out, makes the zygote kill the child.
            raise ParseFailed("output-limit", "the document's text is too long", limit_bytes=limit)
        return _exactly(channel, length, deadline)

    def _read(self, answer: bytes, ending: str) -> ParsedDocument:
        """The answer of a child that gave one; else its death as a ParseFailed."""
        limits = self._limits
        if ending == "answered":
            return decode_answer(answer)
        if ending.startswith("refused"):
            raise ChildProcessError(f"there is no process to parse in: {os.strerror(int(ending.split()[1]))}")
        raise _death(ending, limits)


def _death(ending: str, limits: ParseLimits) -> ParseFailed:
    """Why a child that gave no answer ended, as far as can be told."""
    how, number, peak_bytes = ending.split()
    if how == "timeout":
        return ParseFailed("parse-timeout", "parsing took too long", limit_seconds=limits.wall_seconds)
    if how == "exit":
        return ParseFailed("crashed", "the parsing process ended early", exit_status=int(number))
    died_of = int(number)
    if died_of == signal.SIGXCPU:
        return ParseFailed("parse-timeout", "parsing took too much CPU time", limit_seconds=limits.cpu)
    if died_of == signal.SIGKILL:
        # Neither the zygote's doing nor ours: the kernel was out of memory.
        detail = "the system ran out of memory while parsing"
        return ParseFailed("memory-limit", detail, limit_bytes=limits.memory_bytes)
    if died_of in _GIVEN_UP and int(peak_bytes) > _NEAR_THE_LIMIT * limits.memory_bytes:
        # Libraries in C and C++ end the process where there is no memory; an allocation was refused, not used.
        return ParseFailed("memory-limit", "parsing needed too much memory", limit_bytes=limits.memory_bytes)
    return ParseFailed("crashed", f"the parsing process died of signal {died_of}", signal=died_of)


def _exactly(channel: socket.socket, length: int, deadline: float) -> bytes:
    """`length` bytes, or none where the other side ends before. Raises TimeoutError."""
    received = bytearray()
    while len(received) < length:
        channel.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            piece = channel.recv(min(_PIECE_BYTES, length - len(received)))
        except ConnectionResetError:
            return b""
        if not piece:
            return b""
        received += piece
    return bytes(received)


def _ending(reader: int, deadline: float, leash: Leash) -> str:
    """What the zygote tells of the child; empty when it died first. Raises TimeoutError, ParseAbandoned."""
    # Not select.select, which knows no descriptor above 1,023.
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    # A hostile child may have closed its channel and work on: no descriptor tells then that the leash was let go of.
    while not poll.poll(1000 * _GLANCE_SECONDS):
        leash.check()
        if time.monotonic() > deadline:
            raise TimeoutError
    return os.read(reader, 64).decode()


class _Zygote:
    """The running process and the socket requests go over."""

    def __init__(self, limits: ParseLimits) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ingest.zygote", str(theirs.fileno()), limits.to_json()],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=_environment(),
                cwd="/",
                start_new_session=True,
            )
        self._requests = ours
        self.has_network = self._wait_until_ready() != READY_WITHOUT_NETWORK

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def send(self, descriptors: list[int]) -> None:
        socket.send_fds(self._requests, [b"\0"], descriptors)

    def stop(self) -> None:
        """Ends with its children; does not return before it is gone. May be called more than once."""
        self._requests.close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait_until_ready(self) -> bytes:
        self._requests.settimeout(_START_SECONDS)
        try:
            ready = self._requests.recv(1)
        except TimeoutError:
            ready = b""
        self._requests.settimeout(None)
        if not ready:
            self.stop()
            raise ChildProcessError("the parsing process could not be started")
        return ready


def _environment() -> dict[str, str]:
    """Nothing a hostile file could want: no keys, no database URL; the same packages as here."""
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    root = str(Path(__file__).resolve().parents[1])
    packages = [root, *(str(Path(entry).resolve()) for entry in sys.path if entry)]
    return {**passed_on, "PYTHONPATH": os.pathsep.join(dict.fromkeys(packages)), "OMP_NUM_THREADS": "1"}
