"""Markdown: the source stays the canonical text, CommonMark (with tables) says what its lines are.

Marks stay (`**`, `#`, links): what is shown and cited is what the author wrote. Only hard wraps inside paragraphs are
undone, so that a sentence is one sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.token import Token

from ingest.parsers import decoding, lines
from ingest.parsers.canonical import CanonicalText, clean
from rag_service import media_types
from rag_service.types import BlockKind, ParsedDocument

_KINDS: dict[str, BlockKind] = {
    "heading_open": "heading",
    "paragraph_open": "paragraph",
    "blockquote_open": "paragraph",
    "html_block": "paragraph",
    "hr": "paragraph",
    "bullet_list_open": "list",
    "ordered_list_open": "list",
    "table_open": "table",
    "fence": "code",
    "code_block": "code",
}
_FRONT_MATTER = re.compile(r"---[^\S\n]*\n(?:.*\n)*?(?:---|\.\.\.)[^\S\n]*(?:\n|$)")
_CONTAINER_PREFIX = re.compile(r"[ \t]*(?:>[ \t]?)*[ \t]*")
_HARD_BREAKS = ("  ", "\\")


class MarkdownParser:
    name = "markdown/1"
    media_types = (media_types.MARKDOWN,)
    suffixes = (".md", ".markdown")

    def parse(self, data: bytes) -> ParsedDocument:
        canonical = CanonicalText()
        add_markdown(canonical, decoding.decode(data))
        return canonical.document(self.name)


@dataclass(frozen=True, slots=True)
class _Extent:
    """Source lines [first, last) of one top-level block."""

    kind: BlockKind
    level: int | None
    first: int
    last: int


def add_markdown(canonical: CanonicalText, source: str) -> None:
    """Append the blocks of a Markdown text, in order, every non-blank line in exactly one block."""
    source = clean(source)
    front = _FRONT_MATTER.match(source)
    if front is not None:
        canonical.add("code", front.group())
        source = source[front.end() :]
    rows = source.split("\n")
    # Only blocks are asked for: what stands within a line is not parsed.
    tokens = MarkdownIt("commonmark").enable("table").disable("inline").parse(source)
    wraps = _soft_breaks(tokens, rows)
    for extent in _complete(_extents(tokens), len(rows)):
        canonical.add(extent.kind, _text(rows, extent, wraps), level=extent.level)


def _extents(tokens: list[Token]) -> Iterator[_Extent]:
    for token in tokens:
        if token.level == 0 and token.map is not None and token.type in _KINDS:
            level = int(token.tag[1]) if token.type == "heading_open" else None
            yield _Extent(_KINDS[token.type], level, token.map[0], token.map[1])


def _complete(extents: Iterator[_Extent], total: int) -> Iterator[_Extent]:
    """With paragraphs for the lines no block covers: link reference definitions leave no token."""
    line = 0
    for extent in extents:
        if extent.first > line:
            yield _Extent("paragraph", None, line, extent.first)
        yield extent
        line = max(line, extent.last)
    yield _Extent("paragraph", None, line, total)


def _soft_breaks(tokens: list[Token], rows: list[str]) -> set[int]:
    """Lines whose end is only a wrap: within a paragraph or heading, not a hard break, and the text looks wrapped."""
    runs = [token.map for token in tokens if token.type == "inline" and token.map and "\n" in token.content]
    width = lines.wrap_width([[_bare(row) for row in rows[first:last]] for first, last in runs])
    soft: set[int] = set()
    for first, last in runs:
        for row in range(first, last - 1):
            pair = [_bare(rows[row]), _bare(rows[row + 1])]
            if not rows[row].endswith(_HARD_BREAKS) and "\n" not in lines.unwrap(pair, width):
                soft.add(row)
    return soft


def _text(rows: list[str], extent: _Extent, wraps: set[int]) -> str:
    if extent.kind in ("code", "table"):
        return "\n".join(rows[extent.first : extent.last])
    out: list[list[str]] = []
    for row in range(extent.first, extent.last):
        if out and row - 1 in wraps:
            out[-1].append(_bare(rows[row]))
        else:
            out.append([rows[row]])
    return "\n".join(map(lines.flow, out))


def _bare(row: str) -> str:
    """A line without the marks of the quotes and lists it stands in."""
    return row[_CONTAINER_PREFIX.match(row).end() :]  # type: ignore[union-attr]  # the pattern matches everything
