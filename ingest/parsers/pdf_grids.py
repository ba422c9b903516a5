"""Ruled tables: the page's rules to grids, and the characters inside to cells."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ingest.parsers.pdf_glyphs import Glyph
from ingest.parsers.pdf_lines import Line, is_wide, joined, pieces, rows
from ingest.parsers.pdf_rules import Rule
from ingest.parsers.pdf_tables import Fit, Glue, Table, clusters, trimmed

_SNAP = 2.5
_TOUCH = 3.0
_MOST_CELLS = 10_000
_MOST_CROSSINGS = 4_000_000
_SPACE = 0.25
"""The width of a space, in font sizes."""
_FRAME_SHARE, _FRAME_CHARACTERS = 0.8, 400

Cell = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Grid:
    """Where rows and columns part, and to which cell (its upper left one) each cell was merged."""

    xs: tuple[float, ...]
    ys: tuple[float, ...]
    owner: dict[Cell, Cell]

    def cell(self, x: float, y: float) -> Cell | None:
        """The owner of the cell at a point, None outside the grid."""
        if not (self.xs[0] - 1 <= x <= self.xs[-1] + 1 and self.ys[0] - 1 <= y <= self.ys[-1] + 1):
            return None
        column = min(max(bisect_right(self.xs, x) - 1, 0), len(self.xs) - 2)
        row = min(max(bisect_right(self.ys, y) - 1, 0), len(self.ys) - 2)
        return self.owner[row, column]


@dataclass(frozen=True, slots=True)
class _Cell:
    """What stands between two sides."""

    left: float
    right: float
    lines: list[Line]

    def __bool__(self) -> bool:
        return bool(self.lines)

    def text(self, glue: Glue) -> str:
        return glue([line.text for line in self.lines])

    def fit(self, margin: float) -> Fit:
        """What goes on after its last line, and how wide its own beginning is, between margins at both sides."""
        if not self.lines:
            return Fit(0.0, 0.0)
        first, last = self.lines[0], self.lines[-1]
        word = first.words[0]
        space = 0.0 if is_wide(word.text[0]) else _SPACE * first.size
        # In Chinese a line may end after any character.
        width = min(word.right - word.left, first.size) if is_wide(word.text[0]) else word.right - word.left
        return Fit(space + width, self.right - self.left - 2 * margin - (last.right - last.left))


def ruled(rules: Sequence[Rule], glyphs: Sequence[Glyph], glue: Glue) -> tuple[list[Table], list[Glyph], list[Rule]]:
    """Tables, the characters that are in none, and the horizontal rules that belong to none."""
    tables: list[Table] = []
    rest = list(glyphs)
    lone: list[Rule] = []
    for level, upright in _components(rules):
        grid = _grid(level, upright)
        if grid is None:
            lone += level
            continue
        inside: dict[Cell, list[Glyph]] = defaultdict(list)
        outside: list[Glyph] = []
        for glyph in rest:
            cell = grid.cell((glyph.left + glyph.right) / 2, glyph.base - 0.35 * glyph.size)
            (outside if cell is None else inside[cell]).append(glyph)
        table = _table(grid, inside, glue)
        if table is not None:
            tables.append(table)
            rest = outside
        else:
            lone += level
    return tables, rest, lone


def _components(rules: Sequence[Rule]) -> Iterator[tuple[list[Rule], list[Rule]]]:
    """Rules that touch each other, horizontal and vertical ones, each group by itself, from the top."""
    level = _merged([rule for rule in rules if rule.is_horizontal])
    upright = [_flipped(rule) for rule in _merged([_flipped(rule) for rule in rules if not rule.is_horizontal])]
    if len(level) * len(upright) > _MOST_CROSSINGS:
        return
    parents = list(range(len(level) + len(upright)))

    def root(number: int) -> int:
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    for i, across in enumerate(level):
        for j, down in enumerate(upright, start=len(level)):
            if (
                across.left - _TOUCH <= down.left <= across.right + _TOUCH
                and down.top - _TOUCH <= across.top <= down.bottom + _TOUCH
            ):
                parents[root(j)] = root(i)
    groups: dict[int, tuple[list[Rule], list[Rule]]] = {}
    for number, rule in enumerate([*level, *upright]):
        groups.setdefault(root(number), ([], []))[int(number >= len(level))].append(rule)
    yield from sorted(groups.values(), key=lambda group: min(rule.top for rule in (*group[0], *group[1])))


def _flipped(rule: Rule) -> Rule:
    return Rule(rule.top, rule.left, rule.bottom, rule.right)


def _merged(level: Sequence[Rule]) -> list[Rule]:
    """Horizontal rules on one height that touch, as one."""
    found: list[Rule] = []
    by_height: dict[int, list[Rule]] = defaultdict(list)
    heights = clusters((rule.top for rule in level), _SNAP)
    for rule in level:
        number = min(bisect_right(heights, rule.top), len(heights) - 1)
        if number and abs(heights[number - 1] - rule.top) < abs(heights[number] - rule.top):
            number -= 1
        by_height[number].append(rule)
    for number, group in sorted(by_height.items()):
        height = heights[number]
        left = right = None
        for rule in sorted(group):
            if right is not None and left is not None and rule.left <= right + _TOUCH:
                right = max(right, rule.right)
                continue
            if left is not None and right is not None:
                found.append(Rule(left, height, right, height))
            left, right = rule.left, rule.right
        if left is not None and right is not None:
            found.append(Rule(left, height, right, height))
    return found


def _grid(level: Sequence[Rule], upright: Sequence[Rule]) -> Grid | None:
    """None for what has no more than one row or one column, or is a drawing."""
    if not upright or len(level) < 2:
        return None
    sides = (min(rule.left for rule in level), max(rule.right for rule in level))
    ends = (min(rule.top for rule in upright), max(rule.bottom for rule in upright))
    xs = clusters([*(rule.left for rule in upright), *sides], _TOUCH)
    ys = clusters([*(rule.top for rule in level), *ends], _TOUCH)
    across, down = len(xs) - 1, len(ys) - 1
    if across < 2 or down < 1 or across * down > _MOST_CELLS:
        return None
    walls = _borders([_flipped(rule) for rule in upright], xs, ys)
    floors = _borders(level, ys, xs)
    owner = _owners(across, down, walls, floors)
    return Grid(tuple(xs), tuple(ys), owner)


def _borders(rules: Sequence[Rule], heights: Sequence[float], stops: Sequence[float]) -> set[Cell]:
    """(height, stretch) of every stretch between two stops that a rule covers for more than half."""
    covered: dict[Cell, float] = defaultdict(float)
    for rule in rules:
        number = min(range(len(heights)), key=lambda n: abs(heights[n] - rule.top))
        for stretch in range(len(stops) - 1):
            overlap = min(rule.right, stops[stretch + 1]) - max(rule.left, stops[stretch])
            if overlap > 0:
                covered[number, stretch] += overlap
    return {
        (number, stretch)
        for (number, stretch), length in covered.items()
        if length > 0.5 * (stops[stretch + 1] - stops[stretch])
    }


def _owners(across: int, down: int, walls: set[Cell], floors: set[Cell]) -> dict[Cell, Cell]:
    owner = {(row, column): (row, column) for row in range(down) for column in range(across)}

    def root(cell: Cell) -> Cell:
        while owner[cell] != cell:
            owner[cell] = owner[owner[cell]]
            cell = owner[cell]
        return cell

    def merge(first: Cell, second: Cell) -> None:
        low, high = sorted((root(first), root(second)))
        owner[high] = low

    for row in range(down):
        for column in range(across):
            if column + 1 < across and (column + 1, row) not in walls:
                merge((row, column), (row, column + 1))
            if row + 1 < down and (row + 1, column) not in floors:
                merge((row, column), (row + 1, column))
    # The name of a merged cell is its uppermost row and leftmost column, also where its corner is another's.
    return {cell: root(cell) for cell in owner}


def _table(grid: Grid, inside: dict[Cell, list[Glyph]], glue: Glue) -> Table | None:
    """None for a frame around text, a box in a drawing and the like."""
    total = sum(map(len, inside.values()))
    largest = max(map(len, inside.values()), default=0)
    if len(inside) < 3 or (largest > _FRAME_SHARE * total and largest > _FRAME_CHARACTERS):
        return None
    by_row: dict[int, int] = defaultdict(int)
    for row, _ in inside:
        by_row[row] += 1
    if len(by_row) < 2 or max(by_row.values()) < 2:
        return None
    lines = {cell: [joined(row) for row in rows(pieces(glyphs))] for cell, glyphs in inside.items()}
    titles, first = _titles(grid, lines, glue)
    found = trimmed([cells for row in range(first, len(grid.ys) - 1) for cells in _row(grid, row, lines)])
    if len(found) < 2 or len(found[0]) < 2:
        return None
    left, *_, right = grid.xs
    margin = max(min(line.left - cell.left for row in found for cell in row for line in cell.lines), 0.0)
    return Table(
        tuple(tuple(cell.text(glue) for cell in row) for row in found),
        grid.xs, left, right, grid.ys[0], grid.ys[-1], titles,
        tuple(tuple(cell.fit(margin) for cell in row) for row in found),
    )  # fmt: skip


def _titles(grid: Grid, lines: dict[Cell, list[Line]], glue: Glue) -> tuple[tuple[str, ...], int]:
    """Leading rows that are one cell over the whole width, and the row after them."""
    titles: list[str] = []
    row, last = 0, len(grid.xs) - 2
    while row < len(grid.ys) - 3:
        held = [cell for cell in lines if cell[0] == row]
        if held and not (held == [(row, 0)] and grid.owner[row, last] == (row, 0)):
            break
        titles += [glue([line.text for line in lines[cell]]) for cell in held]
        row += 1
    return tuple(titles), row


def _row(grid: Grid, row: int, lines: dict[Cell, list[Line]]) -> Iterator[list[_Cell]]:
    """The cells of a grid's row; several rows, where the grid rules columns only."""
    columns = range(len(grid.xs) - 1)
    held = {column: lines[row, column] for column in columns if (row, column) in lines}
    sides = [(grid.xs[column], grid.xs[_last_column(grid, row, column) + 1]) for column in columns]
    heights = _unruled(grid, row, held)
    if heights is None:
        yield [_Cell(*sides[column], held.get(column, [])) for column in columns]
        return
    for height in heights:
        yield [
            _Cell(*sides[column], [line for line in held.get(column, ()) if _nearest(heights, line) == height])
            for column in columns
        ]


def _last_column(grid: Grid, row: int, column: int) -> int:
    """Up to which a cell is merged."""
    while column + 2 < len(grid.xs) and grid.owner[row, column + 1] == grid.owner[row, column]:
        column += 1
    return column


def _unruled(grid: Grid, row: int, held: dict[int, list[Line]]) -> list[float] | None:
    """Where rows stand that no rule parts: at least three, each begun in the first column; else None."""
    if len(held) < 2 or grid.ys[row + 1] - grid.ys[row] < 0.5 * (grid.ys[-1] - grid.ys[0]):
        return None
    first = held[min(held)]
    heights = [line.middle for line in first]
    others = [line for column, column_lines in held.items() if column != min(held) for line in column_lines]
    if len(heights) < 3 or len(others) < 0.6 * len(heights):
        return None
    fits = all(abs(_nearest(heights, line) - line.middle) < 0.4 * line.size for line in others)
    return heights if fits else None


def _nearest(heights: Sequence[float], line: Line) -> float:
    return min(heights, key=lambda height: abs(height - line.middle))
