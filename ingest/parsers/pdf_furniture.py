"""Running headers, footers and page numbers: what stands at the same place of most pages with the same text."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Literal, NamedTuple

from ingest.parsers.pdf_lines import Line, rows

_FEWEST_PAGES = 4
_DEPTH = 0.16
"""The share of a page's height, at its top and at its bottom, that headers and footers stand in."""
_ROWS = 3
_SHARE = 0.4
"""Of the pages: left and right pages may take turns."""
_SLOT_SHARE = 0.6
_SLOT = 4.0
_LARGER = 1.15
_BOLD_GAP = 1.2
_SMALLER = 0.93
_WIDER = 1.3

_DIGITS = re.compile(r"\d+")
_NUMERAL = re.compile(r"(?:第)?([ivxlc]+|[〇零一二三四五六七八九十百]+)(?:页|頁)?")
_FACT = re.compile(r"\d{6}|\w@\w")
_LETTER = re.compile(r"[^\W\d_]")

Zone = Literal["top", "bottom"]


@dataclass(frozen=True, slots=True)
class Page:
    """Pieces outside tables, with the page's extent in their coordinates."""

    pieces: list[Line]
    top: float
    bottom: float


class _Key(NamedTuple):
    zone: Zone
    text: str
    slot: int


class _Candidate(NamedTuple):
    page: int
    line: Line
    gap: float
    """To the next row inwards, in font sizes."""
    is_apart: bool
    """Set smaller than the body, or outside a gap that is wider than those between the page's lines."""


def without_furniture(pages: Sequence[Page], body_size: float) -> list[list[Line]]:
    """Each page's pieces without what is repeated; documents of a few pages keep all.

    A repeated line with an account, a telephone number or an address for mail in it stays where it first stands: a
    letterhead may be the only place that says so.
    """
    if len(pages) < _FEWEST_PAGES:
        return [list(page.pieces) for page in pages]
    found: dict[_Key, list[_Candidate]] = defaultdict(list)
    for number, page in enumerate(pages):
        for key, candidate in _candidates(page, number, body_size):
            found[key].append(candidate)
    chosen = {(key.zone, key.text) for key in _repeated(found, len(pages))}
    # On a title page or an appendix the same may stand a little higher or lower.
    furniture = [c for key, group in found.items() if (key.zone, key.text) in chosen for c in group]
    facts: dict[str, Line] = {}
    for candidate in sorted(furniture, key=lambda candidate: candidate.page):
        if _FACT.search(candidate.line.text):
            facts.setdefault(candidate.line.text, candidate.line)
    dropped = {id(c.line) for c in furniture} - {id(line) for line in facts.values()}
    return [[piece for piece in page.pieces if id(piece) not in dropped] for page in pages]


def _candidates(page: Page, number: int, body_size: float) -> Iterator[tuple[_Key, _Candidate]]:
    table = rows(page.pieces)
    usual = _usual_pitch(table)
    depth = _DEPTH * (page.bottom - page.top)
    zones: tuple[tuple[Zone, list[list[Line]]], ...] = (("top", table), ("bottom", table[::-1]))
    for zone, ordered in zones:
        outside = _rows_outside(ordered[: _ROWS + 1], usual)
        for index, row in enumerate(ordered[:_ROWS]):
            for line in row:
                distance = line.middle - page.top if zone == "top" else page.bottom - line.middle
                if distance > depth or line.size > _LARGER * body_size:
                    continue
                following = ordered[index + 1][0].middle if index + 1 < len(ordered) else line.middle + 100
                gap = (abs(following - line.middle) - line.size) / max(line.size, 1.0)
                is_apart = index < outside or line.size < _SMALLER * body_size
                yield _Key(zone, _neutral(line.text), round(distance / _SLOT)), _Candidate(number, line, gap, is_apart)


def _usual_pitch(table: Sequence[Sequence[Line]]) -> float:
    """From line to line of the page, as far as it has text to tell that; nothing where it has not."""
    pitches = [b[0].middle - a[0].middle for a, b in pairwise(table)]
    return median(pitches) if len(pitches) >= 2 * _ROWS else 0.0


def _rows_outside(ordered: Sequence[Sequence[Line]], usual: float) -> int:
    """How many of the rows at an edge of the page, given from there inwards, stand outside a wide gap."""
    gaps = [abs(b[0].middle - a[0].middle) > _WIDER * usual for a, b in pairwise(ordered)]
    return max((number for number, is_wide in enumerate(gaps, start=1) if is_wide), default=0 if gaps else len(ordered))


def _neutral(text: str) -> str:
    """Without white space, case and numbers, so that all pages of a running header say the same."""
    folded = "".join(unicodedata.normalize("NFKC", text).lower().split())
    bare = folded.strip("-–—·•.~|/[]()_")
    return "0" if _NUMERAL.fullmatch(bare) else _DIGITS.sub("0", folded)


def _repeated(found: dict[_Key, list[_Candidate]], pages: int) -> set[_Key]:
    """Keys of furniture: those on enough pages, and, where these fill a place on most pages, of running titles."""
    chosen: set[_Key] = set()
    slots: dict[tuple[Zone, int], set[_Key]] = defaultdict(set)
    for key, candidates in found.items():
        near = [found.get(key._replace(slot=key.slot + step), []) for step in (-1, 0, 1)]
        pages_with = {candidate.page for group in near for candidate in group}
        if _is_content(key, candidates):
            continue
        if len(pages_with) >= max(3, _SHARE * pages):
            chosen.add(key)
        elif len(pages_with) >= 2:
            slots[key.zone, key.slot].add(key)
    for keys in slots.values():
        filled = {candidate.page for key in keys for candidate in found[key]}
        if len(filled) >= _SLOT_SHARE * pages:
            chosen |= keys
    return chosen


def _is_content(key: _Key, candidates: Sequence[_Candidate]) -> bool:
    """A bold line close to what follows is a heading; numbers that do not count the pages are figures.

    And what is set like the body's lines and among them is one of them, unless it is the page's number.
    """
    if all(candidate.line.bold for candidate in candidates):
        return median(candidate.gap for candidate in candidates) < _BOLD_GAP
    numbers = [_DIGITS.findall(unicodedata.normalize("NFKC", candidate.line.text)) for candidate in candidates]
    counts = all(numbers) and any(_counts_pages(column, candidates) for column in zip(*numbers, strict=False))
    if 2 * sum(candidate.is_apart for candidate in candidates) <= len(candidates):
        return not counts and key.text != "0"
    if _LETTER.search(key.text) and all(found == numbers[0] for found in numbers):
        return False
    if not all(numbers):
        # Roman and Chinese numerals.
        return False
    return not counts


def _counts_pages(numbers: Sequence[str], candidates: Sequence[_Candidate]) -> bool:
    """Whether the numbers at one place of a line grow with the pages."""
    offsets = Counter(int(number[:9]) - c.page for number, c in zip(numbers, candidates, strict=True))
    return offsets.most_common(1)[0][1] >= 0.5 * len(candidates)
