"""Reads a hostile ZIP archive: `python -I -S archive_child.py LIMITS…`, the archive on stdin, frames on stdout.

It runs this file alone, with the standard library and nothing else, so that it is there in the time an interpreter
takes to start. `rag_service.archives` starts it, checks every frame, and knows what the reasons mean.

A frame is a kind (one byte), a length (four bytes, big-endian) and that many bytes:
`MEMBER name (DATA bytes)* (END | REFUSED reason)` for each entry, and at last `DONE` or `FAILED reason`.
"""

from __future__ import annotations

import bz2
import codecs
import lzma
import resource
import stat
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator

MEMBER, DATA, END, REFUSED, DONE, FAILED = range(1, 7)
HEADER = struct.Struct(">BI")
MOST_PAYLOAD_BYTES = 1 << 18

_ENCODINGS = ("utf-8", "gb18030", "cp437")
"""Of names that do not say theirs, tried on all of an archive together: a single short name can be valid in several."""
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13
_UTF_8 = 1 << 11
_UNICODE_PATH = 0x7075
_UNIX = 3
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_CLUTTER = frozenset((".ds_store", "thumbs.db", "desktop.ini"))
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, struct.error, OverflowError,
    NotImplementedError,
)  # fmt: skip
"""What the libraries raise at damage; decoding errors are ValueErrors."""


class ArchiveRefused(Exception):
    """Nothing of the archive is taken."""


class MemberRefused(Exception):
    """Only this entry is not taken."""


class ArchiveReader:
    """Sends an archive's files in the order of its directory; everything is counted as it inflates."""

    def __init__(self, most_entries: int, most_bytes: int, most_member_bytes: int) -> None:
        self._most_entries = most_entries
        self._bytes_left = most_bytes
        self._most_member_bytes = most_member_bytes

    def read(self) -> None:
        try:
            with _opened(self._most_entries) as archive:
                _demand_apart(archive)
                self._send_all(archive)
        except ArchiveRefused as refusal:
            _send(FAILED, str(refusal).encode())
        except MemoryError:
            _send(FAILED, b"memory-limit")
        else:
            _send(DONE)

    def _send_all(self, archive: zipfile.ZipFile) -> None:
        entries = [(i, n) for i, n in zip(archive.infolist(), _names(archive), strict=True) if not _is_left_out(i, n)]
        if not entries:
            raise ArchiveRefused("empty")
        if all(info.flag_bits & _ENCRYPTED for info, _ in entries):
            raise ArchiveRefused("encrypted")
        for info, name in entries:
            _send(MEMBER, name.encode("utf-8"))
            try:
                for block in self._inflated(archive, info, name):
                    _send(DATA, block)
            except MemberRefused as refusal:
                _send(REFUSED, str(refusal).encode())
            else:
                _send(END)

    def _inflated(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> Iterator[bytes]:
        _demand_plain_file(info, name)
        size = 0
        for block in _blocks(archive, info):
            size += len(block)
            self._bytes_left -= len(block)
            if self._bytes_left < 0:
                raise ArchiveRefused("decompression-limit")
            if size > self._most_member_bytes:
                raise MemberRefused("decompression-limit")
            yield block


def _opened(most_entries: int) -> zipfile.ZipFile:
    """Raises ArchiveRefused; before it holds more than `most_entries`, whatever number the directory claims."""
    entries = 0

    class Counted(zipfile.ZipInfo):
        __slots__ = ()

        def __init__(self, filename: str) -> None:
            nonlocal entries
            entries += 1
            if entries > most_entries:
                raise ArchiveRefused("too-many-entries")
            super().__init__(filename)

    # `zipfile` makes one for each entry that the directory really has; there is no other way to be asked in between.
    zipfile.ZipInfo = Counted  # type: ignore[assignment, misc]
    try:
        return zipfile.ZipFile(sys.stdin.buffer)
    except _DAMAGE as error:
        raise ArchiveRefused("broken") from error


def _demand_apart(archive: zipfile.ZipFile) -> None:
    """No byte belongs to two entries, or to an entry and the directory: a little would inflate to a lot."""
    end = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise ArchiveRefused("archive-overlap")
        end = info.header_offset + _local_header_bytes(info) + info.compress_size
    if end > archive.start_dir:
        raise ArchiveRefused("archive-overlap")


def _local_header_bytes(info: zipfile.ZipInfo) -> int:
    try:
        sys.stdin.buffer.seek(info.header_offset)
        signature, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(sys.stdin.buffer.read(_LOCAL_HEADER.size))
    except _DAMAGE as error:
        raise ArchiveRefused("broken") from error
    if signature != b"PK\x03\x04":
        raise ArchiveRefused("broken")
    return _LOCAL_HEADER.size + int(name_bytes) + int(extra_bytes)


def _names(archive: zipfile.ZipFile) -> Iterator[str]:
    """One for each entry, as whoever made the archive saw it."""
    told = [_told_name(info) for info in archive.infolist()]
    encoding = encoding_of(_raw(info) for info, name in zip(archive.infolist(), told, strict=True) if name is None)
    for info, name in zip(archive.infolist(), told, strict=True):
        yield _raw(info).decode(encoding) if name is None else name


def encoding_of(names: Iterable[bytes]) -> str:
    """The first of UTF-8 and GB18030 in which all are valid, else code page 437, in which everything is."""
    joined = b"\n".join(names)
    for encoding in _ENCODINGS:
        try:
            joined.decode(encoding)
        except UnicodeDecodeError:
            continue
        return encoding
    raise AssertionError("every byte has a character in code page 437")


def _told_name(info: zipfile.ZipInfo) -> str | None:
    """The name where the entry says that it is UTF-8, by its flag or in a field of its own."""
    return info.orig_filename if info.flag_bits & _UTF_8 else _unicode_path(info)


def _unicode_path(info: zipfile.ZipInfo) -> str | None:
    """Info-ZIP's Unicode Path (APPNOTE 4.6.9), valid only beside the very name it was made for."""
    extra = info.extra
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == _UNICODE_PATH and field[:5] == struct.pack("<BL", 1, zlib.crc32(_raw(info))):
            try:
                return field[5:].decode("utf-8")
            except UnicodeDecodeError:
                return None
    return None


def _raw(info: zipfile.ZipInfo) -> bytes:
    """The bytes of a name without the UTF-8 flag, which `zipfile` has read as code page 437."""
    return info.orig_filename.encode("cp437")


def _is_left_out(info: zipfile.ZipInfo, name: str) -> bool:
    """Folders, and what macOS and Windows leave in folders for themselves. Whatever else is hidden is a file."""
    is_folder = info.file_size == 0 and name.endswith(("/", "\\"))
    parts = name.split("/")
    return is_folder or parts[0] == "__MACOSX" or parts[-1].lower() in _CLUTTER


def _demand_plain_file(info: zipfile.ZipInfo, name: str) -> None:
    if info.flag_bits & _ENCRYPTED:
        raise MemberRefused("encrypted")
    if info.create_system == _UNIX and stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
        raise MemberRefused("not-a-file")
    if name.lower().endswith(".zip"):
        raise MemberRefused("nested-archive")
    if info.compress_type not in _METHODS:
        raise MemberRefused("compression-method")


def _blocks(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """To the end, where `zipfile` compares the checksum."""
    try:
        with archive.open(info) as file:
            while block := file.read(MOST_PAYLOAD_BYTES):
                yield block
    except _DAMAGE as error:
        raise MemberRefused("broken") from error
    except MemoryError as error:
        raise MemberRefused("memory-limit") from error


def _send(kind: int, payload: bytes = b"") -> None:
    for start in range(0, max(1, len(payload)), MOST_PAYLOAD_BYTES):
        piece = payload[start : start + MOST_PAYLOAD_BYTES]
        sys.stdout.buffer.write(HEADER.pack(kind, len(piece)))
        sys.stdout.buffer.write(piece)
    if kind != DATA:
        sys.stdout.buffer.flush()


def _give_up_rights(memory_bytes: int, cpu_seconds: int) -> None:
    # What would be loaded on first use has to be there before nothing more can be opened.
    for encoding in _ENCODINGS:
        codecs.lookup(encoding)
    bz2.BZ2Decompressor()
    # No further descriptor means no file and no socket, on every system and without privileges.
    _lower(resource.RLIMIT_NOFILE, 0)
    _lower(resource.RLIMIT_FSIZE, 0)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_CPU, cpu_seconds)
    if sys.platform != "darwin":  # which knows the limit, and refuses to lower it
        _lower(resource.RLIMIT_AS, memory_bytes)


def _lower(what: int, wanted: int) -> None:
    hard = resource.getrlimit(what)[1]
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(what, (limit, limit))


def main() -> None:
    most_entries, most_bytes, most_member_bytes, memory_bytes, cpu_seconds = map(int, sys.argv[1:])
    _give_up_rights(memory_bytes, cpu_seconds)
    ArchiveReader(most_entries, most_bytes, most_member_bytes).read()


if __name__ == "__main__":
    main()
