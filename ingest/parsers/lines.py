"""Lines that belong together: hard wraps undone, hyphens mended, no space invented between Chinese characters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import pairwise

_NARROWEST, _WIDEST = 40, 110
"""Columns at which people and mail programs wrap text; a longer line is a paragraph that was never wrapped."""

_HYPHENATED = re.compile(r"[^\W\d_]{2}[-\u2010\u00ad]")
_STARTS_ITEM = re.compile(r"\s*(?:[-*+•·●○■◆▪–—]\s|\(?\d{1,3}[.)、．](?!\d)|[（(]?[一二三四五六七八九十]{1,3}[)）、])")


def glue(first: str, second: str) -> str:
    """Two lines of one paragraph as one: a mended hyphen, nothing between Chinese characters, else a space."""
    return flow([first, second])


def flow(lines: Sequence[str]) -> str:
    """All `lines` of one paragraph glued."""
    pieces = _Pieces(lines[0] if lines else "")
    for line in lines[1:]:
        pieces.glue(line)
    return pieces.text()


def columns(text: str) -> int:
    """Width in columns of a fixed-pitch font: East Asian wide and full-width characters take two."""
    return len(text) if text.isascii() else sum(2 if _is_wide(c) else 1 for c in text)


def wrap_width(paragraphs: Iterable[Sequence[str]]) -> int | None:
    """The column a text was hard-wrapped at, or None when its line ends are meant.

    Wrapped text fills its lines: nearly every line but a paragraph's last has no room for the next line's first
    word. Where most have room, the author ended the lines.
    """
    pairs = [(a, b) for lines in paragraphs for a, b in pairwise(lines)]
    if len(pairs) < 2:
        return None
    widths = sorted(columns(a.rstrip()) for a, _ in pairs)
    width = widths[min(len(widths) - 1, len(widths) * 95 // 100)]
    if not _NARROWEST <= width <= _WIDEST:
        return None
    full = sum(_no_room(a, b, width) for a, b in pairs)
    return width if full * 10 >= len(pairs) * 7 else None


def unwrap(lines: Sequence[str], width: int | None) -> str:
    """A paragraph's lines with the wraps at `width` undone; line ends that were meant stay."""
    pieces = _Pieces(lines[0].rstrip() if lines else "")
    for line, following in pairwise(lines):
        if width is not None and _no_room(line, following, width) and not starts_item(following):
            pieces.glue(following)
        else:
            pieces.add(f"\n{following.rstrip()}")
    return pieces.text()


class _Pieces:
    """A paragraph that grows line by line; a million lines are not copied a million times."""

    def __init__(self, first: str) -> None:
        self._pieces = [first]

    def add(self, piece: str) -> None:
        self._pieces.append(piece)

    def glue(self, line: str) -> None:
        left, right = self._pieces[-1].rstrip(), line.lstrip()
        # A word may have come in pieces of one letter.
        tail = "".join([*self._pieces[-6:-1], left])[-3:]
        if left and right and _HYPHENATED.fullmatch(tail) and right[0].islower():
            left = left[:-1]
        elif left and right and not (_is_wide(left[-1]) and _is_wide(right[0])):
            right = f" {right}"
        self._pieces[-1] = left
        if right:
            self._pieces.append(right)

    def text(self) -> str:
        return "".join(self._pieces)


def starts_item(line: str) -> bool:
    """Whether a line begins with a bullet or a list number."""
    return _STARTS_ITEM.match(line) is not None


def _no_room(line: str, following: str, width: int) -> bool:
    words = following.split(maxsplit=1)
    if not words:
        return False
    # A Chinese line breaks at any character; punctuation may not begin a line, so up to two characters move along.
    needed = 6 if _is_wide(words[0][0]) else 1 + columns(words[0])
    return columns(line.rstrip()) + needed > width


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in ("W", "F")
