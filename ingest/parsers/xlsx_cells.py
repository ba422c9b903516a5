"""A workbook's parts as cells with the text they show: ECMA-376 part 1, 18.3 and 18.4.

Not by openpyxl's reader, which in its streaming mode says nothing of merged cells and leaves out formulas without a
stored result, goes over a sheet twice, and gives up over a style it does not know. Its tables of formats, its dates
and its translation of shared formulas are used.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO
from xml.etree.ElementTree import Element, iterparse

from openpyxl.formula.translate import Translator
from openpyxl.styles.numbers import BUILTIN_FORMATS
from openpyxl.utils.cell import coordinate_to_tuple, range_boundaries
from openpyxl.utils.datetime import MAC_EPOCH, WINDOWS_EPOCH, from_ISO8601

from ingest.parsers import number_format, opc
from rag_service.errors import ParseFailed

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_ROW, _MERGE = f"{_MAIN}row", f"{_MAIN}mergeCell"
_CELL, _VALUE, _FORMULA, _INLINE = f"{_MAIN}c", f"{_MAIN}v", f"{_MAIN}f", f"{_MAIN}is"
_TEXT, _RUN, _STRING = f"{_MAIN}t", f"{_MAIN}r", f"{_MAIN}si"
_ESCAPE = re.compile("_x([0-9A-Fa-f]{4})_")


@dataclass(frozen=True, slots=True)
class Cell:
    text: str
    is_number: bool


@dataclass(frozen=True, slots=True)
class Merge:
    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True, slots=True)
class Sheet:
    title: str
    part: str


class Workbook:
    """The parts that all sheets share, read; the sheets, to be read one at a time."""

    def __init__(self, package: opc.Package) -> None:
        self._package = package
        self._part, root = _root(package)
        properties = opc.child(root, "workbookPr")
        mac = properties is not None and properties.get("date1904") in ("1", "true")
        self._epoch: dt.datetime = MAC_EPOCH if mac else WINDOWS_EPOCH
        self._formats = list(self._read_formats())
        self._strings = list(self._read_strings())
        self._shown: dict[int, Callable[[object], str]] = {}
        self.sheets = tuple(self._sheets(root))

    def rows(self, sheet: Sheet, merges: list[Merge]) -> Iterator[tuple[int, list[tuple[int, Cell]]]]:
        """Rows that hold anything, with (column, cell) of the cells that do; `merges` is full when they are through."""
        reader = _SheetReader(self, merges)
        with self._package.open(sheet.part) as stream:
            yield from reader.rows(stream)

    def string(self, index: int) -> str:
        if not 0 <= index < len(self._strings):
            raise ParseFailed("broken", f"there is no shared string {index}")
        return self._strings[index]

    def shown(self, value: object, style: int) -> str:
        code = self._formats[style] if 0 <= style < len(self._formats) else "General"
        return number_format.shown(value, code, self._epoch)

    def _sheets(self, root: opc.Element) -> Iterator[Sheet]:
        for element in root.iter(f"{_MAIN}sheet"):
            part = self._package.target(self._part, element.get(_RELATION, ""))
            if part is None or not self._package.holds(part):
                raise ParseFailed("broken", f"the sheet {element.get('name')} is listed, but not there")
            yield Sheet(element.get("name", ""), part)

    def _read_formats(self) -> Iterator[str]:
        """The number format of each style, in order."""
        styles = self._shared("styles")
        if styles is None:
            return
        told = {one.get("numFmtId"): one.get("formatCode", "") for one in styles.iter(f"{_MAIN}numFmt")}
        kinds = opc.child(styles, "cellXfs")
        for style in () if kinds is None else kinds:
            number = style.get("numFmtId", "0")
            yield told.get(number) or _known_format(int(number))

    def _shared(self, kind: str) -> opc.Element | None:
        return next((self._package.xml(part) for part in self._package.related(self._part, kind)), None)

    def _read_strings(self) -> Iterator[str]:
        for part in self._package.related(self._part, "sharedStrings"):
            if self._package.holds(part):
                with self._package.open(part) as stream:
                    for _, element in iterparse(stream):
                        if element.tag == _STRING:
                            yield _string(element)
                            element.clear()


def _root(package: opc.Package) -> tuple[str, opc.Element]:
    for part in package.related("", "officeDocument"):
        root = package.xml(part)
        if root is not None and opc.local(root) == "workbook":
            return part, root
    raise ParseFailed("broken", "a ZIP archive, but not a workbook")


def _known_format(number: int) -> str:
    return number_format.CHINESE_FORMATS.get(number) or str(BUILTIN_FORMATS.get(number, "General"))


class _SheetReader:
    def __init__(self, book: Workbook, merges: list[Merge]) -> None:
        self._book = book
        self._merges = merges
        self._formulas: dict[str, tuple[str, str]] = {}

    def rows(self, stream: IO[bytes]) -> Iterator[tuple[int, list[tuple[int, Cell]]]]:
        number = 0
        for _, element in iterparse(stream):
            if element.tag == _ROW:
                number = int(element.get("r", number + 1))
                if cells := list(self._cells(element)):
                    yield number, cells
                element.clear()
            elif element.tag == _MERGE:
                self._merges.append(Merge(*range_boundaries(element.get("ref", ""))))

    def _cells(self, row: Element) -> Iterator[tuple[int, Cell]]:
        column = 0
        for element in row:
            if element.tag != _CELL:
                continue
            place = element.get("r")
            column = coordinate_to_tuple(place)[1] if place else column + 1
            cell = self._cell(element, place or "A1")
            if cell.text.strip():
                yield column, cell

    def _cell(self, element: Element, place: str) -> Cell:
        kind = element.get("t", "n")
        value = element.findtext(_VALUE)
        if kind == "inlineStr":
            inline = element.find(_INLINE)
            return Cell("" if inline is None else _string(inline), False)
        formula = element.find(_FORMULA)
        # A formula whose result is the empty string says that its result is a string.
        text = self._formula(formula, place) if formula is not None and (not value and kind != "str") else ""
        if formula is not None and formula.text and formula.get("t") == "shared":
            self._formulas[formula.get("si", "")] = (formula.text, place)
        if not value:
            return Cell(text, False)
        return self._valued(kind, value, int(element.get("s", 0)))

    def _valued(self, kind: str, value: str, style: int) -> Cell:
        if kind == "s":
            return Cell(self._book.string(int(value)), False)
        if kind == "n":
            return Cell(self._book.shown(_number(value), style), True)
        if kind == "b":
            return Cell(self._book.shown(value.strip() in ("1", "true"), style), False)
        if kind == "d":
            return Cell(self._book.shown(from_ISO8601(value), style), True)
        return Cell(_unescaped(value), False)

    def _formula(self, formula: Element, place: str) -> str:
        if formula.text:
            return f"={formula.text}"
        text, origin = self._formulas.get(formula.get("si", ""), ("", "A1"))
        return str(Translator(f"={text}", origin).translate_formula(place)) if text else ""


def _number(text: str) -> float:
    return int(text) if text.lstrip("-").isdigit() and len(text) < 300 else float(text)


def _string(element: Element) -> str:
    """Text and runs; how a Japanese name is read (`rPh`) is no part of it."""
    direct = (piece for piece in element if piece.tag in (_TEXT, _RUN))
    texts = (piece.text if piece.tag == _TEXT else piece.findtext(_TEXT) for piece in direct)
    return _unescaped("".join(text or "" for text in texts))


def _unescaped(text: str) -> str:
    """`_x000D_` stands for a character that XML cannot hold, `_x005F_` for a "_" before what looks so."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text) if "_x" in text else text
