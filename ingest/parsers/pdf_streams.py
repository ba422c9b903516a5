"""A look at a PDF's compressed streams before pdfium inflates them, which ends the process when memory runs out."""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterator

from rag_service.errors import ParseFailed

STREAM_LIMIT_BYTES = 100_000_000
"""Of one stream that is no image. A page's content of this size is some ten million drawing operations."""
TOTAL_LIMIT_BYTES = 500_000_000

_START = re.compile(rb"(?<!end)stream\r?\n")
_DICTIONARY_BYTES = 1_024
_FLATE = re.compile(rb"/Fl(?:ateDecode)?\b")
_ARMOUR = re.compile(rb"/A(?:SCII)?85(?:Decode)?\b")
_IMAGE = re.compile(rb"/Subtype\s*/Image\b")
_DEEPEST = 4
_PIECE_BYTES = 1 << 20


def check(data: bytes, stream_limit: int = STREAM_LIMIT_BYTES, total_limit: int = TOTAL_LIMIT_BYTES) -> None:
    """Raises ParseFailed("decompression-limit") where streams other than images inflate to more than the limits.

    Damaged and encrypted streams count for what can be inflated of them.
    """
    total = 0
    view = memoryview(data)
    before = 0
    for match in _START.finditer(data):
        dictionary = data[max(before, match.start() - _DICTIONARY_BYTES) : match.start()]
        before = match.end()
        dictionary = dictionary[dictionary.rfind(b"obj") + 1 :]
        depth = min(len(_FLATE.findall(dictionary)), _DEEPEST)
        if not depth or _IMAGE.search(dictionary):
            continue
        size = 0
        packed = _unarmoured(data, match.end()) if _ARMOUR.search(dictionary) else view[match.end() :]
        for piece in _inflated(packed, depth):
            size += piece
            if size > stream_limit or total + size > total_limit:
                limit = stream_limit if size > stream_limit else total_limit
                raise ParseFailed("decompression-limit", "a stream inflates to too much", limit_bytes=limit)
        total += size


def _unarmoured(data: bytes, start: int) -> memoryview:
    """The bytes of an ASCII85 text; none where it is damaged."""
    end = data.find(b"~>", start)
    try:
        return memoryview(base64.a85decode(data[start : end if end >= 0 else len(data)], ignorechars=b" \t\r\n\0\f"))
    except ValueError:
        return memoryview(b"")


def _inflated(packed: memoryview, depth: int) -> Iterator[int]:
    """Lengths of the pieces that come out at every level, in all no more than what is asked for."""
    layers = [zlib.decompressobj() for _ in range(depth)]
    for start in range(0, len(packed), _PIECE_BYTES):
        try:
            yield from _through(layers, packed[start : start + _PIECE_BYTES])
        except zlib.error:
            # Not a zlib stream, or one that ends in damage: pdfium takes what came before.
            return
        if layers[0].eof:
            return


def _through(layers: list[zlib._Decompress], packed: bytes | memoryview) -> Iterator[int]:
    first, *others = layers
    while packed and not first.eof:
        piece = first.decompress(packed, _PIECE_BYTES)
        packed = first.unconsumed_tail
        yield len(piece)
        if others and piece:
            yield from _through(others, piece)
