"""Reading order of a page: columns between gutters, parted by whatever stands across them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from ingest.parsers.lines import columns, starts_item
from ingest.parsers.pdf_lines import Line, ends_sentence, joined, rows
from ingest.parsers.pdf_tables import Table, clusters

Item = Line | Table

_FEWEST_LINES = 3
_FEWEST_COLUMNS = 14
"""Of a column's usual line, in columns of fixed-pitch type."""
_SAME_START = 2.0
_SPACE_BELOW = 0.5
"""Below columns, before something else, in line heights, where the lines of the column stand closer than that."""
_WIDER = 1.3
"""That space, in gaps between the column's own lines."""
_EVEN = 24.0
_FILLED = 0.8
_NARROWEST = 8.0
"""A column's width in font sizes."""
_DEEPEST = 4
_CAPTION = re.compile(r"(?:table|tab\.|表|附表)\s?[\dIVX一二三四五六七八九十A-Z]", re.IGNORECASE)
_CAPTION_LINES = 6


@dataclass(frozen=True, slots=True)
class _Band:
    """What stands left and right of a gutter between two items across it, and the item below, if any."""

    left: list[Item]
    right: list[Item]
    below: Item | None

    @property
    def has_columns(self) -> bool:
        left, right = ([item for item in side if isinstance(item, Line)] for side in (self.left, self.right))
        if min(len(left), len(right)) < _FEWEST_LINES or 3 * len(left) < len(right):
            return False
        return _are_beside(left, right) and _is_prose(left) and _is_prose(right)


def regions(items: Sequence[Item]) -> list[list[Item]]:
    """The page in parts that are each read from top to bottom, in reading order."""
    return [region for region in _regions(list(items), _DEEPEST) if region]


def _regions(items: list[Item], depth: int) -> Iterator[list[Item]]:
    bands = _columns(items) if depth else []
    if not bands:
        yield list(_downwards(items))
        return
    across: list[Item] = []
    for band in bands:
        if band.has_columns:
            yield from _regions(across, depth - 1)
            across = []
            yield from _regions(band.left, depth - 1)
            yield from _regions(band.right, depth - 1)
        else:
            across += [*band.left, *band.right]
        across += [band.below] if band.below is not None else []
    yield from _regions(across, depth - 1)


def _downwards(items: Sequence[Item]) -> Iterable[Item]:
    """Pieces of one row as one line; tables between them."""
    lines = [joined(row) for row in rows(item for item in items if isinstance(item, Line))]
    tables = [item for item in items if isinstance(item, Table)]
    return sorted([*lines, *tables], key=lambda item: item.top) if tables else lines


def _columns(items: Sequence[Item]) -> list[_Band]:
    """The page in bands at the gutter that parts the most lines; none where it is one column."""
    best: list[_Band] = []
    most = 0
    for gutter in _gutters([item for item in items if isinstance(item, Line)]):
        bands = list(_bands(items, gutter))
        parted = sum(len(band.left) + len(band.right) for band in bands if band.has_columns)
        if parted > most:
            best, most = bands, parted
    return best


def _gutters(lines: Sequence[Line]) -> Iterator[float]:
    """Just before each place, but the leftmost, that several lines begin at and others end before."""
    if len(lines) < 2 * _FEWEST_LINES:
        return
    starts = clusters((line.left for line in lines), _SAME_START)
    for start in starts[1:]:
        held = [line for line in lines if abs(line.left - start) <= _SAME_START]
        if len(held) >= _FEWEST_LINES:
            gutter = min(line.left for line in held) - 0.5
            if sum(line.right <= gutter for line in lines) >= _FEWEST_LINES:
                yield gutter


def _bands(items: Sequence[Item], gutter: float) -> Iterator[_Band]:
    captions = _captions(items, gutter)
    ordered = sorted(items, key=_middle)
    left: list[Item] = []
    right: list[Item] = []
    for item in ordered:
        if _is_across(item, gutter) or id(item) in captions:
            yield from _balanced(_Band(left, right, item))
            left, right = [], []
        else:
            (left if item.right <= gutter else right).append(item)
    yield from _balanced(_Band(left, right, None))


def _balanced(band: _Band) -> Iterator[_Band]:
    """The band; in two, where both columns end on one height and something narrow stands below them."""
    for long, short in ((band.left, band.right), (band.right, band.left)):
        end = max((item.bottom for item in short), default=None)
        if end is None:
            continue
        above = [item for item in long if _middle(item) <= end]
        below = [item for item in long if _middle(item) > end]
        last = max((item.bottom for item in above), default=end)
        if not below or below[0].top - last < _space_below(above, below[0]) or end - last > _EVEN:
            continue
        if long is band.left and _goes_on(below, short):
            continue
        columns_, rest = (above, short) if long is band.left else (short, above), below
        yield _Band(columns_[0], columns_[1], None)
        yield _Band(rest, [], band.below)
        return
    yield band


def _space_below(column: Sequence[Item], item: Item) -> float:
    """What parts an item from the column above it: more than its lines stand from each other."""
    gaps = [b.top - a.bottom for a, b in pairwise(column) if isinstance(a, Line) and isinstance(b, Line)]
    usual = median(gaps) if len(gaps) >= _FEWEST_LINES - 1 else 0.0
    return max(_SPACE_BELOW * (item.bottom - item.top), _WIDER * usual)


def _goes_on(left: Sequence[Item], right: Sequence[Item]) -> bool:
    """Whether a left column ends within a sentence, as one does that the right one goes on with."""
    last, first = left[-1], right[0]
    if not isinstance(last, Line) or not isinstance(first, Line) or abs(last.size - first.size) > 0.1 * first.size:
        return False
    fills = last.right - last.left > _FILLED * (max(item.right for item in right) - min(item.left for item in right))
    return fills and last.bold == first.bold and not ends_sentence(last.text) and not starts_item(first.text)


def _is_across(item: Item, gutter: float) -> bool:
    return item.left < gutter < item.right


def _captions(items: Sequence[Item], gutter: float) -> set[int]:
    """Ids of the lines of one column that name the table across both that they stand on."""
    found: set[int] = set()
    for table in (item for item in items if isinstance(item, Table) and _is_across(item, gutter)):
        above = [item for item in items if isinstance(item, Line) and item.bottom < table.top + 2]
        above.sort(key=_middle, reverse=True)
        edge = table.top
        held: list[int] = []
        for line in above[:_CAPTION_LINES]:
            if edge - line.bottom > 1.2 * line.size:
                break
            held.append(id(line))
            edge = line.top
            if _CAPTION.match(line.text):
                found.update(held)
                break
    return found


def _middle(item: Item) -> float:
    return (item.top + item.bottom) / 2


def _are_beside(left: Sequence[Line], right: Sequence[Line]) -> bool:
    a, b = (sorted(line.middle for line in side) for side in (left, right))
    overlap = min(a[-1], b[-1]) - max(a[0], b[0])
    return overlap > 0.3 * min(a[-1] - a[0], b[-1] - b[0])


def _is_prose(column: Sequence[Line]) -> bool:
    """Whether a column is wide and most of its lines fill it."""
    width = max(line.right for line in column) - min(line.left for line in column)
    wide = sum(line.right - line.left > 0.4 * width for line in column)
    is_long = median(columns(line.text) for line in column) > _FEWEST_COLUMNS
    return width > _NARROWEST * median(line.size for line in column) and wide > 0.5 * len(column) and is_long
