"""Tables without vertical rules: text between horizontal rules, or lines whose parts stand in columns unmistakably."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from statistics import median

from ingest.parsers.pdf_lines import Line, joined, parted, rows
from ingest.parsers.pdf_rules import Rule
from ingest.parsers.pdf_tables import Glue, Table, trimmed

_SAME_EXTENT = 4.0
_HEADER_ROWS = 4
_PITCH = 2.6
"""Rows of a table stand no farther apart than this many font sizes."""
_LEADERS = re.compile(r"(?:\.\s?){4,}|…{2,}|·{4,}")
_MARK = re.compile(r"[-*+•·●○■◆▪–—]|[(（]?\w{1,3}[.)、）．]|[(（]\d{1,3}[)）]|\[\d+\]")
_NUMBER = re.compile(r"[-+–−(（]?[¥$€£]?\s?[\d,.\s]*\d[\d,.\s]*(?:%|‰|[万亿元年月日天]{1,2})?[)）*]?|[-–—/]")

Row = list[Line]


def between_rules(rules: Sequence[Rule], pieces: Sequence[Line], glue: Glue) -> tuple[list[Table], list[Line]]:
    """Tables in the style of books: a rule above, one under the header, one below, and none that stands."""
    tables: list[Table] = []
    rest = list(pieces)
    for group in _same_extents(rules):
        start = 0
        while start < len(group) - 2:
            found = _booktabs(group[start:], rest, glue)
            if found is None:
                start += 1
                continue
            table, used = found
            tables.append(table)
            inside = set(map(id, _inside(group[start], group[start + used], rest)))
            rest = [piece for piece in rest if id(piece) not in inside]
            start += used
    return tables, rest


def unruled(pieces: Sequence[Line], glue: Glue) -> tuple[list[Table], list[Line]]:
    """Tables told by alignment alone."""
    tables: list[Table] = []
    rest: list[Line] = []
    for block in _blocks(rows(pieces)):
        table = _aligned(block, glue)
        if table is None:
            rest += [piece for row in block for piece in row]
        else:
            tables.append(table)
    return tables, rest


def _same_extents(rules: Sequence[Rule]) -> Iterator[list[Rule]]:
    """Rules as wide as each other and one below the other, three at least, from the top."""
    left = sorted(rules, key=lambda rule: rule.top)
    while left:
        first = left[0]
        group = [r for r in left if max(abs(r.left - first.left), abs(r.right - first.right)) <= _SAME_EXTENT]
        left = [rule for rule in left if rule not in group]
        if len(group) >= 3:
            yield group


def _inside(top: Rule, bottom: Rule, pieces: Sequence[Line]) -> list[Line]:
    return [
        piece
        for piece in pieces
        if top.top < piece.middle < bottom.top and top.left - 3 <= (piece.left + piece.right) / 2 <= top.right + 3
    ]


def _booktabs(rules: Sequence[Rule], pieces: Sequence[Line], glue: Glue) -> tuple[Table, int] | None:
    """A table that begins at the first rule, and the number of the rule it ends at."""
    header = _rows(_inside(rules[0], rules[1], pieces))
    if not 1 <= len(header) <= _HEADER_ROWS or max(len(row) for row in header) < 2:
        return None
    best: tuple[Table, int] | None = None
    for last in range(2, len(rules)):
        body = _rows(_inside(rules[1], rules[last], pieces))
        band = body if last == 2 else _rows(_inside(rules[last - 1], rules[last], pieces))
        if not band or sum(len(row) > 1 for row in band) < 0.6 * len(band) or _is_far(header + body):
            break
        edges = _edges([*body, header[-1]])
        if len(edges) < 3 or (best is not None and len(edges) < len(best[0].edges)) or _fills(band, edges):
            break
        cells = [_header(header, edges, glue), *_cells(body, edges, glue)]
        found = trimmed(cells)
        box = (rules[0].left, rules[0].right, rules[0].top, rules[last].top)
        best = Table(found, tuple(edges), *box), last
    return best


def _rows(pieces: Sequence[Line]) -> list[Row]:
    return [[part for piece in row for part in parted(piece)] for row in rows(pieces)]


def _fills(body: Sequence[Row], edges: Sequence[float]) -> bool:
    return _is_prose(body, [[_column(piece, edges) for piece in row] for row in body], edges)


def _is_far(table: Sequence[Row]) -> bool:
    """Whether rows stand so far apart that they are no table's."""
    size = median(piece.size for row in table for piece in row)
    tops = [row[0].middle for row in table]
    return any(b - a > 2 * _PITCH * size for a, b in pairwise(tops))


def _header(header: Sequence[Row], edges: Sequence[float], glue: Glue) -> list[str]:
    """The lines of a header as one row."""
    texts: list[list[str]] = [[] for _ in edges[1:]]
    for row in header:
        for piece in row:
            texts[_column(piece, edges)].append(piece.text)
    return [glue(column) for column in texts]


def _cells(body: Sequence[Row], edges: Sequence[float], glue: Glue) -> list[list[str]]:
    """Rows of texts; a row without a first cell and with few others goes on with the one before."""
    found: list[list[list[str]]] = []
    for row in body:
        cells: list[list[str]] = [[] for _ in edges[1:]]
        for piece in row:
            cells[_column(piece, edges)].append(piece.text)
        filled = [number for number, cell in enumerate(cells) if cell]
        goes_on = found and filled[0] > 0 and len(filled) <= max(1, len(cells) // 2)
        if goes_on and not any(_NUMBER.fullmatch(cells[number][0]) for number in filled):
            for number in filled:
                found[-1][number] += cells[number]
        else:
            found.append(cells)
    return [[glue(cell) for cell in cells] for cells in found]


def _column(piece: Line, edges: Sequence[float]) -> int:
    """The column most of it stands in; the first of those it spans."""
    shares = [min(piece.right, b) - max(piece.left, a) for a, b in pairwise(edges)]
    spanned = [n for n, share in enumerate(shares) if share > 0.4 * (edges[n + 1] - edges[n])]
    return spanned[0] if len(spanned) > 1 else max(range(len(shares)), key=shares.__getitem__)


def _edges(body: Sequence[Row]) -> list[float]:
    """Where columns part: the left side, the middles of the gaps that nearly no row crosses, the right side."""
    every = [piece for row in body for piece in row]
    left, right = min(piece.left for piece in every), max(piece.right for piece in every)
    steps = min(int(right - left) + 1, 5_000)
    changes = [0] * (steps + 2)
    for piece in every:
        first, last = max(0, int(piece.left - left)), min(steps, int(piece.right - left))
        if first <= last:
            changes[first] += 1
            changes[last + 1] -= 1
    allowed = len(body) // 10
    size = median(piece.size for piece in every)
    edges = [left]
    start: int | None = None
    for step, count in enumerate(accumulate(changes[:-1])):
        if count <= allowed:
            start = step if start is None else start
        elif start is not None:
            if step - start >= 0.5 * size:
                edges.append(left + (start + step) / 2)
            start = None
    return [*edges, right]


def _blocks(table: Sequence[Row]) -> Iterator[list[Row]]:
    """Rows in parts: runs of rows with several pieces, each close to the one before, and what stands between."""
    block: list[Row] = []
    many = False
    for row in table:
        if block and ((len(row) > 1) != many or _breaks(block[-1], row)):
            yield block
            block = []
        many = len(row) > 1
        block.append(row)
    if block:
        yield block


def _breaks(before: Row, row: Row) -> bool:
    size = max(before[0].size, row[0].size)
    return row[0].middle - before[0].middle > _PITCH * size or abs(before[0].size - row[0].size) > 0.2 * size


def _aligned(block: Sequence[Row], glue: Glue) -> Table | None:
    """None where the rows may as well be columns of prose, a list, a table of contents or a formula."""
    if len(block) < 3 or any(_LEADERS.search(piece.text) for row in block for piece in row):
        return None
    edges = _edges(block)
    columns = len(edges) - 1
    if columns < 2 or (columns == 2 and len(block) < 4):
        return None
    placed = [[_column(piece, edges) for piece in row] for row in block]
    if any(len(set(numbers)) < len(numbers) for numbers in placed):
        return None
    if sum(len(numbers) >= max(2, columns - 1) for numbers in placed) < 0.75 * len(block):
        return None
    cells = [[next((p.text for p, n in zip(row, numbers, strict=True) if n == column), "") for column in range(columns)]
             for row, numbers in zip(block, placed, strict=True)]  # fmt: skip
    by_column = list(zip(*cells, strict=True))
    if _is_prose(block, placed, edges) or _are_marks(by_column[0]) or not _is_regular(block):
        return None
    if columns == 2 and not _are_numbers(by_column[1][1:]):
        return None
    if not all(len(cell) <= 60 for row in cells for cell in row):
        return None
    lines = [joined(row) for row in block]
    return Table(
        trimmed([[glue([cell]) for cell in row] for row in cells]),
        tuple(edges), edges[0], edges[-1], lines[0].top, lines[-1].bottom,
    )  # fmt: skip


def _is_prose(block: Sequence[Row], placed: Sequence[Sequence[int]], edges: Sequence[float]) -> bool:
    """Whether two columns at least are filled from side to side by most of their lines."""
    filled = 0
    for column in range(len(edges) - 1):
        held = [p for row, numbers in zip(block, placed, strict=True)
                for p, n in zip(row, numbers, strict=True) if n == column]  # fmt: skip
        widest = max((piece.right - piece.left for piece in held), default=0.0)
        wide = sum(piece.right - piece.left > 0.85 * widest for piece in held)
        filled += bool(held) and wide > 0.6 * len(held) and median(len(piece.text) for piece in held) > 9
    return filled >= 2


def _is_regular(block: Sequence[Row]) -> bool:
    pitches = [b[0].middle - a[0].middle for a, b in pairwise(block)]
    usual = median(pitches)
    return sum(abs(pitch - usual) <= 0.25 * usual for pitch in pitches) >= 0.7 * len(pitches)


def _are_marks(cells: Sequence[str]) -> bool:
    held = [cell for cell in cells if cell]
    return sum(_MARK.fullmatch(cell) is not None for cell in held) > 0.5 * len(held)


def _are_numbers(cells: Sequence[str]) -> bool:
    held = [cell for cell in cells if cell]
    return len(held) >= 3 and sum(_NUMBER.fullmatch(cell) is not None for cell in held) >= 0.8 * len(held)
