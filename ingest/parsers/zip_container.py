"""What every ZIP-based format (docx, pptx, xlsx, epub) must be before a library opens it."""

from __future__ import annotations

import io
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rag_service import media_types
from rag_service.errors import ParseFailed

DTD = re.compile(rb"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)
ENTITY = re.compile(rb"<!ENTITY", re.IGNORECASE)
"""For XHTML, where a DOCTYPE without declarations is ordinary."""

_ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")
_DIRECTORY_ENTRY = b"PK\x01\x02"
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_PIECE_BYTES = 1 << 20
_TAIL_BYTES = 64
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    ValueError,
)
"""What `zipfile` raises over damaged or unknown structures."""


@dataclass(frozen=True, slots=True)
class Limits:
    entries: int = 20_000
    inflated_bytes: int = 512 << 20
    """All parts together. Real documents with many pictures reach a few hundred MiB."""
    xml_bytes: int = 64 << 20
    """XML parts together: some ten thousand pages of text."""


@dataclass(frozen=True, slots=True)
class Container:
    """One ZIP-based format."""

    noun: str
    """As in "a ZIP archive, but not {noun}"."""
    required: str
    """A part without which it is not this format."""
    legacy: str
    """What is said of a Compound File under this name that is no encrypted one."""
    xml_suffixes: tuple[str, ...] = (".xml", ".rels", ".vml")
    forbidden: re.Pattern[bytes] = DTD

    def inspect(self, data: bytes, limits: Limits, marks: Sequence[bytes] = ()) -> frozenset[bytes]:
        """Inflate every part once, counting, refusing DTDs; which of `marks` any XML part holds.

        The sizes a ZIP's directory gives are claims; what is counted is what comes out. Raises ParseFailed: "empty",
        "encrypted", "broken", "archive-overlap", "decompression-limit", "xml-dtd".
        """
        if not data.strip():
            raise ParseFailed("empty", "the file is empty")
        if data.startswith(media_types.OLE):
            raise self._wrapped(data)
        seen: set[bytes] = set()
        counted = _Counted(limits)
        for part, text in self._inflate(data, limits):
            is_xml = part.filename.lower().endswith(self.xml_suffixes)
            counted.add(len(text.piece), is_xml)
            if is_xml:
                self._look(part.filename, text.with_tail(), marks, seen)
        return frozenset(seen)

    def _wrapped(self, data: bytes) -> ParseFailed:
        if _ENCRYPTED_PACKAGE in data:
            return ParseFailed("encrypted", "the document is protected by a password")
        return ParseFailed("broken", self.legacy)

    def _look(self, part: str, text: bytes, marks: Sequence[bytes], seen: set[bytes]) -> None:
        if self.forbidden.search(text):
            raise ParseFailed("xml-dtd", f"{part} declares a DTD", part=part)
        seen.update(mark for mark in marks if mark in text)

    def _inflate(self, data: bytes, limits: Limits) -> Iterator[tuple[zipfile.ZipInfo, _Text]]:
        # Counted before the directory is read, which costs more than a kilobyte of memory an entry.
        if data.count(_DIRECTORY_ENTRY) > limits.entries:
            raise ParseFailed("decompression-limit", "the archive has too many parts", limit_entries=limits.entries)
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                self._check(data, archive)
                for part in archive.infolist():
                    yield from _pieces(archive, part)
        except _DAMAGE as error:
            detail = f"the ZIP archive is damaged: {error}"
            raise ParseFailed("broken", detail, error=type(error).__name__) from error

    def _check(self, data: bytes, archive: zipfile.ZipFile) -> None:
        parts = archive.infolist()
        if self.required not in archive.NameToInfo:
            raise ParseFailed("broken", f"a ZIP archive, but not {self.noun}")
        if any(part.flag_bits & 0x1 for part in parts):
            raise ParseFailed("encrypted", "the document is protected by a password")
        if overlap := _overlap(data, parts, archive.start_dir):
            raise ParseFailed("archive-overlap", f"{overlap} shares its bytes with another part", part=overlap)


class _Counted:
    """Bytes that came out so far, held against the limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._inflated = self._xml = 0

    def add(self, size: int, is_xml: bool) -> None:
        self._inflated += size
        self._xml += size if is_xml else 0
        counts = ((self._xml, self._limits.xml_bytes), (self._inflated, self._limits.inflated_bytes))
        for count, limit in counts:
            if count > limit:
                raise ParseFailed("decompression-limit", "the document inflates to too much", limit_bytes=limit)


@dataclass(frozen=True, slots=True)
class _Text:
    tail: bytes
    """The end of the piece before: a mark may lie across two pieces."""
    piece: bytes

    def with_tail(self) -> bytes:
        # UTF-16 parts show the same marks once their NULs are gone.
        return (self.tail + self.piece).replace(b"\x00", b"")


def _pieces(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> Iterator[tuple[zipfile.ZipInfo, _Text]]:
    tail = b""
    with archive.open(part) as stream:
        while piece := stream.read(_PIECE_BYTES):
            yield part, _Text(tail, piece)
            tail = piece[-_TAIL_BYTES:]


def _overlap(data: bytes, parts: Sequence[zipfile.ZipInfo], directory: int) -> str | None:
    """The name of a part whose bytes reach into another's or into the directory: CVE-2024-0450, "a better zip bomb".

    Where a part ends is told by its local header (whose extra field has its own length) and its compressed size.
    """
    extents = sorted((part.header_offset, _end(data, part), part.filename) for part in parts)
    for (_, end, name), (start, _, _) in pairwise(extents):
        if end > start:
            return name
    return extents[-1][2] if extents and extents[-1][1] > directory else None


def _end(data: bytes, part: zipfile.ZipInfo) -> int:
    signature, name_bytes, extra_bytes = _LOCAL_HEADER.unpack_from(data, part.header_offset)
    if signature != b"PK\x03\x04":
        raise zipfile.BadZipFile(f"no local header of {part.filename}")
    size: int = part.compress_size
    return part.header_offset + _LOCAL_HEADER.size + int(name_bytes) + int(extra_bytes) + size
