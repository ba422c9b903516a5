"""What a Word document's paragraph styles say of structure: headings and lists, down their chain of parents."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ingest.parsers import opc
from ingest.parsers.opc import child, value

_HEADING = re.compile(r"(?:heading|标题|標題) ?([1-9])", re.IGNORECASE)
_TITLES = ("title", "标题", "標題")
_CODE = re.compile(r"\bcode\b|preformatted|代码", re.IGNORECASE)
_BODY_LEVEL = 9
_CHAIN = 20
"""Styles deep at most: Word itself allows ten or so, and a damaged file may go in a circle."""


@dataclass(frozen=True, slots=True)
class Style:
    id: str
    level: int | None
    """1–9 for a heading."""
    list_number: str | None
    list_level: int | None
    list_style: str | None
    """The style that brought the list in: the list's definition may name it as the one of some level."""
    is_code: bool


PLAIN = Style("", None, None, None, None, False)


class Styles:
    def __init__(self, root: opc.Element | None) -> None:
        self._elements: dict[str, opc.Element] = {}
        self._read: dict[str, Style] = {}
        self._default = ""
        for element in () if root is None else root:
            if opc.local(element) == "style" and value(element, "type") in (None, "paragraph"):
                name = value(element, "styleId") or ""
                self._elements[name] = element
                if value(element, "default") in ("1", "true", "on"):
                    self._default = name

    def of(self, style_id: str | None) -> Style:
        """The style of a paragraph that names `style_id`, or that names none."""
        name = style_id if style_id in self._elements else self._default
        if name not in self._read:
            self._read[name] = self._resolved(name)
        return self._read[name]

    def _resolved(self, name: str) -> Style:
        level = number = list_level = list_style = None
        is_code = False
        for element in self._chain(name):
            properties = child(element, "pPr")
            level = _heading_level(element, properties) if level is None else level
            told, told_level = list_of(properties)
            if number is None and told is not None:
                number, list_style = told, value(element, "styleId")
            list_level = told_level if list_level is None else list_level
            is_code = is_code or _CODE.search(_name(element)) is not None
        heading = level if level is not None and level <= _BODY_LEVEL else None
        return Style(name, heading, number, list_level, list_style, is_code)

    def _chain(self, name: str) -> list[opc.Element]:
        chain: list[opc.Element] = []
        element = self._elements.get(name)
        while element is not None and len(chain) < _CHAIN:
            chain.append(element)
            parent = child(element, "basedOn")
            element = None if parent is None else self._elements.get(value(parent, "val") or "")
        return chain


def list_of(properties: opc.Element | None) -> tuple[str | None, int | None]:
    """The list and the level that paragraph properties name."""
    numbering = None if properties is None else child(properties, "numPr")
    if numbering is None:
        return None, None
    number, level = child(numbering, "numId"), child(numbering, "ilvl")
    return (
        None if number is None else value(number, "val"),
        None if level is None else int(value(level, "val") or 0),
    )


def outline_level(properties: opc.Element | None) -> int | None:
    """1–9 for a heading, 10 for what says that it is none, None for what says nothing."""
    outline = None if properties is None else child(properties, "outlineLvl")
    if outline is None:
        return None
    level = int(value(outline, "val") or 0)
    return level + 1 if 0 <= level < 9 else 10


def _heading_level(element: opc.Element, properties: opc.Element | None) -> int | None:
    name = _name(element)
    if (level := outline_level(properties)) is not None:
        return level
    if (match := _HEADING.fullmatch(name)) is not None:
        return int(match[1])
    return 1 if name.lower() in _TITLES else None


def _name(element: opc.Element) -> str:
    name = child(element, "name")
    return "" if name is None else value(name, "val") or ""
