"""Canonical text to chunks: exact slices at sentence boundaries, within a token limit, under their headings. Pure.

The chunks of a document are in order, do not overlap and together hold every character that is not white space. A
chunk begins where a section begins; it ends inside a sentence only where that sentence alone is over the limit.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from rag_service.text import language_of, sentences
from rag_service.types import Block, ChunkDraft, ParsedDocument

Count = Callable[[str], int]

_TINY_TOKENS = 40
"""Sections this small are merged with their equally small neighbours: alone they say too little to be found."""
_CHARACTERS_A_TOKEN = 8
"""More than any text of words has; a section longer than this many per token of the limit is not counted whole."""

_WIDE_MARKS, _MARKS = "，、：；", ",:;"
_CLAUSE = re.compile(rf"[{_WIDE_MARKS}]+[」』”’）】》]*|[{_MARKS}]+(?=\s)")
_WORD = re.compile(r"\S+")
_ROW = re.compile(r"[^\n]*\S[^\n]*")
_HEADING_MARKS = re.compile(r"^#{1,6}(?=\s|$)|\s#+\s*$|\n(?:=+|-+)\s*$")
_JOINER = "\u200d"
_EMPHASIS = re.compile(r"(\*{1,3}|`+)(.+?)\1")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")


@dataclass(frozen=True, slots=True)
class _Section:
    """Headings that follow one another, with all blocks up to the next heading; `level` is the last heading's."""

    headings: tuple[str, ...]
    level: int
    blocks: tuple[Block, ...]

    @property
    def start(self) -> int:
        return self.blocks[0].start

    @property
    def end(self) -> int:
        return self.blocks[-1].end


@dataclass(frozen=True, slots=True)
class _Piece:
    """What is never cut any more: `text[start:end]`, with its tokens; `opens` where a block begins with it."""

    start: int
    end: int
    tokens: int
    opens: bool = False


@dataclass(frozen=True, slots=True)
class _Cut:
    """A chunk's extent. `family` is what siblings share: level and parents; None for a part of a section."""

    headings: tuple[str, ...]
    start: int
    end: int
    tokens: int
    family: tuple[int, tuple[str, ...]] | None = None


def chunk(parsed: ParsedDocument, count_tokens: Count, limit_tokens: int = 320) -> list[ChunkDraft]:
    """Chunks in text order, none over `limit_tokens` by `count_tokens` of its text.

    A chunk's `headings` are the titles over it from the outermost down; its page is that of its first character. The
    limit can be exceeded only by a single character that alone counts for more.
    """
    cuts: list[_Cut] = []
    for section in _sections(parsed):
        for cut in _cuts(parsed.text, section, count_tokens, limit_tokens):
            merged = _merged(parsed.text, cuts[-1], cut, count_tokens, limit_tokens) if cuts else None
            if merged is None:
                cuts.append(cut)
            else:
                cuts[-1] = merged
    return _drafts(parsed, cuts)


def _drafts(parsed: ParsedDocument, cuts: Sequence[_Cut]) -> list[ChunkDraft]:
    drafts: list[ChunkDraft] = []
    blocks = iter(parsed.blocks)
    block = next(blocks, None)
    for ordinal, cut in enumerate(cuts):
        while block is not None and block.end <= cut.start:
            block = next(blocks, None)
        text = parsed.text[cut.start : cut.end]
        page = block.page if block is not None else None
        language = language_of(text)
        drafts.append(ChunkDraft(ordinal, text, cut.start, cut.end, page, cut.headings, language, tokens=cut.tokens))
    return drafts


def _sections(parsed: ParsedDocument) -> Iterator[_Section]:
    """Split before each heading, but not between headings that have no text of their own between them."""
    path: list[tuple[int, str]] = []
    blocks: list[Block] = []
    for block in parsed.blocks:
        if block.kind == "heading":
            if any(held.kind != "heading" for held in blocks):
                yield _section(path, blocks)
                blocks = []
            level = block.level or 1
            path = [entry for entry in path if entry[0] < level]
            path.append((level, title(parsed.text[block.start : block.end])))
        blocks.append(block)
    if blocks:
        yield _section(path, blocks)


def _section(path: Sequence[tuple[int, str]], blocks: Sequence[Block]) -> _Section:
    titles = tuple(name for _, name in path if name)
    return _Section(titles, path[-1][0] if path else 0, tuple(blocks))


def title(heading: str) -> str:
    """A heading's words, without Markdown's marks."""
    bare = _LINK.sub(r"\1", _HEADING_MARKS.sub("", heading))
    return " ".join(_EMPHASIS.sub(r"\2", bare).split())


def _cuts(text: str, section: _Section, count: Count, limit: int) -> Iterator[_Cut]:
    start, end = section.start, section.end
    if end - start <= limit * _CHARACTERS_A_TOKEN:
        tokens = count(text[start:end])
        if tokens <= limit:
            family = (section.level, section.headings[:-1]) if section.level else None
            yield _Cut(section.headings, start, end, tokens, family)
            return
    pieces = [piece for block in section.blocks for piece in _pieces(text, block, count, limit)]
    for group in _groups(pieces, limit):
        yield from _verified(text, section.headings, group, count, limit)


def _groups(pieces: Sequence[_Piece], limit: int) -> Iterator[list[_Piece]]:
    """Neighbours put together to about equal shares of the section, cut rather where a block begins."""
    total = sum(piece.tokens for piece in pieces)
    share = total / math.ceil(total / limit) if total else limit
    group: list[_Piece] = []
    tokens = 0
    for piece in pieces:
        enough = share * 0.7 if piece.opens else share
        if group and (tokens + piece.tokens > limit or tokens >= enough):
            yield group
            group, tokens = [], 0
        group.append(piece)
        tokens += piece.tokens
    if group:
        yield group


def _verified(
    text: str, headings: tuple[str, ...], group: Sequence[_Piece], count: Count, limit: int
) -> Iterator[_Cut]:
    """The group as one chunk; as two, where its text counts for more than its pieces did."""
    start, end = group[0].start, group[-1].end
    tokens = group[0].tokens if len(group) == 1 else count(text[start:end])
    if tokens > limit and len(group) > 1:
        middle = len(group) // 2
        yield from _verified(text, headings, group[:middle], count, limit)
        yield from _verified(text, headings, group[middle:], count, limit)
    else:
        yield _Cut(headings, start, end, tokens)


def _merged(text: str, before: _Cut, cut: _Cut, count: Count, limit: int) -> _Cut | None:
    """Two tiny neighbouring sections of one parent as one chunk under that parent, or None."""
    tiny = min(_TINY_TOKENS, limit // 2)
    if cut.family is None or cut.family != before.family or max(before.tokens, cut.tokens) >= tiny:
        return None
    tokens = count(text[before.start : cut.end])
    if tokens > limit:
        return None
    return replace(before, headings=cut.family[1], end=cut.end, tokens=tokens)


def _pieces(text: str, block: Block, count: Count, limit: int) -> Iterator[_Piece]:
    """A block's sentences; a heading, a table or code whole where it fits, else by rows."""
    spans = list(_spans(text, block))
    if block.kind in ("heading", "table", "code") and len(spans) > 1:
        tokens = count(text[block.start : block.end])
        if tokens <= limit:
            yield _Piece(block.start, block.end, tokens, opens=True)
            return
    for number, (start, end) in enumerate(spans):
        for inner, piece in enumerate(_fitting(text, start, end, count, limit, _FINER)):
            yield replace(piece, opens=True) if number == inner == 0 else piece


def _spans(text: str, block: Block) -> Iterator[tuple[int, int]]:
    if block.kind in ("table", "code"):
        return (match.span() for match in _ROW.finditer(text, block.start, block.end))
    return sentences(text, block.start, block.end)


def _fitting(text: str, start: int, end: int, count: Count, limit: int, finer: Sequence[Splitter]) -> Iterator[_Piece]:
    """`text[start:end]` as one piece if it fits, else cut by the first of `finer`, its parts by the others."""
    tokens = count(text[start:end])
    if tokens <= limit or end - start == 1:
        yield _Piece(start, end, tokens)
        return
    split, *others = finer
    for part_start, part_end in split(text, start, end, limit):
        yield from _fitting(text, part_start, part_end, count, limit, others or finer)


def _clauses(text: str, start: int, end: int, limit: int) -> Iterator[tuple[int, int]]:
    """After each clause mark; ASCII marks only before white space, so that 1,000 and 10:30 stay whole."""
    begin = start
    for match in _CLAUSE.finditer(text, start, end):
        yield from _trimmed(text, begin, match.end())
        begin = match.end()
    yield from _trimmed(text, begin, end)


def _words(text: str, start: int, end: int, limit: int) -> Iterator[tuple[int, int]]:
    return (match.span() for match in _WORD.finditer(text, start, end))


def _characters(text: str, start: int, end: int, limit: int) -> Iterator[tuple[int, int]]:
    """Slices of at most `limit` characters, at least two of them, none beginning with a combining character."""
    step = min(limit, max(1, (end - start) // 2))
    while start < end:
        stop = min(start + step, end)
        safe = stop
        while start < safe < end and _continues(text, safe):
            safe -= 1
        # A cluster longer than a slice is cut after all.
        stop = safe if safe > start else stop
        yield start, stop
        start = stop


Splitter = Callable[[str, int, int, int], Iterator[tuple[int, int]]]
_FINER: tuple[Splitter, ...] = (_clauses, _words, _characters)


def _continues(text: str, index: int) -> bool:
    """Whether the character at `index` belongs to the one before it: marks, joiners, selectors, skin tones."""
    character = text[index]
    return (
        unicodedata.category(character) in ("Mn", "Mc", "Me")
        or character == _JOINER
        or text[index - 1] == _JOINER
        or "\U0001f3fb" <= character <= "\U0001f3ff"
    )


def _trimmed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    body = text[start:end]
    begin = start + len(body) - len(body.lstrip())
    stop = begin + len(body.strip())
    if begin < stop:
        yield begin, stop
