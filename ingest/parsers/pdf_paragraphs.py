"""Lines to paragraphs by where they stand; paragraphs joined over the ends of columns and pages; footnotes apart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from ingest.parsers import lines as text_lines
from ingest.parsers.pdf_lines import Line, ends_sentence, is_wide
from ingest.parsers.pdf_tables import Table

_SAME_SIZE = 0.12
_SMALLER = 0.93
_SHORT_COLUMNS = 30
"""A line shorter than this that ends in the middle of its column was not wrapped."""
_CLAUSE_ENDS = frozenset("，、,；;")
_NOTE = re.compile(
    r"(?:(\d{1,3})(?![\d.,:/%年月日-])|[*†‡§¶]+|([\u2460-\u2473])|[\[［〔](\d{1,3})[\]］〕]|注[\d:：])\s*\S"
)
_CONTENTS = re.compile(r"(?:\.\s?){4,}\s*[\divxlc]+\s*$|(?:…|·\s?){2,}\s*\d+\s*$", re.IGNORECASE)
_BULLET = re.compile(r"\s*[-*+•·●○■◆▪▫◦‣➢❖✓–—]\s")


@dataclass(slots=True)
class Paragraph:
    """Lines that belong together. `page` is where it begins; `edge` and `margin` are its column's sides."""

    lines: list[Line]
    page: int
    edge: float
    margin: float
    is_note: bool = False

    @property
    def first(self) -> Line:
        return self.lines[0]

    @property
    def last(self) -> Line:
        return self.lines[-1]


@dataclass(frozen=True, slots=True)
class PlacedTable:
    table: Table
    page: int


Element = Paragraph | PlacedTable


@dataclass(frozen=True, slots=True)
class Column:
    """One region of a page, from the top down."""

    items: Sequence[Line | Table]
    page: int
    is_aside: bool = False
    """Set in another direction than the page's."""


def elements(columns: Sequence[Column], body_size: float) -> list[Element]:
    """All columns of a document in reading order; a page's footnotes stand at its end."""
    found: list[Element] = []
    notes: list[Element] = []
    page = 0
    for column in columns:
        if column.page != page:
            found += notes
            notes, page = [], column.page
        items, note_lines = _without_notes(column.items, body_size)
        notes += _notes(note_lines, column.page)
        paragraphs = list(_paragraphs(items, column.page))
        if column.is_aside:
            notes += [replace(e, is_note=True) if isinstance(e, Paragraph) else e for e in paragraphs]
        else:
            _append(found, paragraphs)
    return found + notes


def _append(found: list[Element], column: Sequence[Element]) -> None:
    """Add a column's elements; its first paragraph may go on with the last one before, past tables and notes."""
    first = next((e for e in column if isinstance(e, Paragraph)), None)
    last = next((e for e in reversed(found[-12:]) if isinstance(e, Paragraph) and not e.is_note), None)
    if first is not None and last is not None and _goes_on(last, first):
        last.lines.extend(first.lines)
        last.edge, last.margin = first.edge, first.margin
        found += [element for element in column if element is not first]
    else:
        found += column


def _goes_on(before: Paragraph, paragraph: Paragraph) -> bool:
    last, first = before.last, paragraph.first
    size = max(last.size, first.size, 1.0)
    if abs(last.size - first.size) > _SAME_SIZE * size or last.bold != first.bold or len(last.text) < 2:
        return False
    if text_lines.starts_item(first.text) or first.left > paragraph.margin + 0.8 * size:
        return False
    # Only what fills its line was wrapped: not a short line that stands at the right side.
    if last.right < before.edge - 2.5 * size or last.right - last.left < 0.5 * (before.edge - before.margin):
        return False
    ending, beginning = last.text.rstrip()[-1:], first.text.lstrip()[:1]
    if ends_sentence(last.text) and not (ending in '）)”"' and beginning.islower()):
        return False
    return beginning.islower() or is_wide(beginning) or ending in _CLAUSE_ENDS or ending in "-\u2010" or (
        before.first is not before.last and beginning.isalnum()
    )  # fmt: skip


def _without_notes(items: Sequence[Line | Table], body_size: float) -> tuple[list[Line | Table], list[Line]]:
    """A column's items and, from the first line with a mark on, the small lines it ends with."""
    start = len(items)
    while start and isinstance(item := items[start - 1], Line) and item.size < _SMALLER * body_size:
        start -= 1
    if start == 0:
        return list(items), []
    lines = [item for item in items[start:] if isinstance(item, Line)]
    first = next((number for number, line in enumerate(lines) if _NOTE.match(line.text)), None)
    if first is None:
        return list(items), []
    return [*items[:start], *lines[:first]], lines[first:]


def _notes(lines: Iterable[Line], page: int) -> list[Element]:
    """One paragraph each; a number begins a note only where it is the next one."""
    found: list[Element] = []
    number: int | None = None
    edge = margin = 0.0
    for line in lines:
        edge, margin = max(edge, line.right), line.left
        mark = _NOTE.match(line.text)
        told = _number(mark) if mark else None
        if mark and (not found or told is None or number is None or told == number + 1):
            found.append(Paragraph([line], page, edge, margin, is_note=True))
            number = told
        else:
            last = found[-1]
            assert isinstance(last, Paragraph)
            last.lines.append(line)
    return found


def _number(mark: re.Match[str]) -> int | None:
    if mark.group(2):
        return ord(mark.group(2)) - 0x245F
    digits = mark.group(1) or mark.group(3)
    return int(digits) if digits else None


def _paragraphs(items: Sequence[Line | Table], page: int) -> Iterator[Element]:
    """Lines grouped by where they stand."""
    lines = [item for item in items if isinstance(item, Line)]
    edge = max((line.right for line in lines), default=0.0)
    margin = min((line.left for line in lines), default=0.0)
    open_lines: list[Line] = []
    for item in items:
        if isinstance(item, Table):
            if open_lines:
                yield Paragraph(open_lines, page, edge, margin)
                open_lines = []
            yield PlacedTable(item, page)
            continue
        if open_lines and _begins_paragraph(open_lines, item, edge):
            yield Paragraph(open_lines, page, edge, margin)
            open_lines = []
        open_lines.append(item)
    if open_lines:
        yield Paragraph(open_lines, page, edge, margin)


def _begins_paragraph(paragraph: Sequence[Line], line: Line, edge: float) -> bool:
    before = paragraph[-1]
    size = max(before.size, line.size, 1.0)
    if abs(before.size - line.size) > _SAME_SIZE * size:
        return True
    is_cut = before.text[-1:] in "-\u2010" and before.text[-2:-1].isalnum() and before.right > edge - 1.5 * size
    if text_lines.starts_item(line.text) and not is_cut:
        return True
    if _CONTENTS.search(before.text):
        return True
    if before.bold != line.bold and (before.right < edge - 2 * size or len(paragraph) == 1):
        return True
    # A line that runs to the edge and ends no sentence goes on, also in text set with wide line spacing.
    is_whole = ends_sentence(before.text)
    runs_on = before.right > edge - 1.5 * size and not is_whole
    if line.top - before.bottom > (1.6 if runs_on else 0.95) * size or line.bottom < before.top:
        return True
    right = max(other.right for other in paragraph)
    ends_short = before.right < right - 2 * size or before.right < line.right - 4 * size
    if ends_short and (is_whole or before.right < 0.6 * (edge - before.left) + before.left):
        return True
    if before.right < 0.5 * (edge - before.left) + before.left and text_lines.columns(before.text) < _SHORT_COLUMNS:
        return True
    if len(paragraph) > 1:
        # An indented first line, unless it is the paragraph's own hanging indent from its second line on.
        return line.left > before.left + 0.8 * size
    # A second line indented like the first is the first of another paragraph, where the first ended before the edge.
    return before.right < edge - 3 * size and line.left >= before.left - 0.3 * size and is_whole


def is_item(text: str) -> bool:
    """Whether a paragraph is an item of a list: it begins with a bullet, or is a line of a table of contents."""
    return _BULLET.match(text) is not None or _CONTENTS.search(text) is not None
