"""Tables as rows of cells.

Why own geometry: in 11 PDFs of Writer and Chromium 364 of 364 cells come right (pdfplumber 0.11: 363), three reports
with 33 ruled tables get 2 false ones (5), and all 14 take 0.75 s for the whole parse (3.1 s for the tables alone).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

_SAME_EDGE = 4.0

Rows = tuple[tuple[str, ...], ...]
Held = TypeVar("Held")
Glue = Callable[[Sequence[str]], str]
"""Makes one text of the lines of a cell."""


class Fit(NamedTuple):
    """Widths in a cell: of its first word with the space before it, and of what its last line leaves free."""

    first: float
    room: float


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of equal length, the first being the header; `titles` are rows that were one cell over the whole width.

    `edges` are where the columns part, from the left to the right side; `fits` goes with the rows, where it is known.
    """

    rows: Rows
    edges: tuple[float, ...]
    left: float
    right: float
    top: float
    bottom: float
    titles: tuple[str, ...] = ()
    fits: tuple[tuple[Fit, ...], ...] = ()


def trimmed(cells: Sequence[Sequence[Held]]) -> tuple[tuple[Held, ...], ...]:
    """Without rows and columns that hold nothing."""
    rows = [row for row in cells if any(row)]
    kept = [number for number in range(len(rows[0])) if any(row[number] for row in rows)] if rows else []
    return tuple(tuple(row[number] for number in kept) for row in rows)


def continued(before: Table, table: Table, glue: Glue) -> tuple[Table, Table | None]:
    """Both, `table` put under the header of `before` where it goes on with that from the page before.

    A row that the page's end cut is whole in the first part; None stands for a second one without any other.
    """
    if not _has_same_columns(before, table) or table.titles:
        return before, table
    start = int(_looks_same(before.rows[0], table.rows[0]))
    if _is_cut(before, table, start):
        before = _with_rest(before, table.rows[start], table.fits[start], glue)
        start += 1
    if start == len(table.rows):
        return before, None
    fits = (before.fits[0], *table.fits[start:]) if before.fits and table.fits else ()
    return before, replace(table, rows=(before.rows[0], *table.rows[start:]), fits=fits)


def clusters(values: Iterable[float], within: float) -> list[float]:
    """The means of groups of values whose neighbours lie no farther than `within` from each other."""
    groups: list[list[float]] = []
    for value in sorted(values):
        if groups and value - groups[-1][-1] <= within:
            groups[-1].append(value)
        else:
            groups.append([value])
    return [sum(group) / len(group) for group in groups]


def _has_same_columns(before: Table, table: Table) -> bool:
    if len(before.rows[0]) != len(table.rows[0]) or len(before.edges) != len(table.edges):
        return False
    return all(abs(a - b) <= _SAME_EDGE for a, b in zip(before.edges, table.edges, strict=True))


def _is_cut(before: Table, table: Table, start: int) -> bool:
    """Whether the row at `start` has nothing but the rests of some cells of the last row before.

    A rest is what had no room on the last line of its cell; a row under a merged cell, which may be as empty, had.
    """
    if len(before.rows) < 2 or not before.fits or start >= len(table.fits):
        return False
    cells = list(zip(before.rows[-1], before.fits[-1], table.rows[start], table.fits[start], strict=True))
    return any(above and not rest for above, _, rest, _ in cells) and all(
        above and fit.first > over.room for above, over, rest, fit in cells if rest
    )


def _with_rest(before: Table, rest: Sequence[str], fits: Sequence[Fit], glue: Glue) -> Table:
    last = zip(before.rows[-1], before.fits[-1], rest, fits, strict=True)
    cells = [(glue([above, below]), Fit(over.first, fit.room)) if below else (above, over)
             for above, over, below, fit in last]  # fmt: skip
    texts, widths = zip(*cells, strict=True)
    return replace(before, rows=(*before.rows[:-1], texts), fits=(*before.fits[:-1], widths))


def _looks_same(first: Sequence[str], second: Sequence[str]) -> bool:
    return all("".join(a.split()) == "".join(b.split()) for a, b in zip(first, second, strict=True))
