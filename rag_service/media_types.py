"""Which files are taken, told by their content, cheaply enough for the HTTP process.

Nothing is parsed here and no more is read than the first 64 KiB and, of a ZIP archive, a bounded part of its
directory. What passes may still fail to parse; what does not pass never reaches a parser.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from rag_service.errors import UnsupportedType

HEAD_BYTES = 65_536

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
OFFICE = frozenset((DOCX, PPTX, XLSX))
TEXTS = frozenset((TEXT, MARKDOWN, HTML, XML, CSV, TSV, JSON, JSONL, EML))
"""Nothing in the bytes tells these apart for certain: among them the name decides."""

SUFFIXES: dict[str, str] = {
    ".txt": TEXT, ".text": TEXT, ".log": TEXT, ".srt": TEXT, ".vtt": TEXT,
    ".md": MARKDOWN, ".markdown": MARKDOWN,
    ".html": HTML, ".htm": HTML, ".xhtml": HTML,
    ".xml": XML,
    ".pdf": PDF,
    # Macros lie in a part of their own, which no parser here opens.
    ".docx": DOCX, ".docm": DOCX,
    ".pptx": PPTX, ".pptm": PPTX,
    ".xlsx": XLSX, ".xlsm": XLSX,
    ".csv": CSV, ".tsv": TSV,
    ".epub": EPUB,
    ".rtf": RTF,
    ".eml": EML,
    ".json": JSON, ".jsonl": JSONL, ".ndjson": JSONL,
    ".png": PNG, ".jpg": JPEG, ".jpeg": JPEG, ".tif": TIFF, ".tiff": TIFF, ".bmp": BMP, ".webp": WEBP,
    ".zip": ZIP,
}  # fmt: skip

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""Compound File Binary: legacy Office, and the wrapper of an encrypted .docx ([MS-OFFCRYPTO] 2.3)."""


def detect(filename: str, declared: str | None, content: BinaryIO) -> str:
    """The media type of a file: one that its content allows, and that its name and `declared` do not contradict.

    The content decides; among the formats that are all text the suffix does, and without one `declared` does (what
    the client sent as Content-Type). A declaration that says nothing (application/octet-stream, text/plain, one
    unknown here) is passed over. An empty file is what its name says; the parser then says "empty".
    Raises UnsupportedType, with `expected` and `found` where the content is something else than was said.
    `content` is left at an unspecified position.
    """
    named = _named(filename)
    told = _meanings(declared)
    found = _sniff(content)
    if found is None:
        return named or TEXT
    if named is not None:
        return _agreed(filename, named, told, found)
    if told is not None and not told & found.may_be:
        raise _untrue(filename, f"was sent as {declared}", _media_type(declared), found)
    if found.usual is None:
        raise _unsupported(filename, f"{filename} is {found.words}, which is not supported{found.advice}", found.words)
    return _media_type(declared) if _media_type(declared) in found.may_be else found.usual


@dataclass(frozen=True, slots=True)
class _Found:
    """What the content is, in words, the supported types it may be of, and the one it is where nothing else is said."""

    words: str
    may_be: frozenset[str] = frozenset()
    usual: str | None = None
    advice: str = ""


def _agreed(filename: str, named: str, told: frozenset[str] | None, found: _Found) -> str:
    if named not in found.may_be:
        raise _untrue(filename, f"is named as a {_suffix(filename)} file", named, found)
    # Any text may be shown as plain text.
    if told is not None and named not in told and not (named == TEXT and told & TEXTS):
        raise _untrue(filename, f"was sent as {min(told, default='another type')}", min(told, default=named), found)
    return named


def _untrue(filename: str, claim: str, expected: str, found: _Found) -> UnsupportedType:
    detail = f"{filename} {claim}, but its content is {found.words}{found.advice}"
    return UnsupportedType(detail, filename=filename, expected=expected, found=found.words)


def _unsupported(filename: str, detail: str, found: str) -> UnsupportedType:
    return UnsupportedType(detail, filename=filename, found=found, supported=sorted(SUFFIXES))


# --- what the name says

# "Dr. Smith", "v1.2" and "会议.第三版" have no suffix; what follows the last dot of a type is short and has a letter.
_SUFFIX = re.compile(r"\.(?=[0-9]*[A-Za-z])[A-Za-z0-9]{1,10}\Z")
_ADVICE = {
    ".doc": "save it as .docx",
    ".dot": "save it as .docx",
    ".xls": "save it as .xlsx",
    ".ppt": "save it as .pptx",
    ".wps": "save it as .docx",
    ".et": "save it as .xlsx",
    ".dps": "save it as .pptx",
    ".odt": "save it as .docx",
    ".ods": "save it as .xlsx",
    ".odp": "save it as .pptx",
    ".pages": "export it as .docx or .pdf",
    ".numbers": "export it as .xlsx",
    ".key": "export it as .pptx or .pdf",
    ".msg": "save it as .eml",
    ".mht": "save it as .html or .pdf",
    ".mhtml": "save it as .html or .pdf",
    ".chm": "print it as .pdf",
    ".mobi": "convert it to .epub",
    ".azw3": "convert it to .epub",
    ".gif": "save it as .png",
    ".svg": "save it as .png or .pdf",
    ".heic": "save it as .jpg",
    ".avif": "save it as .jpg",
    ".gz": "unpack it, or pack it as .zip",
    ".tgz": "unpack it, or pack it as .zip",
    ".bz2": "unpack it, or pack it as .zip",
    ".xz": "unpack it, or pack it as .zip",
    ".zst": "unpack it, or pack it as .zip",
    ".tar": "unpack it, or pack it as .zip",
    ".7z": "unpack it, or pack it as .zip",
    ".rar": "unpack it, or pack it as .zip",
}


def _suffix(filename: str) -> str:
    match = _SUFFIX.search(filename)
    return match.group().lower() if match else ""


def _named(filename: str) -> str | None:
    """The type a suffix stands for, or None without one; raises UnsupportedType for one nobody reads."""
    suffix = _suffix(filename)
    if not suffix or suffix in SUFFIXES:
        return SUFFIXES.get(suffix)
    supported = sorted(SUFFIXES)
    advice = f" ({_ADVICE[suffix]})" if suffix in _ADVICE else ""
    detail = f"files named {suffix} are not supported{advice}; supported: {', '.join(supported)}"
    raise UnsupportedType(detail, filename=filename, suffix=suffix, supported=supported)


# --- what the client declares

_MARKUP, _RECORDS, _SHEETS = frozenset((HTML, XML)), frozenset((JSON, JSONL)), frozenset((CSV, TSV))
_NOTHING: frozenset[str] = frozenset()
_DECLARED: dict[str, frozenset[str]] = {
    **{kind: frozenset((kind,)) for kind in (MARKDOWN, PDF, EPUB, RTF, EML, ZIP, *OFFICE, *IMAGES)},
    "text/x-markdown": frozenset((MARKDOWN,)),
    **dict.fromkeys((HTML, XML, "application/xhtml+xml", "text/xml"), _MARKUP),
    **dict.fromkeys((JSON, JSONL, "text/json", "application/x-ndjson", "application/x-jsonlines"), _RECORDS),
    **dict.fromkeys((CSV, TSV, "application/csv", "text/comma-separated-values"), _SHEETS),
    # Browsers on a Windows with Office take these from the program that opens the suffix.
    "application/vnd.ms-excel": _SHEETS | {XLSX},
    "application/msword": frozenset((DOCX, RTF)),
    "application/vnd.ms-powerpoint": frozenset((PPTX,)),
    "application/vnd.ms-word.document.macroenabled.12": frozenset((DOCX,)),
    "application/vnd.ms-excel.sheet.macroenabled.12": frozenset((XLSX,)),
    "application/vnd.ms-powerpoint.presentation.macroenabled.12": frozenset((PPTX,)),
    **dict.fromkeys(("application/x-pdf", "text/pdf"), frozenset((PDF,))),
    **dict.fromkeys(("text/rtf", "text/richtext", "application/x-rtf"), frozenset((RTF,))),
    **dict.fromkeys(("application/x-zip-compressed", "application/x-zip"), frozenset((ZIP,))),
    **dict.fromkeys(("image/jpg", "image/pjpeg"), frozenset((JPEG,))),
    "image/x-png": frozenset((PNG,)),
    "image/tif": frozenset((TIFF,)),
    **dict.fromkeys(("image/x-ms-bmp", "image/x-bmp"), frozenset((BMP,))),
    "image/svg+xml": frozenset((XML,)),
    **dict.fromkeys(
        (
            *("application/gzip", "application/x-gzip", "application/x-tar", "application/x-7z-compressed"),
            *(
                "application/vnd.rar",
                "application/x-msdownload",
                "application/x-executable",
                "application/java-archive",
            ),
        ),
        _NOTHING,
    ),
}
_SAYS_NOTHING = frozenset((TEXT, "text/x-log"))


def _media_type(declared: str | None) -> str:
    return (declared or "").split(";")[0].strip().lower()


def _meanings(declared: str | None) -> frozenset[str] | None:
    """The supported types a declaration may stand for, none where it is of something else; None if it says nothing."""
    told = _media_type(declared)
    if told in _DECLARED or told in _SAYS_NOTHING:
        return _DECLARED.get(told)
    if told.endswith("+xml"):
        return _MARKUP
    if told.endswith("+json"):
        return _RECORDS
    if told.startswith("text/"):
        return TEXTS
    return _NOTHING if told.startswith(("image/", "audio/", "video/", "font/", "model/")) else None


# --- what the content is

_ZIP_MARK = b"PK\x03\x04"
_ARCHIVE = "; unpack it, or pack it as .zip"
_LEGACY = "; save it as .docx, .xlsx or .pptx"


def _one(words: str, media_type: str) -> _Found:
    return _Found(words, frozenset((media_type,)), media_type)


_SIGNATURES: tuple[tuple[bytes, _Found], ...] = (
    (b"%PDF-", _one("a PDF", PDF)),
    (b"PK\x05\x06", _one("an empty ZIP archive", ZIP)),
    (b"PK\x07\x08", _Found("one part of a split ZIP archive", advice="; join its parts first")),
    # An encrypted .docx is a Compound File: the parser tells it from a renamed .doc, with the better message.
    (OLE, _Found("a legacy Office document", OFFICE, advice=_LEGACY)),
    (b"\x89PNG\r\n\x1a\n", _one("a PNG image", PNG)),
    (b"\xff\xd8\xff", _one("a JPEG image", JPEG)),
    *((mark, _one("a TIFF image", TIFF)) for mark in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")),
    (b"GIF87a", _Found("a GIF image", advice="; save it as .png")),
    (b"GIF89a", _Found("a GIF image", advice="; save it as .png")),
    (b"\x7fELF", _Found("an ELF program")),
    (b"MZ\x90\x00", _Found("a Windows program")),
    (b"\xca\xfe\xba\xbe", _Found("a program (Java or macOS)")),
    (b"\xcf\xfa\xed\xfe", _Found("a macOS program")),
    (b"\x1f\x8b", _Found("a gzip archive", advice=_ARCHIVE)),
    (b"BZh91AY&SY", _Found("a bzip2 archive", advice=_ARCHIVE)),
    (b"\xfd7zXZ\x00", _Found("an xz archive", advice=_ARCHIVE)),
    (b"\x28\xb5\x2f\xfd", _Found("a zstd archive", advice=_ARCHIVE)),
    (b"7z\xbc\xaf\x27\x1c", _Found("a 7-Zip archive", advice=_ARCHIVE)),
    (b"Rar!\x1a\x07", _Found("a RAR archive", advice=_ARCHIVE)),
    (b"MSCF\x00\x00\x00\x00", _Found("a Windows cabinet", advice=_ARCHIVE)),
    (b"SQLite format 3\x00", _Found("an SQLite database")),
    (b"ITSF\x03\x00\x00\x00", _Found("a compiled HTML help file", advice="; print it as .pdf")),
    (b"8BPS\x00", _Found("a Photoshop image", advice="; save it as .png")),
    (b"OggS\x00", _Found("an Ogg recording")),
    (b"ID3\x03", _Found("an MP3 recording")),
    (b"ID3\x04", _Found("an MP3 recording")),
    (b"fLaC\x00", _Found("a FLAC recording")),
    (b"\x1a\x45\xdf\xa3", _Found("a Matroska recording")),
    (b"\x00asm", _Found("a WebAssembly program")),
    (b"wOFF\x00\x01\x00\x00", _Found("a font")),
    (b"wOF2\x00\x01\x00\x00", _Found("a font")),
    (b"%!PS", _Found("a PostScript file", advice="; save it as .pdf")),
)
_BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_RTF = re.compile(rb"(?:\xef\xbb\xbf)?\s{0,64}\{\\rtf")
# BITMAPFILEHEADER: "BM", size, two reserved words that are zero, offset; then the size of one of the known headers.
_BMP = re.compile(rb"BM.{4}\0{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0{3}", re.DOTALL)
_MARKUP_START = re.compile(
    rb"(?:\xef\xbb\xbf)?\s{0,512}<(!doctype\s+html|html|head|body|script|svg|iframe|\?xml)", re.I
)
_PROGRAM_START = re.compile(rb"MZ|BM|#!|\{\\rtf|RIFF|.{4}ftyp|.{257}ustar", re.DOTALL)


def _sniff(content: BinaryIO) -> _Found | None:
    """What a file is, or None for an empty one."""
    content.seek(0)
    head = content.read(HEAD_BYTES)
    if not head:
        return None
    if head.startswith(_ZIP_MARK):
        return _zip(content, head)
    return _signed(head) or _text_or_pdf(head)


def _signed(head: bytes) -> _Found | None:
    for signature, found in _SIGNATURES:
        if head.startswith(signature):
            return found
    if _RTF.match(head):
        return _one("an RTF document", RTF)
    if _BMP.match(head):
        return _one("a BMP image", BMP)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _one("a WebP image", WEBP)
    if head[:4] == b"RIFF" and head[8:12] in (b"WAVE", b"AVI "):
        return _Found("a recording")
    if head[4:8] == b"ftyp":
        return _Found("an MP4 or HEIF file", advice="; save an image as .jpg")
    return _Found("a tar archive", advice=_ARCHIVE) if head[257:262] == b"ustar" else None


def _text_or_pdf(head: bytes) -> _Found:
    """What has no signature at its start: text, a PDF behind other bytes, or neither."""
    markup = _MARKUP_START.match(head)
    # Readers, pdfium among them, accept the mark anywhere in the first 1,024 bytes (ISO 32000-1, H.3 note 13), but
    # bytes before it that make another format would be read as that one elsewhere.
    is_pdf = b"%PDF-" in head[:1024] and markup is None and not _PROGRAM_START.match(head)
    if _may_be_text(head):
        usual = TEXT if markup is None else XML if markup.group(1) == b"?xml" else HTML
        return _Found("text", TEXTS | {PDF} if is_pdf else TEXTS, usual)
    return _one("a PDF", PDF) if is_pdf else _Found("binary data (it holds NUL bytes)")


def _may_be_text(head: bytes) -> bool:
    """No NUL, or a byte order mark, or UTF-16 without one: NULs at even or at odd places only, and often."""
    if b"\x00" not in head or head.startswith(_BOMS):
        return True
    even, odd = head[0::2].count(0), head[1::2].count(0)
    return (even == 0 or odd == 0) and b"\x00\x00" not in head and even + odd >= len(head) // 64


# --- what a ZIP archive holds

_DIRECTORY_BYTES = 1 << 20
_COMMENT_BYTES = 65_535
_END = struct.Struct("<4s8xIIH")
_END_64_LOCATOR = struct.Struct("<4sIQI")
_ENTRY = struct.Struct("<4s24xHHH12x")
_LOCAL = struct.Struct("<4sHH10xIIHH")
_ZIPPED = frozenset((EPUB, ZIP)) | OFFICE
_FOLDERS = ((b"word/", DOCX, "a Word document"), (b"ppt/", PPTX, "a PowerPoint document"), (b"xl/", XLSX, "a workbook"))


def _zip(content: BinaryIO, head: bytes) -> _Found:
    """Told by the names in its directory, of which at most 1 MiB is read, and by the type it may state first."""
    directory = _directory(content)
    names = list(_local_names(head)) if directory is None else list(_directory_names(directory))
    if b"[content_types].xml" in names:
        return _office(names)
    stated = _stated(head)
    if stated.startswith(b"application/vnd.oasis.opendocument"):
        return _Found("an OpenDocument file", advice=_LEGACY)
    if stated == EPUB.encode() or b"meta-inf/container.xml" in names:
        return _one("an EPUB book", EPUB)
    if directory is None:
        return _Found("a damaged ZIP archive", _ZIPPED)
    return _one("a ZIP archive", ZIP)


def _office(names: list[bytes]) -> _Found:
    kinds = [(kind, words) for folder, kind, words in _FOLDERS if any(name.startswith(folder) for name in names)]
    if len(kinds) == 1:
        return _one(kinds[0][1], kinds[0][0])
    # Cut off before the telling part, or laid out in its own way: the parser of the name's format will know.
    return _Found("an Office document", frozenset(kind for kind, _ in kinds) or OFFICE)


def _stated(head: bytes) -> bytes:
    """What an EPUB or OpenDocument file says of itself in its first, uncompressed entry (OCF 3.3, 4.3)."""
    start = _LOCAL.size
    if len(head) < start or head[start : start + 8] != b"mimetype":
        return b""
    _, _, _, packed, _, name_bytes, extra_bytes = _LOCAL.unpack_from(head)
    body = start + name_bytes + extra_bytes
    return head[body : body + min(packed, 100)].strip()


def _directory(content: BinaryIO) -> bytes | None:
    """The beginning of the central directory, or None where the archive has none."""
    size = content.seek(0, 2)
    start = max(0, size - _END.size - _COMMENT_BYTES)
    content.seek(start)
    tail = content.read(_END.size + _COMMENT_BYTES)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        return None
    _, length, offset, _ = _END.unpack_from(tail, at)
    if offset == 0xFFFFFFFF or length == 0xFFFFFFFF:
        return _directory_64(content, tail, at)
    # Counted from the end, as bytes before the archive shift every offset in it.
    content.seek(max(0, start + at - length))
    return content.read(min(length, _DIRECTORY_BYTES))


def _directory_64(content: BinaryIO, tail: bytes, at: int) -> bytes | None:
    if at < _END_64_LOCATOR.size:
        return None
    signature, _, offset, _ = _END_64_LOCATOR.unpack_from(tail, at - _END_64_LOCATOR.size)
    if signature != b"PK\x06\x07" or offset >= 1 << 62:
        return None
    content.seek(offset)
    end = content.read(56)
    if len(end) < 56 or not end.startswith(b"PK\x06\x06"):
        return None
    length, first = struct.unpack_from("<QQ", end, 40)
    if first >= 1 << 62:
        return None
    content.seek(first)
    return content.read(min(length, _DIRECTORY_BYTES))


def _directory_names(directory: bytes) -> Iterator[bytes]:
    at = 0
    while at + _ENTRY.size <= len(directory):
        signature, name_bytes, extra_bytes, comment_bytes = _ENTRY.unpack_from(directory, at)
        if signature != b"PK\x01\x02":
            return
        yield directory[at + _ENTRY.size : at + _ENTRY.size + name_bytes].lower()
        at += _ENTRY.size + name_bytes + extra_bytes + comment_bytes


def _local_names(head: bytes) -> Iterator[bytes]:
    """Names at the beginning of an archive that lost its end, as far as each header says where the next one is."""
    at = 0
    while at + _LOCAL.size <= len(head):
        signature, _, flags, packed, _, name_bytes, extra_bytes = _LOCAL.unpack_from(head, at)
        if signature != _ZIP_MARK:
            return
        yield head[at + _LOCAL.size : at + _LOCAL.size + name_bytes].lower()
        if flags & 0x8:
            return
        at += _LOCAL.size + name_bytes + extra_bytes + packed
