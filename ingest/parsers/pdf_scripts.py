"""A page's characters, turned so that the text runs to the right and lines go down.

Text set in another direction than the page's (a watermark, a stamp in the margin) is kept apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import pypdfium2

from ingest.parsers import pdf_glyphs
from ingest.parsers.pdf_glyphs import Direction, Glyph, Span

_SAME_PLACE = 0.15
_CELL = 16

_Place = tuple[str, Direction, int, int]
_Seen = dict[_Place, list[tuple[float, float, int]]]


@dataclass(frozen=True, slots=True)
class Script:
    """The characters of one direction, in content order."""

    direction: Direction
    glyphs: list[Glyph]


@dataclass(frozen=True, slots=True)
class PageText:
    """`scripts` begins with the direction most of the page is set in; `garbled` is the share without a meaning."""

    scripts: list[Script]
    inked: int
    garbled: float


def read(page: pypdfium2.PdfTextPage) -> PageText:
    found = pdf_glyphs.read(page)
    spans = _without_repeats(found.spans)
    vertical = _is_vertical(spans)
    by_direction: dict[Direction, list[Glyph]] = {}
    for span in spans:
        if vertical and span.style.direction == "right":
            by_direction.setdefault("down", []).extend(map(_set_downwards, span.glyphs))
        else:
            by_direction.setdefault(span.style.direction, []).extend(span.glyphs)
    scripts = [
        Script(direction, glyphs) for direction, glyphs in sorted(by_direction.items(), key=lambda item: -len(item[1]))
    ]
    return PageText(scripts, found.inked, found.garbled / found.inked if found.inked else 0.0)


def _without_repeats(spans: Sequence[Span]) -> list[Span]:
    """Characters drawn twice at one place, as poor man's bold or shadow is, once."""
    by_direction: dict[Direction, list[Span]] = defaultdict(list)
    for span in spans:
        by_direction[span.style.direction].append(span)
    if not any(map(_overlap, by_direction.values())):
        return list(spans)
    seen: _Seen = {}
    found = []
    for number, span in enumerate(spans):
        tolerance = _SAME_PLACE * span.style.size
        direction = span.style.direction
        glyphs = [glyph for glyph in span.glyphs if not _is_seen(seen, glyph, direction, number, tolerance)]
        if glyphs:
            found.append(Span(span.style, glyphs))
    return found


def _overlap(spans: Sequence[Span]) -> bool:
    """Whether the places of any two spans' characters may be the same."""
    areas = sorted(map(_area, spans))
    for number, (_, bottom, left, right) in enumerate(areas, start=1):
        for top, _, other_left, other_right in islice(areas, number, None):
            if top > bottom:
                break
            if other_left <= right and left <= other_right:
                return True
    return False


def _area(span: Span) -> tuple[float, float, float, float]:
    """First and last baseline, first and last left side, and a little around them."""
    lefts, bases = [glyph.left for glyph in span.glyphs], [glyph.base for glyph in span.glyphs]
    slack = _SAME_PLACE * span.style.size
    return min(bases) - slack, max(bases) + slack, min(lefts) - slack, max(lefts) + slack


def _is_seen(seen: _Seen, glyph: Glyph, direction: Direction, number: int, tolerance: float) -> bool:
    """Whether an earlier span has the character at this place; if none has, this one is remembered."""
    text, x, y = glyph.text, glyph.left, glyph.base
    left, right = int(x - tolerance) // _CELL, int(x + tolerance) // _CELL
    low, high = int(y - tolerance) // _CELL, int(y + tolerance) // _CELL
    cells: Iterable[_Place] = ((text, direction, left, low),)
    if left != right or low != high:
        cells = {(text, direction, across, down) for across in (left, right) for down in (low, high)}
    for cell in cells:
        for other_x, other_y, other in seen.get(cell, ()):
            if abs(other_x - x) <= tolerance and abs(other_y - y) <= tolerance and other != number:
                return True
    seen.setdefault((text, direction, int(x) // _CELL, int(y) // _CELL), []).append((x, y, number))
    return False


def _is_vertical(spans: Sequence[Span]) -> bool:
    """Whether upright characters follow one another downwards, as in vertical Chinese and Japanese."""
    downwards = along = 0
    before: Glyph | None = None
    for span in spans:
        if span.style.direction != "right":
            before = None
            continue
        size = span.style.size
        for glyph in span.glyphs:
            if before is not None and glyph.text > "\u2e7f":
                across, down = glyph.left - before.left, glyph.base - before.base
                downwards += 0.5 * size < down < 1.8 * size and abs(across) < 0.1 * size
                along += across > 0 and abs(down) < 0.1 * size
            before = glyph
    return downwards > along


def _set_downwards(glyph: Glyph) -> Glyph:
    """An upright character in the coordinates of vertical text, its baseline where that of a line would be."""
    base = 0.38 * glyph.size - (glyph.left + glyph.right) / 2
    return glyph._replace(left=glyph.top, right=glyph.bottom, base=base)
