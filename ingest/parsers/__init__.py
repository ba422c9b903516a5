"""Parsers: bytes of one format to canonical text with its structure, behind one port.

This package is light: the libraries are imported by `ingest.parsers.registry`, which only the parsing process loads.

Canonical text has `\\n` line ends, no control characters, no white space at line ends and none at either end, at most
one blank line in a row, and is otherwise as written (no Unicode normalisation).

A document that cannot become text raises `ParseFailed` with one of `REASONS`.
"""

from __future__ import annotations

from typing import Protocol

from rag_service.types import ParsedDocument

REASONS: dict[str, str] = {
    # told by a parser
    "empty": "the file holds nothing but white space",
    "no-text": "the document has pages or images but no text (a scan without an OCR layer, and no OCR installed)",
    "encoding": "the text is in no encoding that could be told with confidence, or was damaged by an earlier one",
    "encrypted": "the document is protected by a password",
    "broken": "the file does not have the structure of its format; data: error, the library's error",
    "xml-dtd": "a part of the document declares a DTD, which hides or multiplies text",
    "decompression-limit": "the document inflates to more than is allowed; data: limit_bytes",
    "archive-overlap": "parts of the ZIP container share bytes, so that a little inflates to a lot",
    # told by the sandbox
    "parse-timeout": "parsing took longer than is allowed; data: limit_seconds",
    "memory-limit": "parsing needed more memory than is allowed; data: limit_bytes",
    "output-limit": "the document's text is longer than is allowed; data: limit_bytes",
    "crashed": "the parsing process died; data: signal or exit_status",
}


class Parser(Protocol):
    """One format. `parse` is called in a process of its own and may be killed at any time."""

    @property
    def name(self) -> str: ...

    @property
    def media_types(self) -> tuple[str, ...]: ...

    @property
    def suffixes(self) -> tuple[str, ...]: ...

    def parse(self, data: bytes) -> ParsedDocument:
        """The whole document, never a part of it; raises ParseFailed with one of `REASONS`."""
        ...
