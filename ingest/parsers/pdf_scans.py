"""Pages that are pictures of text: rendered, read, and handed on as lines like any other page's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

import pypdfium2
from PIL.Image import Image

from ingest.parsers.ocr import OcrLine
from ingest.parsers.pdf_lines import Line

_DOTS_PER_INCH = 200
_MOST_PIXELS = 20_000_000
_USUAL_POINTS = 10.0
_SAME_SIZE = 0.25
"""Heights of read lines differ by this much within one size of type."""

Reader = Callable[[Image], Sequence[OcrLine]]


def read(page: pypdfium2.PdfPage, reader: Reader) -> list[Line]:
    """The page's pieces in points, y downwards from its top. Raises what `reader` raises."""
    width, height = page.get_size()
    scale = min(_DOTS_PER_INCH / 72, (_MOST_PIXELS / max(width * height, 1.0)) ** 0.5)
    bitmap = page.render(scale=scale, rev_byteorder=True)
    try:
        found = reader(bitmap.to_pil())
    finally:
        bitmap.close()
    return lines(found, scale)


def lines(found: Sequence[OcrLine], scale: float | None = None) -> list[Line]:
    """In points, of which `scale` pixels make one; where that is not known, so that most lines are of 10 points."""
    if not found:
        return []
    usual = median(line.bottom - line.top for line in found)
    return [_line(line, usual, scale or usual / _USUAL_POINTS) for line in found]


def _line(line: OcrLine, usual: float, scale: float) -> Line:
    height = line.bottom - line.top
    size = usual if abs(height - usual) <= _SAME_SIZE * usual else height
    return Line(
        line.text, line.left / scale, line.right / scale, line.top / scale, line.bottom / scale, size / scale
    )  # fmt: skip
