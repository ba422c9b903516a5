"""Workbooks, as they look on the screen: every sheet a heading, every region of cells a table.

Hidden sheets, rows and columns are kept: whoever uploads a workbook uploads all of it, and what is hidden is often the
data that the visible sheets refer to. Notes on cells and text boxes come after their sheet's cells. A formula whose
result was never stored (files that no spreadsheet program has saved) is shown itself.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from ingest.parsers import markdown_table, opc
from ingest.parsers.canonical import CanonicalText
from ingest.parsers.xlsx_cells import Cell, Merge, Sheet, Workbook
from ingest.parsers.zip_container import Container, Limits
from rag_service import media_types
from rag_service.errors import ParseFailed
from rag_service.types import ParsedDocument

_WORKBOOK = Container(
    noun="a workbook",
    required="[Content_Types].xml",
    legacy="a legacy Excel (.xls) file named .xlsx; save it as .xlsx",
)
_LIMITS = Limits(xml_bytes=384 << 20)
"""A full sheet of a million rows is some 300 MiB of XML, of which the text is a small part."""
TEXT_LIMIT_BYTES = 64 << 20
"""Characters of all cells. One shared string may be shown by every cell, so that a little XML can hold any amount."""

_CELL_MARKS = 3
"""Characters a Markdown table puts around a cell."""
_GAP_COLUMNS = 2
"""Empty columns between regions side by side; a single one is a spacer within a table, common in financial reports."""


class XlsxParser:
    name = "xlsx/1"
    media_types = (media_types.XLSX,)
    suffixes = (".xlsx", ".xlsm")

    def __init__(self, limits: Limits = _LIMITS, text_limit_bytes: int = TEXT_LIMIT_BYTES) -> None:
        self._limits = limits
        self._text_limit_bytes = text_limit_bytes

    def parse(self, data: bytes) -> ParsedDocument:
        if opc.STRICT in _WORKBOOK.inspect(data, self._limits, marks=(opc.STRICT,)):
            data = opc.transitional(data)
        package = opc.Package(data)
        book = Workbook(package)
        canonical = CanonicalText()
        budget = _Budget(self._text_limit_bytes)
        for sheet in book.sheets:
            _add_sheet(canonical, package, sheet, _grid(book, sheet, budget))
        return canonical.document(self.name)


def _add_sheet(canonical: CanonicalText, package: opc.Package, sheet: Sheet, grid: _Grid) -> None:
    notes = list(_notes(package, sheet.part))
    boxes = list(_text_boxes(package, sheet.part))
    if not (grid.rows or notes or boxes):
        return
    canonical.add("heading", f"# {' '.join(sheet.title.split())}", level=1)
    for region in _regions(grid):
        _add_region(canonical, grid, region)
    for box in boxes:
        canonical.add("paragraph", box)
    canonical.add("list", "\n".join(notes))


class _Budget:
    """Characters that may still be written, over all sheets."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._spent = 0

    def spend(self, text: str) -> None:
        self._spent += len(text) + _CELL_MARKS
        if self._spent > self._limit_bytes:
            raise ParseFailed("output-limit", "the workbook's cells hold too much text", limit_bytes=self._limit_bytes)


@dataclass(frozen=True, slots=True)
class _Grid:
    """The cells that are not empty, by row and column; `wide` are merges over columns, by their top row."""

    rows: dict[int, dict[int, Cell]] = field(default_factory=dict)
    wide: dict[int, list[Merge]] = field(default_factory=dict)


def _grid(book: Workbook, sheet: Sheet, budget: _Budget) -> _Grid:
    grid = _Grid()
    merges: list[Merge] = []
    for number, cells in book.rows(sheet, merges):
        row = grid.rows.setdefault(number, {})
        for column, cell in cells:
            budget.spend(cell.text)
            # Two cells at one place: the file is at fault, and neither is to be lost.
            row[column] = cell if column not in row else Cell(f"{row[column].text} {cell.text}", False)
    _spread(grid, merges, budget)
    return grid


def _spread(grid: _Grid, merges: Sequence[Merge], budget: _Budget) -> None:
    """Repeat what is merged over rows in each of them: a row must be understood when it is read by itself."""
    numbers = sorted(grid.rows)
    for merge in merges:
        cell = grid.rows.get(merge.top, {}).get(merge.left)
        if cell is None:
            continue
        if merge.right > merge.left:
            grid.wide.setdefault(merge.top, []).append(merge)
        for number in numbers[bisect_right(numbers, merge.top) : bisect_right(numbers, merge.bottom)]:
            budget.spend(cell.text)
            grid.rows[number].setdefault(merge.left, cell)


@dataclass(frozen=True, slots=True)
class _Region:
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    """Those that hold anything, in order."""


def _regions(grid: _Grid) -> Iterator[_Region]:
    """Parts of a sheet that empty rows or columns set apart, from the top down and from the left to the right."""
    for rows in _joined(grid, _runs(sorted(grid.rows))):
        columns = sorted({column for row in rows for column in grid.rows[row]})
        starts = [0, *(n + 1 for n, (a, b) in enumerate(pairwise(columns)) if b - a > _GAP_COLUMNS), len(columns)]
        for first, last in pairwise(starts):
            part = tuple(columns[first:last])
            held = tuple(row for row in rows if not grid.rows[row].keys().isdisjoint(part))
            yield _Region(held, part)


def _runs(numbers: Sequence[int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def _joined(grid: _Grid, runs: Sequence[list[int]]) -> Iterator[list[int]]:
    """Runs of rows, those that go on with the table before a blank row put to it: they have no header of their own."""
    held: list[int] = []
    for run in runs:
        if held and _goes_on(grid, held, run):
            held.extend(run)
            continue
        if held:
            yield held
        held = run
    if held:
        yield held


def _goes_on(grid: _Grid, held: Sequence[int], run: Sequence[int]) -> bool:
    first = next((grid.rows[row] for row in run if len(grid.rows[row]) > 1), None)
    if first is None or not any(cell.is_number for cell in first.values()):
        return False
    if all(len(grid.rows[row]) == 1 for row in held):
        return False
    leftmost = min(min(grid.rows[row]) for row in held)
    rightmost = max(max(grid.rows[row]) for row in held)
    return leftmost <= min(first) and max(first) <= rightmost


def _add_region(canonical: CanonicalText, grid: _Grid, region: _Region) -> None:
    cells = sum(len(grid.rows[row]) for row in region.rows)
    if markdown_table.is_sparse(len(region.rows), len(region.columns), cells):
        lines = ([grid.rows[row][column].text for column in sorted(grid.rows[row])] for row in region.rows)
        canonical.add("paragraph", markdown_table.lines(lines))
        return
    rows = [[_text(grid, row, column) for column in region.columns] for row in region.rows]
    markdown_table.add_grid(canonical, rows, spans=list(_spans(grid, region)))


def _text(grid: _Grid, row: int, column: int) -> str:
    cell = grid.rows[row].get(column)
    return cell.text if cell is not None else ""


def _spans(grid: _Grid, region: _Region) -> Iterator[markdown_table.Span]:
    """Merges over several columns that hold anything, by the region's rows and columns."""
    for number, row in enumerate(region.rows):
        for merge in grid.wide.get(row, ()):
            first, last = bisect_left(region.columns, merge.left), bisect_right(region.columns, merge.right)
            if last - first > 1 and region.columns[first] == merge.left:
                yield markdown_table.Span(number, first, last)


def _notes(package: opc.Package, part: str) -> Iterator[str]:
    for target in package.related(part, "comments"):
        root = package.xml(target)
        for note in () if root is None else root.iter():
            if opc.local(note) == "comment":
                text = "".join(piece.text or "" for piece in note.iter() if opc.local(piece) == "t")
                if text.strip():
                    yield f"- [{note.get('ref', '')}] {' '.join(text.split())}"


def _text_boxes(package: opc.Package, part: str) -> Iterator[str]:
    for target in package.related(part, "drawing"):
        root = package.xml(target)
        for paragraph in () if root is None else root.iter():
            if opc.local(paragraph) == "txBody":
                lines = ("".join(t.text or "" for t in p.iter() if opc.local(t) == "t") for p in paragraph)
                yield "\n".join(line for line in lines if line.strip())
