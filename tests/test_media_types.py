"""Which files are taken, by name and first bytes."""

from __future__ import annotations

import pytest

from rag_service.errors import UnsupportedType
from rag_service.media_types import DOCX, HTML, MARKDOWN, OLE, PDF, SUFFIXES, TEXT, detect

PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)


@pytest.mark.parametrize(
    ("name", "head", "media_type"),
    [
        ("a.txt", "你好".encode(), TEXT),
        ("A.TXT", "你好".encode("gb18030"), TEXT),
        ("a.txt", "plain".encode("utf-16"), TEXT),
        ("a.txt", "plain without a mark".encode("utf-16-le"), TEXT),
        ("a.md", b"# Title", MARKDOWN),
        ("a.html", b"<p>x", HTML),
        ("a.htm", b"\n\n<!doctype html>", HTML),
        ("a.pdf", b"%PDF-1.7", PDF),
        ("a.pdf", b"junk before\n%PDF-1.4", PDF),
        ("a.docx", b"PK\x03\x04" + bytes(30), DOCX),
        ("a.docx", OLE, DOCX),
        ("empty.pdf", b"", PDF),
    ],
)
def test_a_file_is_what_its_name_and_its_first_bytes_say(name: str, head: bytes, media_type: str) -> None:
    assert detect(name, "application/octet-stream", head) == media_type


@pytest.mark.parametrize(
    ("name", "head", "found"),
    [
        ("a.txt", b"%PDF-1.7", "a PDF"),
        ("a.md", b"PK\x03\x04", "ZIP"),
        ("a.html", PNG, "PNG"),
        ("a.txt", b"\xff\xd8\xff\xe0", "JPEG"),
        ("a.txt", b"\x7fELF", "ELF"),
        ("a.txt", b"\x1f\x8b\x08\x00", "gzip"),
        ("a.txt", b"abc\x00\x00\x01def\x00", "NUL"),
        ("a.pdf", PNG, "PNG"),
        ("a.pdf", b"hello", "no %PDF"),
        ("a.pdf", bytes(1024) + b"%PDF-", "no %PDF"),
        ("a.docx", b"%PDF-1.7", "a PDF"),
        ("a.docx", b"plain text", "no ZIP"),
    ],
)
def test_a_wrong_extension_is_told_with_what_was_found(name: str, head: bytes, found: str) -> None:
    with pytest.raises(UnsupportedType) as caught:
        detect(name, None, head)
    assert found in str(caught.value.data["found"])
    assert caught.value.data["expected"] == SUFFIXES[name[1:]]


@pytest.mark.parametrize("name", ["a.exe", "a.docx.zip", "a", "", ".txt.", "a.doc"])
def test_a_suffix_nobody_parses_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(UnsupportedType) as caught:
        detect(name, None, b"text")
    assert ".pdf" in caught.value.detail


def test_a_name_without_a_suffix_is_what_the_client_declares() -> None:
    assert detect("notes", "text/markdown; charset=utf-8", b"# x") == MARKDOWN
