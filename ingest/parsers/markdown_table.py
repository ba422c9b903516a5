"""Rows of cells as text: a Markdown table, or one record a row where cells hold prose.

In a table cell a line end becomes a space and `|` becomes `\\|`, so that a row stays a line; the words stay as written
and can be quoted. `<br>` would stand between the words a reader sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ingest.parsers.canonical import CanonicalText, clean
from rag_service.types import BlockKind

Row = Sequence[str]
Piece = tuple[BlockKind, str]

_PROSE_CHARACTERS = 300
_PROSE_LINES = 8
_PROSE_SHARE = 4
"""One row in so many with a long cell makes the table a set of records (questions with answers, issues, minutes)."""
_SPARSE, _SPARSE_CELLS = 20, 1000


@dataclass(frozen=True, slots=True)
class Span:
    """A cell of `row` over several columns: [first, last)."""

    row: int
    first: int
    last: int


def add_grid(
    canonical: CanonicalText, rows: Sequence[Row], *, spans: Sequence[Span] = (), page: int | None = None
) -> None:
    """Append the blocks of `grid`."""
    _add(canonical, grid(rows, spans), page)


def add_record(canonical: CanonicalText, fields: Iterable[tuple[str, str]], *, page: int | None = None) -> None:
    """Append the blocks of `record`."""
    _add(canonical, record(fields), page)


def _add(canonical: CanonicalText, pieces: Iterable[Piece], page: int | None) -> None:
    for kind, text in pieces:
        canonical.add(kind, text, page=page)


def grid(rows: Sequence[Row], spans: Sequence[Span] = ()) -> Iterator[Piece]:
    """Rows of which nothing tells for certain whether they are a table.

    Rows of a single cell above and below are titles and notes; one column is text; one row is a line. So is every row
    of a form (labels with a colon, or hardly a row that does not merge columns) and of a few cells far apart. All else
    is a table.
    """
    if is_sparse(len(rows), max(map(len, rows), default=0), sum(map(_filled, rows))):
        yield "paragraph", lines(rows)
        return
    if _is_drawn(rows, spans):
        yield "paragraph", lines(rows)
        return
    rows = _trimmed(_with_header(rows, spans))
    first = next((number for number, row in enumerate(rows) if _filled(row) > 1), len(rows))
    last = next((number for number in range(len(rows), first, -1) if _filled(rows[number - 1]) > 1), first)
    if max(map(len, rows), default=0) <= 2:
        # Of two columns, a row with one cell is as likely a name without a value.
        last = len(rows)
    yield from _single_cells(rows[:first])
    body = rows[first:last]
    if body and (len(body) == 1 or _is_form(body)):
        yield "paragraph", lines(body)
    elif body:
        yield from _table(body)
    yield from _single_cells(rows[last:])


def record(fields: Iterable[tuple[str, str]]) -> Iterator[Piece]:
    """ "name: value" lines; a value of several lines or of prose stands as written, under its name."""
    short: list[str] = []
    for name, value in fields:
        value = clean(value).strip("\n")
        label = " ".join(clean(name).split())
        if not value.strip():
            continue
        if _is_prose(value) or "\n" in value:
            yield from _short(short)
            short = []
            yield "paragraph", f"{label}:\n{value}" if label else value
        else:
            short.append(f"{label}: {value}" if label else value)
    yield from _short(short)


def lines(rows: Iterable[Row]) -> str:
    """Rows as plain lines: a label and its value are told apart by a colon, other cells by a bar."""
    filled = ([" ".join(cell.split()) for cell in row if cell.strip()] for row in rows)
    return "\n".join(_line_of(cells) for cells in filled if cells)


def render(rows: Sequence[Row]) -> str:
    """A Markdown table, the first row its header, short rows filled up; "" for no rows."""
    width = max(map(len, rows), default=0)
    if width == 0:
        return ""
    written = [_line([cell_text(cell) for cell in row] + [""] * (width - len(row))) for row in rows]
    written.insert(1, _line(["---"] * width))
    return "\n".join(written)


def cell_text(text: str) -> str:
    """A cell's text on one line, with the mark that ends cells escaped."""
    return " ".join(line.strip() for line in clean(text).split("\n") if line.strip()).replace("|", "\\|")


def is_sparse(rows: int, columns: int, cells: int) -> bool:
    """Whether a table would be almost nothing but bars: a few cells far apart."""
    return rows * columns > _SPARSE * max(cells, _SPARSE_CELLS)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _line_of(cells: Sequence[str]) -> str:
    if len(cells) == 2 and not cells[0].endswith((":", "：")):
        return f"{cells[0]}: {cells[1]}"
    line = cells[0]
    for before, text in pairwise(cells):
        line += f" {text}" if before.endswith((":", "：")) else f" | {text}"
    return line


def _table(rows: Sequence[Row]) -> Iterator[Piece]:
    """The first row names the columns: one table, or records where most rows hold prose."""
    prose = sum(any(_is_prose(cell) for cell in row) for row in rows[1:])
    if len(rows) > 1 and prose * _PROSE_SHARE >= len(rows) - 1 and not any(_is_prose(name) for name in rows[0]):
        for row in rows[1:]:
            yield from record(zip(rows[0], row, strict=True))
    else:
        yield "table", render(rows)


def _with_header(rows: Sequence[Row], spans: Sequence[Span]) -> Sequence[Row]:
    """A name over several columns is the name of each; names in two rows become one row, as Markdown has only one."""
    header = next((number for number, row in enumerate(rows) if _filled(row) > 1), None)
    over = [span for span in spans if span.row == header]
    if header is None or not over:
        return rows
    upper = _spread(rows[header], over)
    rows = [*rows[:header], upper, *rows[header + 1 :]]
    if header + 2 >= len(rows):
        return rows
    lower = _spread(rows[header + 1], [span for span in spans if span.row == header + 1])
    if not _is_second_header(upper, lower, over):
        return rows
    names = [above if above == below else f"{above} {below}".strip() for above, below in zip(upper, lower, strict=True)]
    return [*rows[:header], names, *rows[header + 2 :]]


def _spread(row: Row, spans: Iterable[Span]) -> list[str]:
    cells = list(row)
    for span in spans:
        for column in range(span.first, min(span.last, len(cells))):
            cells[column] = cells[column] or cells[span.first]
    return cells


def _is_second_header(upper: Row, lower: Row, over: Sequence[Span]) -> bool:
    """Whether a row names the columns under the names over several, and adds nothing to the others."""
    if len(upper) != len(lower):
        return False
    under = {column for span in over for column in range(span.first, span.last)}
    named = all(lower[column].strip() for column in under if column < len(lower))
    others = (number for number in range(len(upper)) if number not in under)
    return named and all(upper[n] == lower[n] or not upper[n].strip() or not lower[n].strip() for n in others)


def _trimmed(rows: Sequence[Row]) -> list[list[str]]:
    """Without empty rows and columns, all of one width."""
    kept = [row for row in rows if _filled(row)]
    used = sorted({number for row in kept for number, cell in enumerate(row) if cell.strip()})
    return [[row[number] if number < len(row) else "" for number in used] for row in kept]


def _filled(row: Row) -> int:
    return sum(1 for cell in row if cell.strip())


def _is_prose(cell: str) -> bool:
    return len(cell) > _PROSE_CHARACTERS or cell.strip().count("\n") >= _PROSE_LINES


def _is_form(rows: Sequence[Row]) -> bool:
    """Labels that end in a colon before their values: there is no header row."""
    labels = [row[0].strip() for row in rows if row[0].strip()]
    return sum(label.endswith((":", "：")) for label in labels) * 2 > len(labels)


def _is_drawn(rows: Sequence[Row], spans: Sequence[Span]) -> bool:
    """Whether cells of all widths were drawn on a fine grid, as in forms to be printed: columns mean nothing there."""
    if len({span.row for span in spans}) * 2 <= len(rows):
        return False
    columns = {number for row in rows for number, cell in enumerate(row) if cell.strip()}
    return sum(map(_filled, rows)) * 2 < len(rows) * len(columns)


def _single_cells(rows: Sequence[Row]) -> Iterator[Piece]:
    """Short ones are lines of one paragraph, longer ones paragraphs of their own."""
    short: list[str] = []
    for row in rows:
        text = clean("".join(row)).strip()
        if _is_prose(text) or "\n" in text:
            yield from _short(short)
            short = []
            yield "paragraph", text
        else:
            short.append(text)
    yield from _short(short)


def _short(texts: Sequence[str]) -> Iterator[Piece]:
    if texts:
        yield "paragraph", "\n".join(texts)
