"""Canonical text to chunks: exact slices at sentence boundaries, within a token limit, under their headings. Pure.

The chunks of a document are in order, do not overlap and together hold every character that is not white space. A
chunk begins where a section begins. Whole as long as they fit the limit are tables, then their rows, then cells; items
of lists with what is nested in them, then their parts; code, then its lines; sentences, then clauses, then words, with
URLs and numbers. A heading, a table's header and what ends in a colon stay with what follows, if both fit.

Of a table that had to be cut, every chunk that begins among its rows has the header row as its last heading, so that it
is embedded, indexed and shown with it. The limit is on the chunk's own text: headings come on top of it, a header row
with at most `HEADER_CHARACTERS`.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from rag_service.text import language_of, sentences
from rag_service.text.characters import HAN, KANA
from rag_service.types import Block, ChunkDraft, ParsedDocument

Count = Callable[[str], int]

_TINY_TOKENS = 40
"""Sections this small are merged with their equally small neighbours: alone they say too little to be found."""
_CHARACTERS_A_TOKEN = 8
"""More than any text of words has; a section longer than this many per token of the limit is not counted whole."""

HEADER_CHARACTERS = 200
"""Of a table's header row, as it is repeated: long contexts blur the vectors of the rows under it."""
_LONGEST_CHAIN = 16
"""Of pieces that each lead to the next: a form is full of colons, and each link costs a count of them all."""
_DEEPEST_LIST = 8
"""Items nested deeper than this are told apart by line only."""

_WIDE_MARKS, _MARKS = "，、：；", ",:;"
# Between digits wide marks stand in numbers and times.
_CLAUSE = re.compile(rf"(?:(?<!\d)[{_WIDE_MARKS}]+|[{_WIDE_MARKS}]+(?!\d))[」』”’）】》]*|[{_MARKS}]+(?=\s)")
_WORD = re.compile(r"\S+")
# Without spaces are written Han and kana, with their punctuation; full-width letters and digits make words.
_UNSPACED = f"{HAN}{KANA}‘“”…\u3000-\u303f\ufe30-\ufe4f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
_RUN = re.compile(rf"[{_UNSPACED}]+|[^{_UNSPACED}]+")
_IN_NUMBER = re.compile(r"\d[，．：]\d")
_ROW = re.compile(r"[^\n]*\S[^\n]*")
_CELL_END = re.compile(r"(?<!\\)\|")
_NUMBERED = r"\d{1,4}(?:[.)、．]|\.\d)|[(（][^\W_]{1,4}[)）]|[一二三四五六七八九十]{1,3}、|[A-Za-z][.)]\s|[①-⑳]"
_ITEM = re.compile(rf"([ \t>]*)(?:[-*+•·‣◦▪●○]\s|{_NUMBERED})")
_HEADING_MARKS = re.compile(r"^#{1,6}(?=\s|$)|\s#+\s*$|\n(?:=+|-+)\s*$")
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
    """What is never cut any more: `text[start:end]`, with its tokens.

    `opens` where a block or an item begins with it, `leads` where it says nothing without what follows it. `header` is
    that of the table it is a row of.
    """

    start: int
    end: int
    tokens: int
    opens: bool = False
    leads: bool = False
    header: str | None = None


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

    A chunk's `headings` are the titles over it from the outermost down, then the header row of the table it begins in;
    its page is that of its first character. The limit can be exceeded only by a single character that alone counts for
    more.
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
    return _bare(_HEADING_MARKS.sub("", heading))


def _bare(marked: str) -> str:
    return " ".join(_EMPHASIS.sub(r"\2", _LINK.sub(r"\1", marked)).split())


def _cuts(text: str, section: _Section, count: Count, limit: int) -> Iterator[_Cut]:
    start, end = section.start, section.end
    if end - start <= limit * _CHARACTERS_A_TOKEN:
        tokens = count(text[start:end])
        if tokens <= limit:
            family = (section.level, section.headings[:-1]) if section.level else None
            yield _Cut(section.headings, start, end, tokens, family)
            return
    pieces = [piece for block in section.blocks for piece in _pieces(text, block, count, limit)]
    for group in _groups(_led(text, pieces, count, limit), limit):
        yield from _verified(text, section.headings, group, count, limit)


def _led(text: str, pieces: Sequence[_Piece], count: Count, limit: int) -> list[_Piece]:
    """Pieces that lead as one with what they lead to, where both together fit. The last of a row of them goes first: a
    heading is left alone where the lead-in under it fits with its item, but not with the heading."""
    led: list[_Piece] = []
    chain = 0
    for piece in reversed(pieces):
        tokens = None
        if piece.leads and led and chain < _LONGEST_CHAIN:
            tokens = _counted(text, piece.start, led[-1].end, count, limit)
        if tokens is None:
            led.append(piece)
            chain = 0
        else:
            led[-1] = replace(piece, end=led[-1].end, tokens=tokens)
            chain += 1
    return led[::-1]


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
        header = group[0].header
        yield _Cut((*headings, header) if header else headings, start, end, tokens)


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
    if block.kind == "list":
        lines = [match.span() for match in _ROW.finditer(text, block.start, block.end)]
        yield from _items(text, lines, count, limit)
    elif block.kind == "paragraph":
        yield from _sentences(text, block.start, block.end, count, limit)
    elif (tokens := _counted(text, block.start, block.end, count, limit)) is not None:
        yield _Piece(block.start, block.end, tokens, opens=True, leads=block.kind == "heading")
    elif block.kind == "table":
        yield from _rows(text, block, count, limit)
    elif block.kind == "code":
        for number, row in enumerate(_ROW.finditer(text, block.start, block.end)):
            for inner, piece in enumerate(_fitting(text, *row.span(), count, limit, _FINER)):
                yield replace(piece, opens=True) if number == inner == 0 else piece
    else:
        yield from _leading(_sentences(text, block.start, block.end, count, limit))


def _sentences(text: str, start: int, end: int, count: Count, limit: int) -> Iterator[_Piece]:
    for number, span in enumerate(sentences(text, start, end)):
        for inner, piece in enumerate(_fitting(text, *span, count, limit, _FINER)):
            opens, leads = number == inner == 0, text[piece.end - 1] in "：:"
            yield replace(piece, opens=opens, leads=leads) if opens or leads else piece


def _leading(pieces: Iterator[_Piece]) -> Iterator[_Piece]:
    """`pieces`, the last of which leads."""
    *others, last = pieces
    yield from others
    yield replace(last, leads=True)


def _items(text: str, lines: Sequence[tuple[int, int]], count: Count, limit: int, depth: int = 0) -> Iterator[_Piece]:
    """The items of a list, each with its nested ones as long as they fit together; else these on their own, after what
    they belong to."""
    indents = [_indent(text, *line) for line in lines]
    least = min((indent for indent in indents if indent is not None), default=None)
    outer = [at for at, indent in enumerate(indents) if at == 0 or (indent is not None and indent == least)]
    for first, last in zip(outer, [*outer[1:], len(lines)], strict=True):
        start, end = lines[first][0], lines[last - 1][1]
        nested = next((at for at in range(first + 1, last) if indents[at] is not None), last)
        tokens = _counted(text, start, end, count, limit)
        if tokens is not None:
            yield _Piece(start, end, tokens, opens=True, leads=text[end - 1] in "：:")
        elif nested == last or depth == _DEEPEST_LIST:
            yield from _sentences(text, start, end, count, limit)
        else:
            yield from _leading(_sentences(text, start, lines[nested - 1][1], count, limit))
            yield from _items(text, lines[nested:last], count, limit, depth + 1)


def _indent(text: str, start: int, end: int) -> int | None:
    """How far a line is indented that begins an item; None for any other line."""
    item = _ITEM.match(text, start, end)
    return len(item[1].expandtabs(4)) if item else None


def _counted(text: str, start: int, end: int, count: Count, limit: int) -> int | None:
    """The tokens of `text[start:end]` if they fit the limit, without a count where they cannot."""
    if end - start > limit * _CHARACTERS_A_TOKEN:
        return None
    tokens = count(text[start:end])
    return tokens if tokens <= limit else None


def _rows(text: str, table: Block, count: Count, limit: int) -> Iterator[_Piece]:
    """The header with the rule under it, which leads, then the other rows."""
    rows = [match.span() for match in _ROW.finditer(text, table.start, table.end)]
    header = None
    if len(rows) > 2 and _is_rule(text[slice(*rows[1])]):
        header = _header(text[slice(*rows[0])])
        yield from _leading(_fitting(text, rows[0][0], rows[1][1], count, limit, _FINER_ROW))
        rows = rows[2:]
    for row in rows:
        for inner, piece in enumerate(_fitting(text, *row, count, limit, _FINER_ROW)):
            yield replace(piece, opens=inner == 0, header=header)


def _is_rule(row: str) -> bool:
    return "-" in row and not row.strip("|-: \t")


def _header(row: str) -> str:
    """The words of a header row, its first cells if it is long."""
    cells = [_bare(cell).replace("\\|", "|") for cell in _CELL_END.split(row)]
    header = ""
    for cell in filter(None, cells):
        longer = f"{header} | {cell}" if header else cell
        if len(longer) > HEADER_CHARACTERS:
            return header or cell[:HEADER_CHARACTERS]
        header = longer
    return header


def _fitting(text: str, start: int, end: int, count: Count, limit: int, finer: Sequence[Splitter]) -> Iterator[_Piece]:
    """`text[start:end]` as one piece if it fits, else cut by the first of `finer`, its parts by the others."""
    tokens = count(text[start:end])
    if tokens <= limit or end - start == 1:
        yield _Piece(start, end, tokens)
        return
    split, *others = finer
    for part_start, part_end in split(text, start, end, limit):
        yield from _fitting(text, part_start, part_end, count, limit, others or finer)


def _cells(text: str, start: int, end: int, limit: int) -> Iterator[tuple[int, int]]:
    """Before each mark between two cells of a row, so that every cell begins with its mark."""
    begin = start
    for match in _CELL_END.finditer(text, start + 1, end - 1):
        yield from _trimmed(text, begin, match.start())
        begin = match.start()
    yield from _trimmed(text, begin, end)


def _clauses(text: str, start: int, end: int, limit: int) -> Iterator[tuple[int, int]]:
    """After each clause mark; ASCII marks only before white space, so that 1,000 and 10:30 stay whole."""
    begin = start
    for match in _CLAUSE.finditer(text, start, end):
        yield from _trimmed(text, begin, match.end())
        begin = match.end()
    yield from _trimmed(text, begin, end)


def _words(text: str, start: int, end: int, limit: int) -> Iterator[tuple[int, int]]:
    return (match.span() for match in _WORD.finditer(text, start, end))


def _runs(text: str, start: int, end: int, limit: int) -> Iterator[tuple[int, int]]:
    """Where Chinese and what is written in words meet without a space: URLs, names and numbers stay whole."""
    begin = start
    for match in _RUN.finditer(text, start, end):
        if match.end() == end or not (_continues(text, match.end()) or _is_inside_number(text, match.end())):
            yield begin, match.end()
            begin = match.end()


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
_FINER: tuple[Splitter, ...] = (_clauses, _words, _runs, _characters)
_FINER_ROW: tuple[Splitter, ...] = (_cells, *_FINER)


def _is_inside_number(text: str, index: int) -> bool:
    """Whether a wide mark beside `index` stands between digits, as in １２，３４５．"""
    around = text[max(0, index - 2) : index + 2]
    return _IN_NUMBER.search(around) is not None


def _continues(text: str, index: int) -> bool:
    """Whether the character at `index` belongs to the one before it: marks, joiners, selectors, skin tones, the second
    half of a flag, vowels and finals of a Korean syllable."""
    character, before = text[index], text[index - 1]
    return (
        unicodedata.category(character) in ("Mn", "Mc", "Me")
        or character in _JOINERS
        or before == "\u200d"
        or "\U0001f3fb" <= character <= "\U0001f3ff"
        or "\U000e0020" <= character <= "\U000e007f"
        or (character in _FLAG_HALVES and before in _FLAG_HALVES and _halves_before(text, index) % 2 == 1)
        or ("\u1160" <= character <= "\u11ff" and "\u1100" <= before <= "\u11ff")
    )


_JOINERS = "\u200c\u200d"
_FLAG_HALVES = frozenset(map(chr, range(0x1F1E6, 0x1F200)))
_MOST_FLAG_HALVES = 64


def _halves_before(text: str, index: int) -> int:
    count = 0
    while count < min(index, _MOST_FLAG_HALVES) and text[index - count - 1] in _FLAG_HALVES:
        count += 1
    return count


def _trimmed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    body = text[start:end]
    begin = start + len(body) - len(body.lstrip())
    stop = begin + len(body.strip())
    if begin < stop:
        yield begin, stop
