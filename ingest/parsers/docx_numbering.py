"""Numbers that Word writes before headings and list items: ECMA-376 part 1, 17.9.

A clause is cited by such a number (第3.2条), and the number stands nowhere in the paragraph's own text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ingest.parsers import numerals, opc
from ingest.parsers.opc import child_value, is_on, value

_PLACE = re.compile(r"%([1-9])")
_LEVELS = 9


@dataclass(frozen=True, slots=True)
class Label:
    """What stands before a paragraph: "-" for a bullet, else the number as Word writes it, "" for none."""

    text: str
    level: int
    is_bullet: bool
    gap: str
    """What Word puts between the number and the text: nothing, or room."""


@dataclass(frozen=True, slots=True)
class _Level:
    start: int
    style: str
    text: str
    is_legal: bool
    gap: str
    restart: int | None
    paragraph_style: str | None


@dataclass(slots=True)
class _List:
    """A w:num: which definition it counts with, and what it changes."""

    definition: str
    levels: dict[int, _Level] = field(default_factory=dict)
    starts: dict[int, int] = field(default_factory=dict)


class Numbering:
    """The lists of one document, counting while its paragraphs go by in order."""

    def __init__(self, root: opc.Element | None) -> None:
        self._definitions: dict[str, dict[int, _Level]] = {}
        self._lists: dict[str, _List] = {}
        self._counts: dict[str, dict[int, int]] = {}
        self._started: set[tuple[str, int]] = set()
        if root is not None:
            self._read(root)

    def level_of_style(self, number: str, style: str) -> int | None:
        """The level of a list whose definition names a paragraph style as its own."""
        found = (n for n, level in self._levels(number).items() if level.paragraph_style == style)
        return next(found, None)

    def next(self, number: str, level: int) -> Label | None:
        """Count one paragraph of list `number`; None where there is no such list or level."""
        described = self._levels(number).get(level)
        if described is None:
            return None
        counts = self._counts.setdefault(self._lists[number].definition, {})
        self._count(number, level, described, counts)
        if described.style == "bullet":
            return Label("-", level, True, " ")
        return Label(self._written(number, described, counts), level, False, described.gap)

    def _levels(self, number: str) -> dict[int, _Level]:
        entry = self._lists.get(number)
        return {} if entry is None else self._definitions.get(entry.definition, {}) | entry.levels

    def _count(self, number: str, level: int, described: _Level, counts: dict[int, int]) -> None:
        entry = self._lists[number]
        start = entry.starts.get(level)
        if start is not None and (number, level) not in self._started:
            counts[level] = start
        else:
            counts[level] = counts[level] + 1 if level in counts else described.start
        self._started.add((number, level))
        levels = self._levels(number)
        for shallower in range(level):
            # A level that was passed over counts as begun, so that 2.2 follows 2.1.1.
            counts.setdefault(shallower, levels[shallower].start if shallower in levels else 1)
        for deeper in [deep for deep in counts if deep > level]:
            restart = levels[deeper].restart if deeper in levels else None
            # w:lvlRestart counts from 1, and 0 says never.
            if restart is None or (restart and level < restart):
                del counts[deeper]

    def _written(self, number: str, described: _Level, counts: dict[int, int]) -> str:
        levels = self._levels(number)

        def count(place: re.Match[str]) -> str:
            level = int(place[1]) - 1
            other = levels.get(level)
            value = counts.get(level, other.start if other is not None else 1)
            style = other.style if other is not None else "decimal"
            return numerals.counted(value, "decimal" if described.is_legal and style != "bullet" else style)

        return _PLACE.sub("" if described.style == "none" else count, described.text).strip()

    def _read(self, root: opc.Element) -> None:
        links: dict[str, str] = {}
        styles: dict[str, str] = {}
        for element in _children(root, "abstractNum"):
            name = value(element, "abstractNumId") or ""
            self._definitions[name] = dict(_levels(element))
            if (link := child_value(element, "numStyleLink")) is not None:
                links[name] = link
            if (style := child_value(element, "styleLink")) is not None:
                styles[style] = name
        for element in _children(root, "num"):
            definition = child_value(element, "abstractNumId") or ""
            definition = styles.get(links.get(definition, ""), definition)
            self._lists[value(element, "numId") or ""] = _list(element, definition)


def _list(element: opc.Element, definition: str) -> _List:
    entry = _List(definition)
    for override in _children(element, "lvlOverride"):
        level = int(value(override, "ilvl") or 0)
        entry.levels.update(_levels(override))
        if (start := child_value(override, "startOverride")) is not None:
            entry.starts[level] = int(start)
    return entry


def _levels(element: opc.Element) -> Iterator[tuple[int, _Level]]:
    for level in _children(element, "lvl"):
        number = int(value(level, "ilvl") or 0)
        if 0 <= number < _LEVELS:
            yield number, _level(level)


def _level(element: opc.Element) -> _Level:
    # A custom format stands in an mc:AlternateContent, with a known one as its fallback.
    styles = (value(found, "val") for found in element.iter() if opc.local(found) == "numFmt")
    restart = child_value(element, "lvlRestart")
    return _Level(
        start=int(child_value(element, "start") or 0),
        style=next((style for style in styles if style not in (None, "custom")), None) or "decimal",
        text=child_value(element, "lvlText") or "",
        is_legal=is_on(element, "isLgl"),
        gap="" if child_value(element, "suff") == "nothing" else " ",
        restart=int(restart) if restart is not None else None,
        paragraph_style=child_value(element, "pStyle"),
    )


def _children(element: opc.Element, name: str) -> Iterator[opc.Element]:
    return (one for one in element if opc.local(one) == name)
