"""The files in an uploaded ZIP archive, read by a disposable process (`rag_service.archive_child`).

That process has read a hostile file: what it says is checked here, and counted here again.

Left out without a word are folders and what macOS and Windows keep in folders for themselves (`__MACOSX/`,
`.DS_Store`, `Thumbs.db`, `desktop.ini`). Every other entry is a member, with its content or with a problem.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

from rag_service import archive_child
from rag_service.archive_child import DATA, DONE, END, FAILED, HEADER, MEMBER, MOST_PAYLOAD_BYTES, REFUSED
from rag_service.errors import InvalidInput, StorageFull
from rag_service.types import Problem

_MEMORY_BYTES = 512 * 1024 * 1024
_SECONDS = 120.0
_IN_MEMORY_BYTES = 1 << 20
_PIPE_BYTES = 1 << 20
_MOST_PARTS = 32
_LONGEST_PART_BYTES = 255
_LONGEST_PATH_BYTES = 1_024
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_DRIVE = re.compile("[A-Za-z]:")
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH")

_OF_ARCHIVE = {
    "broken": "the archive is damaged, or no ZIP archive",
    "empty": "there is no file in the archive",
    "encrypted": "the archive is protected by a password",
    "archive-overlap": "parts of the archive share bytes, so that a little inflates to a lot",
    "too-many-entries": "the archive, with those before it, has more entries than are allowed, folders among them",
    "decompression-limit": "the archive, with those before it, inflates to more than is allowed",
    "memory-limit": "reading the archive needed more memory than is allowed",
    "parse-timeout": "reading the archive took longer than is allowed",
    "crashed": "the process that reads the archive died",
}
_OF_MEMBER = {
    "broken": "this file is damaged in the archive",
    "encrypted": "this file is protected by a password",
    "nested-archive": "archives within archives are not opened",
    "not-a-file": "this entry is a link or a device, not a file",
    "compression-method": "this file is compressed in a way that is not supported",
    "decompression-limit": "this file inflates to more than one upload may have",
    "memory-limit": "inflating this file needed more memory than is allowed",
}


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive: `content`, from its beginning, or else a `problem`."""

    filename: str
    content: BinaryIO | None
    problem: Problem | None


@dataclass(slots=True)
class Allowance:
    """What the archives of one upload may still hold, all of them together: many small ones are no way round."""

    entries: int
    bytes: int


class Archives:
    """`folder` is where a member that is not small lies while it is looked at; the system's for temporary files
    if not given."""

    def __init__(
        self,
        most_entries: int,
        most_bytes: int,
        most_member_bytes: int,
        *,
        folder: Path | None = None,
        memory_bytes: int = _MEMORY_BYTES,
        seconds: float = _SECONDS,
    ) -> None:
        self._most_entries = most_entries
        self._most_bytes = most_bytes
        self._most_member_bytes = most_member_bytes
        self._dir = None if folder is None else str(folder)
        self._memory_bytes = memory_bytes
        self._seconds = seconds

    def allowance(self) -> Allowance:
        return Allowance(self._most_entries, self._most_bytes)

    def members(self, content: BinaryIO, name: str, allowance: Allowance | None = None) -> Iterator[Member]:
        """In the archive's order, named `<name>/<path in the archive>`; a content is open until the next is asked for.

        Raises InvalidInput with a `reason` when the archive as a whole is refused. That can also be after some members,
        since everything is counted as it inflates: then those are not to be taken either. Raises StorageFull.
        What it holds is taken off the allowance, which is a whole one where none is given.
        """
        left = allowance or self.allowance()
        limits = (left.entries, left.bytes, self._most_member_bytes)
        with (
            _descriptor(content, self._dir) as archive,
            _Child(archive, [*limits, self._memory_bytes, round(self._seconds)]) as child,
        ):
            try:
                yield from self._members(_Frames(child.output, self._seconds), name, left)
            except _Died as death:
                raise self._refused(name, death.reason or child.cause_of_death()) from death

    def _members(self, frames: _Frames, name: str, left: Allowance) -> Iterator[Member]:
        for kind, payload in frames:
            if kind == DONE:
                return
            if kind == FAILED:
                raise self._refused(name, _known(payload, _OF_ARCHIVE))
            if kind != MEMBER or left.entries == 0:
                raise _Died("crashed")
            left.entries -= 1
            path = _text(payload)
            with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES, dir=self._dir) as file:
                content = cast(BinaryIO, file)
                reason = self._receive(frames, name, content)
                if content.tell() > left.bytes:
                    raise _Died("crashed")
                left.bytes -= content.tell()
                yield self._member(name, path, reason, content)

    def _receive(self, frames: _Frames, name: str, file: BinaryIO) -> str | None:
        """The rest of one member, into `file`; why it is refused, if it is."""
        for kind, payload in frames:
            if kind == END:
                return None
            if kind == REFUSED:
                return _known(payload, _OF_MEMBER)
            if kind == FAILED:
                raise self._refused(name, _known(payload, _OF_ARCHIVE))
            if kind != DATA or file.tell() + len(payload) > self._most_member_bytes:
                raise _Died("crashed")
            _write(file, payload)
        raise _Died("crashed")

    def _member(self, archive: str, path: str, reason: str | None, file: BinaryIO) -> Member:
        path = unicodedata.normalize("NFC", path)
        filename = f"{archive}/{_shown(path)}"
        fault = path_fault(path)
        if fault is not None:
            return Member(filename, None, _problem(fault, {"filename": filename, "reason": "filename"}))
        if reason is not None:
            data: dict[str, str | int] = {"filename": filename, "reason": reason}
            if reason == "decompression-limit":
                data["limit_bytes"] = self._most_member_bytes
            return Member(filename, None, _problem(_OF_MEMBER[reason], data))
        file.seek(0)
        return Member(filename, file, None)

    def _refused(self, name: str, reason: str) -> InvalidInput:
        limits: dict[str, dict[str, int | float]] = {
            "too-many-entries": {"limit_entries": self._most_entries},
            "decompression-limit": {"limit_bytes": self._most_bytes},
            "memory-limit": {"limit_bytes": self._memory_bytes},
            "parse-timeout": {"limit_seconds": self._seconds},
        }
        return InvalidInput(_OF_ARCHIVE[reason], filename=name, reason=reason, **limits.get(reason, {}))


def path_fault(path: str) -> str | None:
    """Why this is not the path of a file below a folder that can be shown and stored as it is; None if it is."""
    parts = path.split("/")
    if "\\" in path or _DRIVE.match(path) or any(part in ("", ".", "..") for part in parts):
        return "the path of a file in an archive must be relative, with / between names, and stay inside"
    if any(c in _BIDI or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in path):
        return "a file name must not contain control characters"
    if not all(part.strip() for part in parts):
        return "the file has no name"
    if len(parts) > _MOST_PARTS or len(path.encode()) > _LONGEST_PATH_BYTES:
        return f"the path of a file has at most {_MOST_PARTS} names and {_LONGEST_PATH_BYTES} bytes"
    if any(len(part.encode()) > _LONGEST_PART_BYTES for part in parts):
        return f"a file name has at most {_LONGEST_PART_BYTES} bytes"
    return None


class _Died(Exception):
    """The child is gone, hangs, or says what it cannot mean; `reason` is empty where its death has to tell."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Child:
    """The process; gone, with whatever it started, when the block is left."""

    def __init__(self, archive: int, arguments: list[int]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", archive_child.__file__, *map(str, arguments)],
            stdin=archive,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            cwd="/",
            start_new_session=True,
            pipesize=_PIPE_BYTES,
        )
        assert self._process.stdout is not None
        self.output = self._process.stdout.fileno()

    def cause_of_death(self) -> str:
        """Once its end of the pipe has closed."""
        status = self._process.wait()
        return "parse-timeout" if status == -signal.SIGXCPU else "crashed"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            # Not yet waited for, so that the id of its group is its own.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class _Frames:
    """What the child sends; only time spent waiting for it counts, since it waits for us, too."""

    def __init__(self, descriptor: int, seconds: float) -> None:
        self._descriptor = descriptor
        self._seconds_left = seconds
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._received = bytearray()

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        return self

    def __next__(self) -> tuple[int, bytes]:
        kind, length = HEADER.unpack(self._exactly(HEADER.size))
        if length > MOST_PAYLOAD_BYTES:
            raise _Died("crashed")
        return kind, self._exactly(length)

    def _exactly(self, length: int) -> bytes:
        while len(self._received) < length:
            self._received += self._some()
        piece = bytes(self._received[:length])
        del self._received[:length]
        return piece

    def _some(self) -> bytes:
        begun = time.monotonic()
        if not self._poll.poll(max(0.0, self._seconds_left) * 1000):
            raise _Died("parse-timeout")
        self._seconds_left -= time.monotonic() - begun
        received = os.read(self._descriptor, _PIPE_BYTES)
        if not received:
            raise _Died("")
        return received


@contextlib.contextmanager
def _descriptor(content: BinaryIO, folder: str | None) -> Iterator[int]:
    """The content as a file of the system: itself where it is one, else a copy."""
    # This also writes out what is still in its buffer, which would be missing for the child.
    content.seek(0)
    try:
        descriptor = content.fileno()
    except io.UnsupportedOperation:
        with tempfile.TemporaryFile(dir=folder) as file:
            try:
                shutil.copyfileobj(content, file)
                file.flush()
            except OSError as error:
                raise _translated(error) from error
            file.seek(0)
            yield file.fileno()
    else:
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor


def _write(file: BinaryIO, block: bytes) -> None:
    try:
        file.write(block)
    except OSError as error:
        raise _translated(error) from error


def _translated(error: OSError) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull("the archive could not be unpacked: no space left")
    return error


def _known(payload: bytes, reasons: dict[str, str]) -> str:
    reason = payload.decode("ascii", "replace")
    if reason not in reasons:
        raise _Died("crashed")
    return reason


def _text(payload: bytes) -> str:
    try:
        return payload.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _Died("crashed") from error


def _problem(detail: str, data: dict[str, str | int]) -> Problem:
    return Problem(InvalidInput.code, InvalidInput.title, detail, dict(data))


def _shown(path: str) -> str:
    """A path of any content as one visible line."""
    if path_fault(path) is None:
        return path
    return path[:200].encode("unicode_escape").decode("ascii") if not path.isprintable() else path[:200]
