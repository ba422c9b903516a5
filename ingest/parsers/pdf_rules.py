"""The straight lines drawn on a page: strokes, thin rectangles, the sides of stroked boxes."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import pypdfium2
import pypdfium2.raw as pdfium

from ingest.parsers.pdf_glyphs import Direction, turn

_THIN = 3.0
_SHORTEST = 4.0
_STRAIGHT = 0.8
_MOST_OBJECTS = 20_000
_MOST_SEGMENTS = 20_000
"""Beyond these a page is a drawing, not a table."""
_DEEPEST = 4

Matrix = tuple[float, float, float, float, float, float]
_UNMOVED: Matrix = (1, 0, 0, 1, 0, 0)


class Rule(NamedTuple):
    """In points, y downwards. Horizontal ones have top = bottom, vertical ones left = right."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def is_horizontal(self) -> bool:
        return self.top == self.bottom


@dataclass(frozen=True, slots=True)
class Drawing:
    """`image_area` is in square points, overlapping images counted twice."""

    rules: list[Rule]
    image_area: float
    paths: int


def read(page: pypdfium2.PdfPage, direction: Direction) -> Drawing:
    """Rules in the coordinates of text in `direction`."""
    boxes: list[tuple[float, float, float, float]] = []
    area = 0.0
    paths = 0
    segments = 0
    for handle, kind, matrix in _objects(page):
        if kind == pdfium.FPDF_PAGEOBJ_IMAGE:
            left, bottom, right, top = _bounds(handle, matrix)
            area += (right - left) * (top - bottom)
        elif kind == pdfium.FPDF_PAGEOBJ_PATH and segments <= _MOST_SEGMENTS:
            paths += 1
            segments += pdfium.FPDFPath_CountSegments(handle)
            boxes += _straight(handle, matrix)
    if segments > _MOST_SEGMENTS or paths > _MOST_OBJECTS:
        boxes = []
    return Drawing([rule for box in boxes for rule in _rule(box, direction)], area, paths)


def _objects(page: pypdfium2.PdfPage) -> Iterator[tuple[pdfium.FPDF_PAGEOBJECT, int, Matrix]]:
    raw = page.raw
    for index in range(min(pdfium.FPDFPage_CountObjects(raw), 5 * _MOST_OBJECTS)):
        yield from _within(pdfium.FPDFPage_GetObject(raw, index), _UNMOVED, _DEEPEST)


def _within(
    handle: pdfium.FPDF_PAGEOBJECT, matrix: Matrix, depth: int
) -> Iterator[tuple[pdfium.FPDF_PAGEOBJECT, int, Matrix]]:
    kind = pdfium.FPDFPageObj_GetType(handle)
    if kind != pdfium.FPDF_PAGEOBJ_FORM:
        yield handle, kind, matrix
    elif depth:
        inner = _times(_matrix(handle), matrix)
        for index in range(min(pdfium.FPDFFormObj_CountObjects(handle), _MOST_OBJECTS)):
            yield from _within(pdfium.FPDFFormObj_GetObject(handle, index), inner, depth - 1)


def _straight(handle: pdfium.FPDF_PAGEOBJECT, outer: Matrix) -> Iterator[tuple[float, float, float, float]]:
    """Boxes of a path's straight lines in the page's coordinates; none for what is not drawn."""
    fill, stroke = ctypes.c_int(), ctypes.c_int()
    pdfium.FPDFPath_GetDrawMode(handle, ctypes.byref(fill), ctypes.byref(stroke))
    if not fill.value and not stroke.value:
        return
    box = _bounds(handle, outer)
    if min(box[2] - box[0], box[3] - box[1]) <= _THIN:
        yield box
        return
    corners = list(_lines(handle, _times(_matrix(handle), outer)))
    if stroke.value:
        yield from corners
    else:
        yield from _thin_parts(corners)


def _thin_parts(sides: Iterable[tuple[float, float, float, float]]) -> Iterator[tuple[float, float, float, float]]:
    """Of a filled path of many rectangles, those so thin that they are lines: opposite sides close together."""
    level = sorted((s for s in sides if s[3] - s[1] < _STRAIGHT), key=lambda s: (round(s[0]), round(s[2]), s[1]))
    upright = sorted((s for s in sides if s[2] - s[0] < _STRAIGHT), key=lambda s: (round(s[1]), round(s[3]), s[0]))
    for first, second in pairwise(level):
        if abs(first[0] - second[0]) < 1 and abs(first[2] - second[2]) < 1 and 0 < second[1] - first[1] <= _THIN:
            yield first
    for first, second in pairwise(upright):
        if abs(first[1] - second[1]) < 1 and abs(first[3] - second[3]) < 1 and 0 < second[0] - first[0] <= _THIN:
            yield first


def _lines(handle: pdfium.FPDF_PAGEOBJECT, matrix: Matrix) -> Iterator[tuple[float, float, float, float]]:
    """The path's straight segments that run along an axis, as boxes."""
    x, y = ctypes.c_float(), ctypes.c_float()
    start = last = (0.0, 0.0)
    for index in range(pdfium.FPDFPath_CountSegments(handle)):
        segment = pdfium.FPDFPath_GetPathSegment(handle, index)
        pdfium.FPDFPathSegment_GetPoint(segment, ctypes.byref(x), ctypes.byref(y))
        point = _moved(x.value, y.value, matrix)
        kind = pdfium.FPDFPathSegment_GetType(segment)
        ends = [(last, point)] if kind == pdfium.FPDF_SEGMENT_LINETO else []
        if kind == pdfium.FPDF_SEGMENT_MOVETO:
            start = point
        if pdfium.FPDFPathSegment_GetClose(segment):
            ends.append((point, start))
        last = point
        for (x0, y0), (x1, y1) in ends:
            if min(abs(x0 - x1), abs(y0 - y1)) < _STRAIGHT:
                yield min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def _bounds(handle: pdfium.FPDF_PAGEOBJECT, outer: Matrix) -> tuple[float, float, float, float]:
    left, bottom, right, top = (ctypes.c_float() for _ in range(4))
    at = [ctypes.byref(value) for value in (left, bottom, right, top)]
    if not pdfium.FPDFPageObj_GetBounds(handle, *at):
        return 0.0, 0.0, 0.0, 0.0
    x0, y0 = _moved(left.value, bottom.value, outer)
    x1, y1 = _moved(right.value, top.value, outer)
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def _matrix(handle: pdfium.FPDF_PAGEOBJECT) -> Matrix:
    found = pdfium.FS_MATRIX()
    if not pdfium.FPDFPageObj_GetMatrix(handle, ctypes.byref(found)):
        return _UNMOVED
    return found.a, found.b, found.c, found.d, found.e, found.f


def _times(first: Matrix, second: Matrix) -> Matrix:
    """The matrix that does `first` and then `second`."""
    a, b, c, d, e, f = first
    x, y = _moved(e, f, second)
    m = second
    return (a * m[0] + b * m[2], a * m[1] + b * m[3], c * m[0] + d * m[2], c * m[1] + d * m[3], x, y)


def _moved(x: float, y: float, matrix: Matrix) -> tuple[float, float]:
    a, b, c, d, e, f = matrix
    return a * x + c * y + e, b * x + d * y + f


def _rule(box: tuple[float, float, float, float], direction: Direction) -> Iterator[Rule]:
    x0, y0 = turn(box[0], box[1], direction)
    x1, y1 = turn(box[2], box[3], direction)
    left, right, top, bottom = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
    if not max(abs(value) for value in (left, right, top, bottom)) < 1e6:
        return
    if right - left >= bottom - top and right - left >= _SHORTEST:
        middle = (top + bottom) / 2
        yield Rule(left, middle, right, middle)
    elif bottom - top >= _SHORTEST:
        middle = (left + right) / 2
        yield Rule(middle, top, middle, bottom)
