"""Which files are taken, told from a name and the first bytes, cheaply enough for the HTTP process.

Nothing is parsed here. What passes may still fail to parse; what does not pass never reaches a parser.
"""

from __future__ import annotations

from pathlib import PurePath

from rag_service.errors import UnsupportedType

HEAD_BYTES = 4096
"""How much of a file `detect` wants to see; less is fine where the file is shorter."""

TEXT = "text/plain"
MARKDOWN = "text/markdown"
HTML = "text/html"
PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"

PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
EPUB = "application/epub+zip"
RTF = "application/rtf"
EML = "message/rfc822"
CSV = "text/csv"
TSV = "text/tab-separated-values"
JSON = "application/json"
JSONL = "application/jsonl"
XML = "application/xml"
PNG, JPEG, TIFF, BMP, WEBP = "image/png", "image/jpeg", "image/tiff", "image/bmp", "image/webp"
ZIP = "application/zip"

IMAGES = frozenset((PNG, JPEG, TIFF, BMP, WEBP))

SUFFIXES: dict[str, str] = {
    ".txt": TEXT,
    ".md": MARKDOWN,
    ".markdown": MARKDOWN,
    ".html": HTML,
    ".htm": HTML,
    ".pdf": PDF,
    ".docx": DOCX,
}

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""Compound File Binary: legacy Office, and the wrapper of an encrypted .docx ([MS-OFFCRYPTO] 2.3)."""

_ZIP = b"PK\x03\x04"
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"%PDF-", "a PDF"),
    (_ZIP, "a ZIP archive (or an Office document)"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (OLE, "a legacy Office document"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF87a", "a GIF image"),
    (b"GIF89a", "a GIF image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"\x7fELF", "an ELF program"),
    (b"MZ\x90\x00", "a Windows program"),
    (b"\x1f\x8b\x08", "a gzip archive"),
    (b"BZh91AY&SY", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"{\\rtf", "an RTF document"),
    (b"OggS\x00", "an Ogg recording"),
    (b"ID3\x03", "an MP3 recording"),
    (b"\x00asm", "a WebAssembly program"),
)
_BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")


def detect(filename: str, declared: str | None, head: bytes) -> str:
    """The media type of a file, by its suffix, once its first bytes (`HEAD_BYTES`) do not belie it.

    `declared` (what the client sent as Content-Type) decides only for a name without a suffix: clients derive it
    from the suffix, or send application/octet-stream. An empty head passes; the parser then says "empty".
    Raises UnsupportedType, with `expected` and `found` where the content is something else than the name says.
    """
    media_type = _named(filename, declared)
    if not head:
        return media_type
    found = _contradiction(media_type, head)
    if found is not None:
        suffix = PurePath(filename).suffix or "file"
        detail = f"{filename} is named as a {suffix} file, but its content is {found}"
        raise UnsupportedType(detail, filename=filename, expected=media_type, found=found)
    return media_type


def _named(filename: str, declared: str | None) -> str:
    suffix = PurePath(filename).suffix.lower()
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    told = (declared or "").split(";")[0].strip().lower()
    if not suffix and told in SUFFIXES.values():
        return told
    supported = sorted(SUFFIXES)
    detail = f"files named {suffix or 'without a suffix'} are not supported; supported: {', '.join(supported)}"
    raise UnsupportedType(detail, filename=filename, suffix=suffix, supported=supported)


def _contradiction(media_type: str, head: bytes) -> str | None:
    """What the content is instead, in words, or None when it may be what the name says."""
    if media_type == PDF:
        # Readers, pdfium among them, accept the mark anywhere in the first 1,024 bytes (ISO 32000-1, H.3 note 13).
        return None if b"%PDF" in head[:1024] else _kind(head) or "not a PDF (no %PDF mark)"
    if media_type == DOCX:
        # An encrypted .docx is an OLE file: the parser tells it from a renamed .doc, with the better message.
        return None if head.startswith((_ZIP, OLE)) else _kind(head) or "not a Word document (no ZIP signature)"
    return _kind(head) or (None if _may_be_text(head) else "binary data (it holds NUL bytes)")


def _kind(head: bytes) -> str | None:
    return next((name for signature, name in _SIGNATURES if head.startswith(signature)), None)


def _may_be_text(head: bytes) -> bool:
    """No NUL, or a byte order mark, or UTF-16 without one: NULs at even or at odd places only, and often."""
    if b"\x00" not in head or head.startswith(_BOMS):
        return True
    even, odd = head[0::2].count(0), head[1::2].count(0)
    return (even == 0 or odd == 0) and b"\x00\x00" not in head and even + odd >= len(head) // 64
