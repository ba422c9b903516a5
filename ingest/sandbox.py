"""Every parse in a process of its own, which may die, hang or swell without harm to this one.

A warm zygote (`ingest.zygote`) forks the children, so that a parse waits for no interpreter.
The zygote is started at the first parse, again when it has died, and gets none of this process's secrets.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from ingest.parse_protocol import LENGTH_BYTES, ParseLimits, decode_answer
from rag_service.errors import BlobMissing, ParseFailed, UnsupportedType
from rag_service.media_types import SUFFIXES
from rag_service.types import ParsedDocument

__all__ = ["ParseLimits", "Sandbox"]

_GRACE_SECONDS = 20.0
"""Beyond the wall time the zygote enforces: for its start, and before it is itself taken for dead."""
_STOP_SECONDS = 5.0
_PIECE_BYTES = 1 << 18
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "LD_LIBRARY_PATH")


class Sandbox:
    """Thread-safe: parses of several threads run at the same time, each in its child."""

    def __init__(self, limits: ParseLimits | None = None) -> None:
        self._limits = limits or ParseLimits()
        self._lock = threading.Lock()
        self._zygote: _Zygote | None = None
        self._closed = False

    def parse(self, path: Path, media_type: str) -> ParsedDocument:
        """The document in the file at `path`.

        Raises ParseFailed with a reason of `ingest.parsers.REASONS`, UnsupportedType, BlobMissing when there is no
        such file, and RuntimeError once the sandbox is closed.
        """
        if media_type not in SUFFIXES.values():
            raise UnsupportedType(f"no parser takes {media_type}", media_type=media_type)
        # Twice, because a zygote may die of something that is not this document's doing.
        for _ in range(2):
            answer, ending = self._attempt(path, media_type)
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

    def _attempt(self, path: Path, media_type: str) -> tuple[bytes, str]:
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
            deadline = time.monotonic() + self._limits.wall_seconds + _GRACE_SECONDS
            try:
                answer = self._receive(ours, media_type, deadline)
                # A child that has answered is not waited for: it ends by itself, or with our end of the pipe.
                return answer, "answered" if answer else _ending(reader.fileno(), deadline)
            except TimeoutError:
                # The zygote itself does not react: it is given up, with all it runs.
                with self._lock:
                    if self._zygote is zygote:
                        self._zygote = None
                zygote.stop()
                return b"", "timeout"

    def _send(self, descriptors: list[int]) -> _Zygote:
        """Hand one parse to the zygote, starting one where there is none or the last one died."""
        with self._lock:
            for _ in range(2):
                if self._closed:
                    raise RuntimeError("the sandbox is closed")
                if self._zygote is None:
                    self._zygote = _Zygote(self._limits)
                try:
                    self._zygote.send(descriptors)
                except (BrokenPipeError, ConnectionResetError):
                    self._zygote.stop()
                    self._zygote = None
                else:
                    return self._zygote
        raise ParseFailed("crashed", "the parsing process could not be started")

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
        if ending == "timeout":
            raise ParseFailed("parse-timeout", "parsing took too long", limit_seconds=limits.wall_seconds)
        if ending == f"signal {signal.SIGXCPU}":
            raise ParseFailed("parse-timeout", "parsing took too much CPU time", limit_seconds=limits.cpu)
        if ending == f"signal {signal.SIGKILL}":
            # Neither the zygote's doing nor ours: the kernel was out of memory.
            detail = "the system ran out of memory while parsing"
            raise ParseFailed("memory-limit", detail, limit_bytes=limits.memory_bytes)
        how, number = ending.split()
        if how == "signal":
            raise ParseFailed("crashed", f"the parsing process died of signal {number}", signal=int(number))
        raise ParseFailed("crashed", "the parsing process ended early", exit_status=int(number))


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


def _ending(reader: int, deadline: float) -> str:
    """What the zygote tells of the child; empty when it died first. Raises TimeoutError."""
    # Not select.select, which knows no descriptor above 1,023.
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    if not poll.poll(max(1, 1000 * (deadline - time.monotonic()))):
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


def _environment() -> dict[str, str]:
    """Nothing a hostile file could want: no keys, no database URL; the same packages as here."""
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    root = str(Path(__file__).resolve().parents[1])
    packages = [root, *(str(Path(entry).resolve()) for entry in sys.path if entry)]
    return {**passed_on, "PYTHONPATH": os.pathsep.join(dict.fromkeys(packages)), "OMP_NUM_THREADS": "1"}
