"""Which files are taken: the content decides, and a name or a declared type that contradicts it is refused."""

from __future__ import annotations

import io
import mimetypes
import os
import struct
import zipfile
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_service import media_types
from rag_service.errors import UnsupportedType
from rag_service.media_types import (
    BMP,
    CSV,
    DOCX,
    EML,
    EPUB,
    HTML,
    JPEG,
    JSON,
    JSONL,
    MARKDOWN,
    OLE,
    PDF,
    PNG,
    PPTX,
    RTF,
    SUFFIXES,
    TEXT,
    TIFF,
    TSV,
    WEBP,
    XLSX,
    XML,
    ZIP,
)  # fmt: skip

PNG_FILE = b"\x89PNG\r\n\x1a\n" + bytes(64)
BMP_FILE = b"BM" + struct.pack("<IIII", 100, 0, 54, 40) + bytes(90)


def detect(name: str, content: bytes, declared: str | None = "application/octet-stream") -> str:
    return media_types.detect(name, declared, io.BytesIO(content))


def zipped(*names: str, before: bytes = b"", comment: bytes = b"", **contents: bytes) -> bytes:
    stream = io.BytesIO(before)
    stream.seek(0, 2)
    with zipfile.ZipFile(stream, "a") as archive:
        for name in names:
            archive.writestr(name, contents.get(name, b"x"))
        archive.comment = comment
    return stream.getvalue()


WORD = zipped("[Content_Types].xml", "_rels/.rels", "word/document.xml")
SLIDES = zipped("[Content_Types].xml", "ppt/presentation.xml")
SHEETS = zipped("[Content_Types].xml", "xl/workbook.xml")
BOOK = zipped("mimetype", "META-INF/container.xml", mimetype=b"application/epub+zip")


@pytest.mark.parametrize(
    ("name", "content", "media_type"),
    [
        ("a.txt", "你好".encode(), TEXT),
        ("A.TXT", "你好".encode("gb18030"), TEXT),
        ("a.log", b"MZ-80K, BM, and other words that begin like programs", TEXT),
        ("a.txt", "plain".encode("utf-16"), TEXT),
        ("a.srt", "plain without a mark".encode("utf-16-le"), TEXT),
        ("a.txt", b"The mark %PDF-1.7 begins a PDF.", TEXT),
        ("a.md", b"# Title", MARKDOWN),
        ("a.html", b"<p>x", HTML),
        ("a.xhtml", b"\n\n<!doctype html>", HTML),
        ("a.xml", b"<?xml version='1.0'?><rss/>", XML),
        ("a.csv", b"a,b", CSV),
        ("a.tsv", b"a\tb", TSV),
        ("a.json", b"{}", JSON),
        ("a.ndjson", b"{}\n{}", JSONL),
        ("a.eml", b"Subject: x\n\ny", EML),
        ("a.rtf", b"{\\rtf1 x}", RTF),
        ("a.pdf", b"%PDF-1.7", PDF),
        ("a.pdf", b"junk before\n%PDF-1.4", PDF),
        ("a.pdf", b"\x1b%-12345X@PJL\r\n%PDF-1.4", PDF),
        ("a.docx", WORD, DOCX),
        ("a.docm", WORD, DOCX),
        ("a.docx", WORD[:100], DOCX),
        ("a.docx", OLE, DOCX),
        ("a.xlsx", SHEETS, XLSX),
        ("a.pptx", SLIDES, PPTX),
        ("a.epub", BOOK, EPUB),
        ("a.zip", zipped("word/notes.txt"), ZIP),
        ("a.zip", zipped(), ZIP),
        ("a.png", PNG_FILE, PNG),
        ("a.jpeg", b"\xff\xd8\xff\xe0", JPEG),
        ("a.tif", b"II*\x00", TIFF),
        ("a.bmp", BMP_FILE, BMP),
        ("a.webp", b"RIFF\x10\0\0\0WEBPVP8 ", WEBP),
        ("empty.pdf", b"", PDF),
        ("empty", b"", TEXT),
    ],
)
def test_a_file_is_what_its_name_says_where_its_content_allows_it(name: str, content: bytes, media_type: str) -> None:
    assert detect(name, content) == media_type


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"%PDF-1.7", PDF),
        (b"just text", TEXT),
        (b"<!DOCTYPE html><p>x", HTML),
        (b"<?xml version='1.0'?><a/>", XML),
        (PNG_FILE, PNG),
        (WORD, DOCX),
        (BOOK, EPUB),
        (zipped("a.txt"), ZIP),
        (b"{\\rtf1 x}", RTF),
        (bytes(100) + b"%PDF-1.4", PDF),
    ],
)
@pytest.mark.parametrize("name", ["report", "会议纪要.第三版", "v1.2", "Minutes of Dr. Smith"])
def test_a_file_without_a_suffix_is_taken_by_its_content(name: str, content: bytes, media_type: str) -> None:
    assert detect(name, content) == media_type
    assert detect(name, content, None) == media_type


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.txt", b"%PDF-1.7", "a PDF"),
        ("a.md", WORD, "a Word document"),
        ("a.html", PNG_FILE, "PNG"),
        ("a.txt", b"\xff\xd8\xff\xe0", "JPEG"),
        ("a.txt", b"\x7fELF", "ELF"),
        ("a.txt", b"\x1f\x8b\x08\x00", "gzip"),
        ("a.txt", b"abc\x00\x00\x01def\x00", "NUL"),
        ("a.txt", b"{\\rtf1 x}", "RTF"),
        ("a.pdf", PNG_FILE, "PNG"),
        ("a.pdf", b"hello", "text"),
        ("a.pdf", bytes(1024) + b"%PDF-", "NUL"),
        ("a.docx", b"%PDF-1.7", "a PDF"),
        ("a.docx", b"plain text", "text"),
        ("a.docx", SHEETS, "a workbook"),
        ("a.docx", zipped("a.txt"), "a ZIP archive"),
        ("a.xlsx", zipped(), "an empty ZIP archive"),
        ("a.zip", WORD, "a Word document"),
        ("a.zip", WORD[:100], "an Office document"),
        ("a.epub", SLIDES, "a PowerPoint document"),
        ("a.docx", zipped("mimetype", mimetype=b"application/vnd.oasis.opendocument.text"), "OpenDocument"),
        ("a.jpg", PNG_FILE, "PNG"),
        ("a.png", b"GIF89a", "GIF"),
        ("a.rtf", b"text", "text"),
    ],
)
def test_a_wrong_extension_is_told_with_what_was_found(name: str, content: bytes, found: str) -> None:
    with pytest.raises(UnsupportedType) as caught:
        detect(name, content)
    assert found in str(caught.value.data["found"])
    assert caught.value.data["expected"] == SUFFIXES[name[1:]]


POLYGLOTS = {
    "an image that is a PDF": b"GIF89a" + bytes(894) + b"%PDF-1.7\n",
    "a program that is a PDF": b"MZ\x01\x02" + bytes(80) + b"%PDF-1.7\n",
    "a page that is a PDF": b"<html><script>x()</script>\n%PDF-1.7\n",
    "a script that is a PDF": b"#!/bin/sh\n%PDF-1.7\n",
    "an archive that is a PDF": zipped("%PDF-1.7"),
    "a tape archive that is a PDF": b"%PDF-1.7".join((bytes(100), bytes(149))) + b"ustar\x0000",
    "an image that is an archive": zipped("a.txt", before=b"GIF89a" + bytes(100)),
}


@pytest.mark.parametrize("content", POLYGLOTS.values(), ids=POLYGLOTS.keys())
def test_a_file_that_begins_as_another_format_is_refused(content: bytes) -> None:
    with pytest.raises(UnsupportedType) as caught:
        detect("a.pdf", content)
    assert caught.value.data["found"]


def test_an_archive_behind_an_image_is_no_archive() -> None:
    with pytest.raises(UnsupportedType):
        detect("a.zip", POLYGLOTS["an image that is an archive"])


@pytest.mark.parametrize(
    ("name", "advice"),
    [("a.doc", ".docx"), ("a.xls", ".xlsx"), ("a.ppt", ".pptx"), ("a.gz", ".zip"), ("a.msg", ".eml"), ("a.exe", "")],
)
def test_a_suffix_nobody_parses_is_refused_with_what_to_do(name: str, advice: str) -> None:
    with pytest.raises(UnsupportedType) as caught:
        detect(name, b"text")
    assert f"{advice})" in caught.value.detail or not advice
    assert caught.value.data["supported"] == sorted(SUFFIXES)


@pytest.mark.parametrize("content", [b"\x7fELF\x02", b"GIF89a", OLE, b"\x1f\x8b\x08", bytes(9)])
def test_content_nobody_parses_is_refused_without_a_suffix_too(content: bytes) -> None:
    with pytest.raises(UnsupportedType) as caught:
        detect("report", content)
    assert caught.value.data["found"]


@pytest.mark.parametrize(
    ("name", "content", "declared"),
    [
        ("a.pdf", b"%PDF-1.7", "image/png"),
        ("a.txt", b"text", "application/pdf"),
        ("a.txt", b"text", "video/mp4"),
        ("a.md", b"text", "text/html"),
        ("a.json", b"{}", "text/csv; charset=utf-8"),
        ("a.docx", WORD, XLSX),
        ("report", PNG_FILE, "application/pdf"),
        ("report", b"text", "application/zip"),
        ("a.csv", b"a,b", "application/gzip"),
        ("a.png", PNG_FILE, "image/gif"),
    ],
)
def test_a_declared_type_that_is_untrue_is_refused(name: str, content: bytes, declared: str) -> None:
    with pytest.raises(UnsupportedType) as caught:
        detect(name, content, declared)
    assert {"expected", "found"} <= caught.value.data.keys()


@pytest.mark.parametrize(
    ("name", "content", "declared", "media_type"),
    [
        ("notes", b"# x", "text/markdown; charset=utf-8", MARKDOWN),
        ("page", b"<p>x", "Text/HTML", HTML),
        ("a.csv", b"a,b", "application/vnd.ms-excel", CSV),
        ("a.rtf", b"{\\rtf1}", "application/msword", RTF),
        ("a.zip", zipped("a"), "application/x-zip-compressed", ZIP),
        ("a.xml", b"<a/>", "application/rss+xml", XML),
        ("a.txt", b"text", "text/html", TEXT),
        ("a.bmp", BMP_FILE, "image/x-ms-bmp", BMP),
        ("a.pdf", b"%PDF-1.7", "application/x-unheard-of", PDF),
        ("a.pdf", b"%PDF-1.7", "text/plain", PDF),
        ("a.docm", WORD, "application/vnd.ms-word.document.macroEnabled.12", DOCX),
    ],
)
def test_what_clients_really_declare_is_no_lie(name: str, content: bytes, declared: str, media_type: str) -> None:
    assert detect(name, content, declared) == media_type


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_client_that_guesses_from_the_suffix_is_believed(suffix: str) -> None:
    samples = {
        DOCX: WORD, PPTX: SLIDES, XLSX: SHEETS, EPUB: BOOK, ZIP: zipped("a"), PDF: b"%PDF-1", RTF: b"{\\rtf1}",
        PNG: PNG_FILE, JPEG: b"\xff\xd8\xff", TIFF: b"II*\0", BMP: BMP_FILE, WEBP: b"RIFF\0\0\0\0WEBP",
    }  # fmt: skip
    kind = SUFFIXES[suffix]
    assert detect(f"a{suffix}", samples.get(kind, b"text"), mimetypes.guess_type(f"a{suffix}")[0]) == kind


def test_a_zip_is_told_apart_with_a_comment_and_with_bytes_before_it() -> None:
    padded = zipped("[Content_Types].xml", "word/document.xml", comment=b"c" * 60_000)
    assert detect("a.docx", padded) == DOCX
    with pytest.raises(UnsupportedType):
        detect("a.txt", padded)


def test_a_directory_of_millions_of_entries_is_not_read() -> None:
    class Counted(io.BytesIO):
        taken = 0

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            Counted.taken += len(data)
            return data

    entry = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    directory = entry * 300_000
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, len(directory), 30, 0)
    content = Counted(b"PK\x03\x04" + bytes(26) + directory + end)

    assert media_types.detect("a.zip", None, content) == ZIP
    assert Counted.taken < 1_300_000


@given(st.binary(max_size=2_000), st.sampled_from(["a.pdf", "a.docx", "a.zip", "a.txt", "a", "a.png"]))
def test_any_bytes_are_typed_or_refused(content: bytes, name: str) -> None:
    with suppress(UnsupportedType):
        assert detect(name, content) in SUFFIXES.values()


@given(st.integers(0, len(BOOK)), st.binary(max_size=40))
def test_a_damaged_archive_is_typed_or_refused(at: int, garbage: bytes) -> None:
    for whole in (WORD, BOOK, SHEETS):
        damaged = whole[:at] + garbage + whole[at + len(garbage) :]
        with suppress(UnsupportedType):
            assert detect("a", damaged) in SUFFIXES.values()


def test_random_bytes_are_no_text() -> None:
    with pytest.raises(UnsupportedType):
        detect("a.txt", b"\x00\x01" + os.urandom(4_000))
