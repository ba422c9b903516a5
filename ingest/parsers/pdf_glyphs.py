"""A page's characters as pdfium tells them: their text, where they stand, how they are set.

pdfium is asked for one thing of one character at a time, some million times for a book, so nothing is asked twice.
"""

from __future__ import annotations

import ctypes
import math
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import pypdfium2
import pypdfium2.raw as pdfium

Direction = Literal["right", "up", "left", "down", "askew"]

_TURNS: dict[int, Direction] = {0: "right", 1: "up", 2: "left", 3: "down"}
_BOLD_WEIGHT = 600
_BOLD_NAMES = ("bold", "black", "heavy", "simhei", "黑体")
_FORCE_BOLD = 1 << 18
_HYPHENS = (2, 0xFFFE)
"""How pdfium tells a hyphen at a line's end, and what some fonts have for other signs."""
_FARTHEST_SQUARED = 1e12
_SYMBOLS = {0xF0B7: "•", 0xF0A7: "▪", 0xF06C: "●", 0xF06E: "■", 0xF0D8: "➢", 0xF0FC: "✓", 0xF076: "❖", 0xF075: "◆"}
"""Bullets of Symbol and Wingdings, which have no other code point in a PDF than the fonts' own."""
_FIRST_HALF = -1
"""Of two that a character beyond the first plane is told in; the second one stands for both."""


class Style(NamedTuple):
    """`font` is a number that tells the fonts of a page apart."""

    size: float
    direction: Direction
    bold: bool
    font: int


class Glyph(NamedTuple):
    """One character on the page, in points; `base` is its baseline and grows downwards.

    `spaced` tells a space that the file holds before it, `parted` one that pdfium saw in the geometry.
    """

    text: str
    left: float
    right: float
    base: float
    size: float
    bold: bool
    spaced: bool
    parted: bool

    @property
    def top(self) -> float:
        return top_of(self.base, self.size)

    @property
    def bottom(self) -> float:
        return bottom_of(self.base, self.size)


@dataclass(frozen=True, slots=True)
class Span:
    """The characters of one text object, one at least, turned to run to the right."""

    style: Style
    glyphs: list[Glyph]


@dataclass(frozen=True, slots=True)
class Glyphs:
    """`inked` counts all that are no space, `garbled` those whose meaning the file does not tell."""

    spans: list[Span]
    inked: int
    garbled: int


def read(page: pypdfium2.PdfTextPage) -> Glyphs:
    """All in content order."""
    return _Reader(page).glyphs()


def turn(x: float, y: float, direction: Direction) -> tuple[float, float]:
    """A point of the page in the coordinates of text in `direction`: x along the line, y downwards."""
    if direction == "up":
        return y, x
    if direction == "left":
        return -x, y
    if direction == "down":
        return -y, -x
    return x, -y


def top_of(base: float, size: float) -> float:
    """Of what stands on `base` in letters of `size`, as most fonts have it."""
    return base - 0.88 * size


def bottom_of(base: float, size: float) -> float:
    return base + 0.12 * size


def _numbered(function: Any, result: Any, *arguments: Any) -> Callable[..., int | None]:
    """A function of pdfium that takes handles as numbers: an object made for each costs more than the call."""
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    return ctypes.PYFUNCTYPE(result, *arguments)(address)


_get_object = _numbered(pdfium.FPDFText_GetTextObject, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
_get_box = _numbered(pdfium.FPDFText_GetLooseCharBox, ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
_get_origin = _numbered(
    pdfium.FPDFText_GetCharOrigin, ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p
)
_is_generated = _numbered(pdfium.FPDFText_IsGenerated, ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_has_map_error = _numbered(pdfium.FPDFText_HasUnicodeMapError, ctypes.c_int, ctypes.c_void_p, ctypes.c_int)


class _Reader:
    """Walks over the characters of one text page."""

    def __init__(self, page: pypdfium2.PdfTextPage) -> None:
        self._page = page.raw
        self._number = ctypes.addressof(page.raw.contents)
        self._codes = _codes(page.raw)
        self._bold: dict[int, bool] = {}
        self._meaningless: dict[int, dict[int, bool]] = defaultdict(dict)

    def glyphs(self) -> Glyphs:
        page = self._number
        box, origin = memoryview(bytearray(16)).cast("f"), memoryview(bytearray(16)).cast("d")
        at_box, at_x = (ctypes.addressof(ctypes.c_char.from_buffer(buffer)) for buffer in (box, origin))
        spans: list[Span] = []
        inked = garbled = 0
        spaced = parted = False
        last: int | None = -1
        level = base = math.nan
        for index, code in enumerate(self._codes):
            text = _character(code) if code not in _HYPHENS else self._hyphen(index)
            if text.isspace():
                generated = _is_generated(page, index) == 1
                spaced, parted = spaced or not generated, parted or generated
                continue
            if code == _FIRST_HALF:
                continue
            handle = _get_object(page, index)
            if handle != last:
                last, level = handle, math.nan
                size, direction, bold, font = style = self._style(index)
                spans.append(Span(style, []))
                add, meaningless = spans[-1].glyphs.append, self._meaningless[font]
            inked += 1
            if not text:
                garbled += 1
                continue
            # What one code means in one font is the same all over a page.
            if code not in meaningless:
                meaningless[code] = _is_meaningless(text) or _has_map_error(page, index) == 1
            garbled += meaningless[code]
            _get_box(page, index, at_box)
            left, top, right, bottom = box
            if bottom != level or direction != "right":
                # The boxes of a text object's upright characters end on one height, and so do its baselines.
                level = bottom
                _get_origin(page, index, at_x, at_x + 8)
                left, right, base = _sides(direction, (left, top, right, bottom), (origin[0], origin[1]))
            # Written so that a NaN fails it, too.
            if not left * left + right * right + base * base < _FARTHEST_SQUARED:
                left = right = base = 0.0
            add(Glyph(text, left, right, base, size, bold, spaced, parted))
            spaced = parted = False
        return Glyphs([span for span in spans if span.glyphs], inked, garbled)

    def _hyphen(self, index: int) -> str:
        """A sign without a meaning is a bullet where it begins a line before a space."""
        if pdfium.FPDFText_IsHyphen(self._page, index) == 1:
            return "-"
        begins = index == 0 or self._codes[index - 1] in (10, 13)
        return "•" if begins and self._codes[index + 1 : index + 2] == [32] else ""

    def _style(self, index: int) -> Style:
        matrix = pdfium.FS_MATRIX()
        pdfium.FPDFText_GetMatrix(self._page, index, ctypes.byref(matrix))
        size = abs(pdfium.FPDFText_GetFontSize(self._page, index) * math.hypot(matrix.c, matrix.d))
        if not 0.01 < size < 10_000:
            size = 1.0
        handle = pdfium.FPDFText_GetTextObject(self._page, index)
        font = pdfium.FPDFTextObj_GetFont(handle) if handle else None
        if not font:
            return Style(size, _direction(matrix), False, 0)
        number = ctypes.addressof(font.contents)
        if number not in self._bold:
            self._bold[number] = _is_bold_font(font)
        # The outline of letters is drawn as well to make them look bold.
        outlined = pdfium.FPDFTextObj_GetTextRenderMode(handle) == pdfium.FPDF_TEXTRENDERMODE_FILL_STROKE
        return Style(size, _direction(matrix), outlined or self._bold[number], number)


def _sides(
    direction: Direction, box: tuple[float, float, float, float], origin: tuple[float, float]
) -> tuple[float, float, float]:
    """Left side, right side and baseline of a character as text in `direction` has them."""
    left, top, right, bottom = box
    ends = turn(left, bottom, direction)[0], turn(right, top, direction)[0]
    return min(ends), max(ends), turn(*origin, direction)[1]


def _codes(page: pdfium.FPDF_TEXTPAGE) -> Sequence[int]:
    """The code points of all characters."""
    count = pdfium.FPDFText_CountChars(page)
    units = (ctypes.c_ushort * (count + 1))()
    # As one text it leaves out characters without a code, and then does not tell which.
    if pdfium.FPDFText_GetText(page, 0, count, units) == count + 1:
        codes = units[:count]
    else:
        codes = [pdfium.FPDFText_GetUnicode(page, index) for index in range(count)]
    return _whole(codes) if any(0xD800 <= code < 0xE000 for code in codes) else codes


def _whole(units: Sequence[int]) -> list[int]:
    """UTF-16 halves put together."""
    codes: list[int] = []
    high = 0
    for unit in units:
        if 0xD800 <= unit < 0xDC00:
            codes.append(_FIRST_HALF)
            high = unit
            continue
        if 0xDC00 <= unit < 0xE000:
            unit = 0x10000 + ((high - 0xD800) << 10) + (unit - 0xDC00) if high else 0xFFFD
        codes.append(unit)
        high = 0
    return codes


def _is_bold_font(font: pdfium.FPDF_FONT) -> bool:
    name = ctypes.create_string_buffer(128)
    pdfium.FPDFFont_GetBaseFontName(font, name, 128)
    spelled = name.value.decode("utf-8", "replace").lower()
    return (
        pdfium.FPDFFont_GetWeight(font) >= _BOLD_WEIGHT
        or bool(pdfium.FPDFFont_GetFlags(font) & _FORCE_BOLD)
        or any(bold in spelled for bold in _BOLD_NAMES)
    )


@lru_cache(1 << 16)
def _character(code: int) -> str:
    if code == 0xAD:
        return "-"
    if code in _SYMBOLS:
        return _SYMBOLS[code]
    if code in (9, 10, 13):
        return " "
    return chr(code) if 32 <= code <= 0x10FFFF and not 0x7F <= code < 0xA0 else ""


@lru_cache(1 << 16)
def _is_meaningless(text: str) -> bool:
    return text == "\ufffd" or unicodedata.category(text) in ("Co", "Cn")


def _direction(matrix: pdfium.FS_MATRIX) -> Direction:
    turns = math.atan2(matrix.b, matrix.a) / (math.pi / 2)
    nearest = round(turns)
    return _TURNS[nearest % 4] if abs(turns - nearest) < 0.06 else "askew"
