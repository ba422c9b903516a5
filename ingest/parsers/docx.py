"""Word documents: mammoth to HTML, equations to LaTeX by MarkItDown, from there as any HTML."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import mammoth  # type: ignore[import-untyped]

from ingest.parsers.canonical import CanonicalText
from ingest.parsers.html import add_html
from rag_service import media_types
from rag_service.errors import ParseFailed
from rag_service.types import ParsedDocument

INFLATED_LIMIT_BYTES = 512 * 1024 * 1024
"""All parts together. Real documents with many pictures reach a few hundred MiB."""
XML_LIMIT_BYTES = 64 * 1024 * 1024
"""XML parts together: some ten thousand pages of text."""

_ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")
_DTD = re.compile(rb"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)
_STYLES = "p[style-name='Title'] => h1:fresh\np[style-name='Subtitle'] => p:fresh\n"
_NO_IMAGE = mammoth.images.img_element(lambda image: {"src": ""})
_PIECE_BYTES = 1 << 20


class DocxParser:
    name = "docx/1"
    media_types = (media_types.DOCX,)
    suffixes = (".docx",)

    def __init__(
        self, inflated_limit_bytes: int = INFLATED_LIMIT_BYTES, xml_limit_bytes: int = XML_LIMIT_BYTES
    ) -> None:
        self._inflated_limit_bytes = inflated_limit_bytes
        self._xml_limit_bytes = xml_limit_bytes

    def parse(self, data: bytes) -> ParsedDocument:
        if not data.strip():
            raise ParseFailed("empty", "the file is empty")
        if data.startswith(media_types.OLE):
            raise _wrapped(data)
        has_equations = self._inspect(data)
        canonical = CanonicalText()
        add_html(canonical, _html(data, has_equations))
        return canonical.document(self.name)

    def _inspect(self, data: bytes) -> bool:
        """Inflate every part once, counting, refusing DTDs; whether any part has equations.

        The sizes a ZIP's directory gives are claims; what is counted is what comes out.
        """
        inflated = xml = 0
        has_equations = False
        for part, tail, piece in _inflate(data):
            is_xml = part.endswith((".xml", ".rels"))
            inflated += len(piece)
            xml += len(piece) if is_xml else 0
            self._check_sizes(inflated, xml)
            if is_xml:
                # UTF-16 parts show the same marks once their NULs are gone.
                seen = (tail + piece).replace(b"\x00", b"")
                if _DTD.search(seen):
                    raise ParseFailed("xml-dtd", f"{part} declares a DTD", part=part)
                has_equations = has_equations or b":oMath" in seen
        return has_equations

    def _check_sizes(self, inflated: int, xml: int) -> None:
        for size, limit in ((xml, self._xml_limit_bytes), (inflated, self._inflated_limit_bytes)):
            if size > limit:
                raise ParseFailed("decompression-limit", "the document inflates to too much", limit_bytes=limit)


def _inflate(data: bytes) -> Iterator[tuple[str, bytes, bytes]]:
    """Every part in pieces: its name, the end of the piece before, the piece."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if "[Content_Types].xml" not in archive.namelist():
                raise ParseFailed("broken", "a ZIP archive, but not a Word document")
            for part in archive.infolist():
                if part.flag_bits & 0x1:
                    raise ParseFailed("encrypted", "the document is protected by a password")
                yield from _pieces(archive, part)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        detail = f"the ZIP archive is damaged: {error}"
        raise ParseFailed("broken", detail, error=type(error).__name__) from error


def _pieces(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> Iterator[tuple[str, bytes, bytes]]:
    tail = b""
    with archive.open(part) as stream:
        while piece := stream.read(_PIECE_BYTES):
            yield part.filename, tail, piece
            tail = piece[-32:]


def _html(data: bytes, has_equations: bool) -> str:
    source: BinaryIO = io.BytesIO(data)
    if has_equations:
        # MarkItDown takes .3 s and 40 MiB to import (it loads a model runtime): only in the child that needs it.
        from markitdown.converter_utils.docx.pre_process import pre_process_docx  # noqa: PLC0415

        source = pre_process_docx(source)
    html: str = mammoth.convert_to_html(source, style_map=_STYLES, convert_image=_NO_IMAGE).value
    return html


def _wrapped(data: bytes) -> ParseFailed:
    if _ENCRYPTED_PACKAGE in data:
        return ParseFailed("encrypted", "the document is protected by a password")
    return ParseFailed("broken", "a legacy Word (.doc) file named .docx; save it as .docx")
