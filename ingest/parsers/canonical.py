"""Canonical text under construction: blocks go in, offsets come out."""

from __future__ import annotations

import re

from rag_service.errors import ParseFailed
from rag_service.types import Block, BlockKind, ParsedDocument

# Characters that stand for nothing a reader sees: controls but tab and newline, soft hyphen, zero-width space, word
# joiner, byte order mark, lone surrogates (not storable as UTF-8), non-characters.
_DROPPED = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u2060\ufeff\ud800-\udfff\ufffe\uffff]")
_LINE_END = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_TRAILING = re.compile(r"(?<![^\S\n])[^\S\n]++$", re.MULTILINE)
_RULE = re.compile(r"\n[ |:\-]*(?=\n|$)")
"""Of a table, below its header: strokes there are nobody's cells, elsewhere they are."""
_BLANK_LINES = re.compile(r"\n{3,}")


def clean(text: str) -> str:
    """One line end, no invisible controls; everything else stays, and so does the number of lines."""
    return _DROPPED.sub("", _LINE_END.sub("\n", text))


class CanonicalText:
    """Collects blocks in reading order and joins them with one blank line."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._blocks: list[Block] = []
        self._length = 0

    @property
    def length(self) -> int:
        """Characters so far."""
        return self._length

    def add(self, kind: BlockKind, text: str, *, page: int | None = None, level: int | None = None) -> None:
        """Append one block; one of white space alone, or a table of empty cells, is left out."""
        body = _BLANK_LINES.sub("\n\n", _TRAILING.sub("", clean(text)))
        body = body.strip("\n") if kind in ("code", "list") else body.strip()
        if not body.strip() or (kind == "table" and not _RULE.sub("", body, count=1).strip("| \n")):
            return
        if self._parts:
            self._parts.append("\n\n")
            self._length += 2
        start = self._length
        self._parts.append(body)
        self._length += len(body)
        self._blocks.append(Block(kind, start, self._length, page, level))

    def document(self, parser: str, *, pages: int | None = None, otherwise: str = "empty") -> ParsedDocument:
        """The finished document; raises ParseFailed(`otherwise`) when no block went in."""
        if not self._blocks:
            detail = "the file holds no text" if otherwise == "empty" else "no page of the document holds text"
            raise ParseFailed(otherwise, detail)
        return ParsedDocument("".join(self._parts), tuple(self._blocks), pages, parser)
