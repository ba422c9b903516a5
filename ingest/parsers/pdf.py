"""PDF through pdfium, page by page: lines by their characters' boxes, paragraphs by their geometry.

Headings are short paragraphs set clearly larger than the body; their levels are the ranks of those sizes in the
whole document. A paragraph never crosses a page.
"""

from __future__ import annotations

import ctypes
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pypdfium2
import pypdfium2.raw as pdfium

from ingest.parsers import lines
from ingest.parsers.canonical import CanonicalText
from rag_service import media_types
from rag_service.errors import ParseFailed
from rag_service.types import ParsedDocument

_HEADING_RATIO = 1.15
_HEADING_CHARACTERS = 120
_SAME_SIZE = 0.12
_MENDED = re.compile(r"(?<=[^\W\d_])\x02(?=[^\W\d_A-Z])")
_SENTENCE_ENDS = '。！？!?；;.:：…”"」』）)'


class PdfParser:
    name = "pdf/1"
    media_types = (media_types.PDF,)
    suffixes = (".pdf",)

    def parse(self, data: bytes) -> ParsedDocument:
        if not data.strip():
            raise ParseFailed("empty", "the file is empty")
        document = _opened(data)
        pages = [_lines(page) for page in _pages(document)]
        levels = _heading_levels([line for page in pages for line in page])
        canonical = CanonicalText()
        for number, page in enumerate(pages, start=1):
            for paragraph in _paragraphs(page):
                _add(canonical, paragraph, number, levels)
        return canonical.document(self.name, pages=len(pages), otherwise="no-text")


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of a page as pdfium sees it, which is two where it mended a hyphen. All in points.

    `top` and `left` are where it begins, `bottom` and `right` where it ends, `size` is its font's.
    """

    text: str
    left: float
    right: float
    bottom: float
    top: float
    size: float


def _opened(data: bytes) -> pypdfium2.PdfDocument:
    try:
        return pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if error.err_code in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY):
            raise ParseFailed("encrypted", "the document is protected by a password") from error
        raise ParseFailed("broken", f"not a readable PDF: {error}", error=type(error).__name__) from error


def _pages(document: pypdfium2.PdfDocument) -> Iterator[pypdfium2.PdfTextPage]:
    """One at a time, closed after use: pdfium keeps a page's objects until then."""
    total = len(document)
    if total == 0:
        raise ParseFailed("broken", "the PDF has no readable page")
    for index in range(total):
        try:
            page = document[index]
            text = page.get_textpage()
        except pypdfium2.PdfiumError as error:
            raise ParseFailed("broken", f"page {index + 1} is not readable: {error}", page=index + 1) from error
        yield text
        text.close()
        page.close()


def _lines(page: pypdfium2.PdfTextPage) -> list[_Line]:
    """The page's lines in content order, where pdfium sees line ends, each with its box."""
    handle = page.raw
    codes = [pdfium.FPDFText_GetUnicode(handle, i) for i in range(pdfium.FPDFText_CountChars(handle))]
    found: list[_Line] = []
    start = 0
    for end in [*(i for i, code in enumerate(codes) if code in (10, 13)), len(codes)]:
        text = _text(codes[start:end])
        if text.strip():
            found.append(_boxed(handle, text, codes, start, end))
        start = end + 1
    return found


def _text(codes: Sequence[int]) -> str:
    """Characters of pdfium's codes, which may be UTF-16 halves; 2 and U+FFFE stand for a hyphen at a line's end."""
    text = "".join(chr(2 if code == 0xFFFE else code) for code in codes if 0 < code <= 0x10FFFF)
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")
    return _MENDED.sub("", text).replace("\x02", "-")


def _boxed(handle: pdfium.FPDF_TEXTPAGE, text: str, codes: Sequence[int], start: int, end: int) -> _Line:
    inked = [i for i in range(start, end) if codes[i] > 32] or [start]
    left, _, _, top = _box(handle, inked[0])
    _, right, bottom, _ = _box(handle, inked[-1])
    return _Line(text, left, right, bottom, top, _size(handle, inked[len(inked) // 2]))


def _size(handle: pdfium.FPDF_TEXTPAGE, index: int) -> float:
    """A character's font size on the page: what the font is set at, times what the page scales it by."""
    matrix = pdfium.FS_MATRIX()
    pdfium.FPDFText_GetMatrix(handle, index, ctypes.byref(matrix))
    size: float = pdfium.FPDFText_GetFontSize(handle, index) * math.hypot(matrix.c, matrix.d)
    return size


def _box(handle: pdfium.FPDF_TEXTPAGE, index: int) -> tuple[float, float, float, float]:
    """Left, right, bottom, top of a character's font box: the same for every character of a font and size."""
    rect = pdfium.FS_RECTF()
    pdfium.FPDFText_GetLooseCharBox(handle, index, ctypes.byref(rect))
    return rect.left, rect.right, rect.bottom, rect.top


def _paragraphs(page: Sequence[_Line]) -> Iterator[list[_Line]]:
    """Lines grouped by where they stand."""
    paragraph: list[_Line] = []
    margin = 0.0
    edge = max((line.right for line in page), default=0.0)
    for line in page:
        if paragraph and _begins_paragraph(paragraph, line, margin, edge):
            yield paragraph
            paragraph = []
        margin = line.right if not paragraph else max(margin, line.right)
        paragraph.append(line)
    if paragraph:
        yield paragraph


def _begins_paragraph(paragraph: Sequence[_Line], line: _Line, margin: float, edge: float) -> bool:
    before = paragraph[-1]
    size = max(before.size, line.size, 1.0)
    if _continues(before, line, size):
        return False
    if abs(before.size - line.size) > _SAME_SIZE * size or lines.starts_item(line.text):
        return True
    # A line that runs to the edge and ends no sentence goes on, also in text set with wide line spacing.
    goes_on = before.right > edge - 1.5 * size and before.text.rstrip()[-1:] not in _SENTENCE_ENDS
    gap = before.bottom - line.top
    if gap > (1.6 if goes_on else 0.75) * size or line.bottom > before.top:
        return True
    ends_short = before.right < margin - 2 * size or before.right < line.right - 4 * size
    if ends_short and before.text.rstrip()[-1:] in _SENTENCE_ENDS:
        return True
    # An indented first line, unless it is the paragraph's own hanging indent from its second line on.
    return line.left > before.left + 0.8 * size and len(paragraph) > 1


def _continues(before: _Line, line: _Line, size: float) -> bool:
    """Whether a line goes on right of the one before: pdfium ends lines at superscripts and changes of font."""
    overlap = min(before.top, line.top) - max(before.bottom, line.bottom)
    lower = min(before.top - before.bottom, line.top - line.bottom)
    return overlap > 0.4 * lower > 0 and -0.5 * size < line.left - before.right < 2 * size


def _heading_levels(all_lines: Sequence[_Line]) -> dict[int, int]:
    """Level by size (in half points) for sizes clearly above the body's; empty when nothing stands out."""
    weights: Counter[int] = Counter()
    for line in all_lines:
        weights[_half_points(line.size)] += len(line.text.strip())
    if not weights:
        return {}
    body = weights.most_common(1)[0][0]
    larger = sorted((size for size in weights if size > _HEADING_RATIO * body), reverse=True)
    return {size: min(rank, 6) for rank, size in enumerate(larger, start=1)}


def _half_points(size: float) -> int:
    return round(size * 2)


def _add(canonical: CanonicalText, paragraph: Sequence[_Line], page: int, levels: dict[int, int]) -> None:
    text = ""
    for line in paragraph:
        text = lines.glue(text, _without_letter_spacing(line.text)) if text else _without_letter_spacing(line.text)
    level = levels.get(_half_points(paragraph[0].size))
    is_heading = level is not None and len(text) <= _HEADING_CHARACTERS and _has_words(text)
    if is_heading and text.strip()[-1:] not in "。；;，,":
        canonical.add("heading", text, page=page, level=level)
    else:
        canonical.add("paragraph", text, page=page)


def _has_words(text: str) -> bool:
    """More than the odd symbol of a formula."""
    return sum(lines.columns(c) for c in text if c.isalpha()) >= 4


def _without_letter_spacing(text: str) -> str:
    """Spaces taken out of a line whose Chinese characters stand apart one by one; others keep theirs."""
    words = text.split()
    single = sum(len(word) == 1 and lines.columns(word) == 2 for word in words)
    return "".join(words) if len(words) > 2 and single * 10 >= len(words) * 8 else text.strip()
