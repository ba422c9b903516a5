"""Characters to lines: runs by their baseline, pieces between wide gaps, lines of one column."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice, pairwise
from statistics import median
from typing import NamedTuple

from ingest.parsers.pdf_glyphs import Glyph, bottom_of, top_of

_WIDE_GAP = 0.9
"""In font sizes: what parts columns and cells; justified words stand closer."""
_WORD_GAP = 0.22
_MIXED_GAP = 0.45
"""Between Chinese and Latin, where typesetting programs leave up to a quarter without a space in the text."""
_NARROW_COLUMN_GAP = 0.5
_SENTENCE_ENDS = frozenset('。！？!?；;.:：…”"」』）)')


class Word(NamedTuple):
    """What stands between spaces, with its sides."""

    text: str
    left: float
    right: float


@dataclass(frozen=True, slots=True)
class Line:
    """Text on one baseline, in points, y downwards. Where it is a part of a line between wide gaps: a piece."""

    text: str
    left: float
    right: float
    top: float
    bottom: float
    size: float
    bold: bool = False
    words: tuple[Word, ...] = ()

    @property
    def middle(self) -> float:
        return (self.top + self.bottom) / 2


def pieces(glyphs: Sequence[Glyph]) -> list[Line]:
    """All text as pieces, row by row from the top, each row from the left."""
    return [_line(group) for row in _rows(_runs(glyphs)) for group in _groups(row)]


def rows(items: Iterable[Line]) -> list[list[Line]]:
    """Pieces that stand on one height, from the top; each row from the left."""
    found: list[list[Line]] = []
    for item in sorted(items, key=lambda piece: (piece.middle, piece.left)):
        if found and _beside(found[-1], item):
            found[-1].append(item)
        else:
            found.append([item])
    for row in found:
        row.sort(key=lambda piece: piece.left)
    return found


def joined(row: Sequence[Line]) -> Line:
    """The pieces of one row as one line."""
    if len(row) == 1:
        return row[0]
    largest = max(row, key=lambda piece: (piece.size, len(piece.text)))
    inked = sum(len(piece.text) for piece in row)
    return Line(
        " ".join(piece.text for piece in row),
        min(piece.left for piece in row),
        max(piece.right for piece in row),
        largest.top,
        largest.bottom,
        largest.size,
        sum(len(piece.text) for piece in row if piece.bold) * 10 > 9 * inked,
        tuple(word for piece in row for word in piece.words),
    )


def parted(piece: Line) -> list[Line]:
    """A piece in the parts that stand half a font size from each other, as the cells of a narrow table do."""
    parts: list[list[Word]] = []
    for word in piece.words:
        if parts and word.left - parts[-1][-1].right < _NARROW_COLUMN_GAP * piece.size:
            parts[-1].append(word)
        else:
            parts.append([word])
    if len(parts) < 2:
        return [piece]
    return [
        replace(
            piece, text=" ".join(word.text for word in part), left=part[0].left, right=part[-1].right, words=tuple(part)
        )
        for part in parts
    ]


@lru_cache(1 << 16)
def is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in ("W", "F")


def ends_sentence(text: str) -> bool:
    """Whether a line may end a sentence, or introduce what follows it."""
    return text.rstrip()[-1:] in _SENTENCE_ENDS


def _beside(row: Sequence[Line], item: Line) -> bool:
    """Whether an item stands on a row's height and overlaps nothing of it."""
    first = max(row, key=lambda piece: piece.size)
    overlap = min(first.bottom, item.bottom) - max(first.top, item.top)
    if overlap < 0.5 * min(first.bottom - first.top, item.bottom - item.top):
        return False
    slack = 0.3 * item.size
    return all(item.left >= piece.right - slack or item.right <= piece.left + slack for piece in row)


@dataclass(slots=True)
class _Run:
    """Characters that follow one another on one baseline, in content order; `order` is its place in it."""

    glyphs: list[Glyph]
    order: int
    left: float
    right: float
    base: float
    size: float

    @property
    def top(self) -> float:
        return top_of(self.base, self.size)

    @property
    def bottom(self) -> float:
        return bottom_of(self.base, self.size)


def _runs(glyphs: Sequence[Glyph]) -> list[_Run]:
    found: list[_Run] = []
    run: _Run | None = None
    for glyph in glyphs:
        if run is not None and _follows(run, glyph):
            run.glyphs.append(glyph)
            if glyph.right > run.right:
                run.right = glyph.right
        else:
            run = _Run([glyph], len(found), glyph.left, glyph.right, glyph.base, glyph.size)
            found.append(run)
    return found


def _follows(run: _Run, glyph: Glyph) -> bool:
    size = run.size if run.size >= glyph.size else glyph.size
    if glyph.base != run.base and not abs(glyph.base - run.base) < 0.1 * size:
        return False
    if glyph.size != run.size and not abs(glyph.size - run.size) < 0.15 * size:
        return False
    # A ligature's letters share its box.
    return run.glyphs[-1].left - 0.1 * size <= glyph.left < run.right + _WIDE_GAP * size


def _rows(runs: Sequence[_Run]) -> list[list[_Run]]:
    """Runs on one height. Large ones open rows before small ones, so that a superscript joins its line."""
    found: list[list[_Run]] = []
    by_height: dict[int, list[list[_Run]]] = {}
    for run in sorted(runs, key=lambda run: (-round(run.size), run.order)):
        near = [row for cell in (-1, 0, 1) for row in by_height.get(int(run.base // 8) + cell, ())]
        row = min((row for row in near if _joins(row, run)), key=lambda row: _distance(row, run), default=None)
        if row is None:
            row = []
            found.append(row)
            by_height.setdefault(int(run.base // 8), []).append(row)
        row.append(run)
    for row in found:
        row.sort(key=lambda run: (run.left, run.order))
    return sorted(found, key=lambda row: (row[0].base, row[0].left))


def _distance(row: Sequence[_Run], run: _Run) -> float:
    sideways = min(max(run.left - other.right, other.left - run.right, 0.0) for other in row)
    return abs(row[0].base - run.base) + 0.1 * sideways


def _joins(row: Sequence[_Run], run: _Run) -> bool:
    first = max(row, key=lambda other: other.size)
    overlap = min(first.bottom, run.bottom) - max(first.top, run.top)
    if overlap < 0.5 * min(first.size, run.size):
        return False
    if run.size < 0.92 * first.size and abs(run.base - first.base) > 0.05 * first.size:
        # A mark above or below the line is one only where it touches a word.
        if not any(-0.4 * first.size < run.left - other.right < 0.4 * first.size for other in row) and not any(
            -0.4 * first.size < other.left - run.right < 0.4 * first.size for other in row
        ):
            return False
    elif abs(run.base - first.base) > 0.35 * first.size:
        return False
    slack = 0.35 * run.size
    is_small = run.size < 0.8 * first.size
    return all(
        run.left >= other.right - slack
        or run.right <= other.left + slack
        # An index and an exponent stand above each other.
        or (is_small and other.size < 0.8 * first.size)
        for other in row
    )


def _groups(row: Sequence[_Run]) -> Iterator[list[_Run]]:
    """Parted at wide gaps; between runs that do not follow one another in the file, also at smaller ones."""
    group = [row[0]]
    for before, run in pairwise(row):
        limit = _WIDE_GAP if run.order == before.order + 1 else 0.6
        if run.left - max(other.right for other in group) > limit * max(before.size, run.size):
            yield group
            group = []
        group.append(run)
    yield group


def _line(group: Sequence[_Run]) -> Line:
    glyphs = [glyph for run in group for glyph in run.glyphs]
    largest = max(group, key=lambda run: (run.size, len(run.glyphs)))
    bold = sum(glyph.bold for glyph in glyphs)
    words = tuple(_words(glyphs))
    return Line(
        _without_letter_spacing(" ".join(word.text for word in words)),
        min(run.left for run in group),
        max(run.right for run in group),
        largest.top,
        largest.bottom,
        largest.size,
        bold * 10 > 9 * len(glyphs),
        words,
    )


def _words(glyphs: Sequence[Glyph]) -> Iterator[Word]:
    parts, left, before = [glyphs[0].text], glyphs[0].left, glyphs[0]
    seen = sum(glyph.parted for glyph in glyphs)
    usual = _usual_gap(glyphs) if seen > glyphs[0].parted else 0.0
    # Where pdfium sees a space at every other letter, its eye is not to be trusted.
    trusted = seen < 0.45 * len(glyphs)
    for glyph in islice(glyphs, 1, None):
        is_told = glyph.spaced or glyph.parted
        # Most characters just follow one another, and there are many.
        if (is_told or glyph.left - before.right > _WORD_GAP * glyph.size) and _has_space(
            before, glyph, usual, trusted
        ):
            yield Word("".join(parts), left, before.right)
            parts, left = [], glyph.left
        parts.append(glyph.text)
        before = glyph
    yield Word("".join(parts), left, before.right)


def _usual_gap(glyphs: Sequence[Glyph]) -> float:
    """Between the Chinese characters of a line, in font sizes: more than nothing where it is justified."""
    gaps = [
        (b.left - a.right) / max(b.size, 0.01)
        for a, b in pairwise(glyphs)
        if is_wide(a.text[-1]) and is_wide(b.text[0])
    ]
    return median(gaps) if len(gaps) > 2 else 0.0


def _has_space(before: Glyph, glyph: Glyph, usual: float, trusted: bool) -> bool:
    """A space of the file, or a gap where words are parted by gaps alone."""
    size = max(before.size, glyph.size)
    gap = glyph.left - before.right
    wide = is_wide(before.text[-1]) + is_wide(glyph.text[0])
    if glyph.spaced:
        # Programs that justify Chinese text put spaces without width into it.
        return wide < 2 or gap > 0.12 * size
    if wide == 2:
        return gap > _WIDE_GAP * size or (glyph.parted and gap > (usual + 0.17) * size)
    if wide == 1:
        return gap > _MIXED_GAP * size
    raised = min(before.size, glyph.size) < 0.8 * size
    return gap > _WORD_GAP * size or (glyph.parted and trusted and gap > -0.12 * size and not raised)


def _without_letter_spacing(text: str) -> str:
    """Spaces taken out of a line whose Chinese characters stand apart one by one; others keep theirs."""
    words = text.split()
    single = sum(len(word) == 1 and is_wide(word) for word in words)
    return "".join(words) if len(words) > 2 and single * 10 >= len(words) * 8 else text
