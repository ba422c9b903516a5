"""PDF through pdfium: characters and rules of each page to lines, tables and paragraphs.

Pages are read one by one; what is told only by the whole document (running headers, the body's size, cut words, the
ranks of headings) is settled after the last. A page without usable text is read as a picture, where that is possible.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pypdfium2
import pypdfium2.raw as pdfium

from ingest.parsers import lines as text_lines
from ingest.parsers import (
    markdown_table,
    ocr,
    pdf_alignment,
    pdf_columns,
    pdf_furniture,
    pdf_glyphs,
    pdf_grids,
    pdf_rules,
    pdf_scans,
    pdf_scripts,
    pdf_streams,
    pdf_tables,
)
from ingest.parsers.canonical import CanonicalText
from ingest.parsers.pdf_headings import Headings, Outline
from ingest.parsers.pdf_lines import Line, pieces
from ingest.parsers.pdf_paragraphs import Column, Element, Paragraph, PlacedTable, elements, is_item
from ingest.parsers.pdf_tables import Table
from ingest.parsers.pdf_words import Vocabulary
from rag_service import media_types
from rag_service.errors import ParseFailed
from rag_service.types import ParsedDocument

_MOSTLY_GARBLED = 0.5
_SCAN_AREA, _STAMP_AREA = 0.05, 0.5
"""Shares of a page that a picture covers: of one without text, and of one whose few characters are a stamp."""
_STAMP_CHARACTERS = 60
_MOST_BOOKMARKS = 5_000
_LEADERS = re.compile(r"\s*(?:(?:\.\s?){6,}|…{3,}|(?:·\s?){6,})\s*")
_NO_WORDS = Vocabulary(frozenset())


class PdfParser:
    name = "pdf/2"
    media_types = (media_types.PDF,)
    suffixes = (".pdf",)

    def __init__(self, reader: pdf_scans.Reader | None = None) -> None:
        """`reader` reads the lines of a picture; without one, a document with scanned pages is refused."""
        self._reader = reader

    def parse(self, data: bytes) -> ParsedDocument:
        if not data.strip():
            raise ParseFailed("empty", "the file is empty")
        pdf_streams.check(data)
        document = _opened(data)
        pages = [_read(page, number, self._reader) for number, page in _pages(document)]
        _refuse_unread(pages)
        canonical = CanonicalText()
        compose(canonical, pages, _outline(document))
        return canonical.document(self.name, pages=len(pages), otherwise="no-text")


@dataclass(frozen=True, slots=True)
class Page:
    """Pieces and tables of one page, in points, y downwards; `asides` are set in other directions."""

    number: int
    pieces: list[Line]
    tables: list[Table]
    asides: list[list[Line]]
    top: float
    bottom: float
    is_unread: bool = False


def _opened(data: bytes) -> pypdfium2.PdfDocument:
    try:
        return pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if error.err_code in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY):
            raise ParseFailed("encrypted", "the document is protected by a password") from error
        raise ParseFailed("broken", f"not a readable PDF: {error}", error=type(error).__name__) from error


def _pages(document: pypdfium2.PdfDocument) -> Iterator[tuple[int, pypdfium2.PdfPage]]:
    """One at a time, closed after use: pdfium keeps a page's objects until then."""
    total = len(document)
    if total == 0:
        raise ParseFailed("broken", "the PDF has no readable page")
    for number in range(1, total + 1):
        try:
            page = document[number - 1]
        except pypdfium2.PdfiumError as error:
            raise ParseFailed("broken", f"page {number} is not readable: {error}", page=number) from error
        yield number, page
        page.close()


def _read(page: pypdfium2.PdfPage, number: int, reader: pdf_scans.Reader | None) -> Page:
    try:
        text_page = page.get_textpage()
    except pypdfium2.PdfiumError as error:
        raise ParseFailed("broken", f"page {number} is not readable: {error}", page=number) from error
    try:
        text = pdf_scripts.read(text_page)
    finally:
        text_page.close()
    direction = text.scripts[0].direction if text.scripts else "right"
    drawing = pdf_rules.read(page, direction)
    is_garbled = text.garbled > _MOSTLY_GARBLED
    if _is_scan(page, text, drawing, is_garbled):
        scanned = _scanned(page, number, reader, known=0 if is_garbled else text.inked)
        if scanned is not None:
            return scanned
    if is_garbled:
        text = pdf_scripts.PageText([], 0, 0.0)
    return _typeset(page, number, text, drawing)


def _is_scan(page: pypdfium2.PdfPage, text: pdf_scripts.PageText, drawing: pdf_rules.Drawing, is_garbled: bool) -> bool:
    width, height = page.get_size()
    covered: float = drawing.image_area / max(width * height, 1.0)
    if text.inked == 0:
        return covered > _SCAN_AREA
    return is_garbled or (text.inked < _STAMP_CHARACTERS and covered > _STAMP_AREA)


def _scanned(page: pypdfium2.PdfPage, number: int, reader: pdf_scans.Reader | None, known: int) -> Page | None:
    """What is read off the page's picture; None where the page's own `known` characters say more."""
    _, height = page.get_size()
    unread = Page(number, [], [], [], 0.0, height, is_unread=True)
    if reader is None:
        return None if known else unread
    try:
        lines = pdf_scans.read(page, reader)
    except ocr.Unreadable:
        return None if known else unread
    if known and sum(len(line.text) for line in lines) <= 2 * known:
        return None
    return scanned_page(lines, number, height)


def scanned_page(lines: Sequence[Line], number: int, height: float) -> Page:
    """A page of lines that were read off its picture."""
    tables, rest = pdf_alignment.unruled(lines, _NO_WORDS.join)
    return Page(number, rest, tables, [], 0.0, height)


def _typeset(
    page: pypdfium2.PdfPage, number: int, text: pdf_scripts.PageText, drawing: pdf_rules.Drawing
) -> Page:  # fmt: skip
    left, bottom, right, top = page.get_bbox()
    if not text.scripts:
        return Page(number, [], [], [], 0.0, abs(top - bottom))
    main, *others = text.scripts
    glue = _NO_WORDS.join
    ruled, glyphs, rules = pdf_grids.ruled(drawing.rules, main.glyphs, glue)
    booktabs, loose = pdf_alignment.between_rules(rules, pieces(glyphs), glue)
    aligned, loose = pdf_alignment.unruled(loose, glue)
    ends = [pdf_glyphs.turn(x, y, main.direction)[1] for x, y in ((left, bottom), (right, top))]
    asides = [pieces(script.glyphs) for script in others if script.direction != "askew"]
    asides += [[piece for script in others if script.direction == "askew" for piece in pieces(script.glyphs)]]
    return Page(number, loose, [*ruled, *booktabs, *aligned], asides, min(ends), max(ends))


def _refuse_unread(pages: Sequence[Page]) -> None:
    """A document of which some pages could not be read is not shortened to the others."""
    unread = [page.number for page in pages if page.is_unread]
    if unread:
        told = ", ".join(map(str, unread[:10])) + (", …" if len(unread) > 10 else "")
        raise ParseFailed("no-text", f"pages without text: {told}", pages=[str(number) for number in unread[:1000]])


def compose(canonical: CanonicalText, pages: Sequence[Page], outline: Outline) -> None:
    """Append the pages' text, told apart by what they have in common."""
    body_size = _body_size(pages)
    kept = pdf_furniture.without_furniture(
        [pdf_furniture.Page(page.pieces, page.top, page.bottom) for page in pages], body_size
    )
    columns = [column for page, loose in zip(pages, kept, strict=True) for column in _columns(page, loose)]
    found = _with_headers(elements(columns, body_size), _NO_WORDS.join)
    paragraphs = [element for element in found if isinstance(element, Paragraph)]
    words = Vocabulary.of(line.text for paragraph in paragraphs for line in paragraph.lines)
    _add(canonical, found, Headings.of(paragraphs, outline), words)


def _body_size(pages: Sequence[Page]) -> float:
    weights: Counter[float] = Counter()
    for page in pages:
        for piece in page.pieces:
            weights[round(piece.size * 2) / 2] += len(piece.text)
    return weights.most_common(1)[0][0] if weights else 1.0


def _columns(page: Page, loose: Sequence[Line]) -> Iterator[Column]:
    for region in pdf_columns.regions([*loose, *page.tables]):
        yield Column(region, page.number)
    for aside in page.asides:
        for region in pdf_columns.regions(aside):
            yield Column(region, page.number, is_aside=True)


def _with_headers(found: Sequence[Element], glue: pdf_tables.Glue) -> list[Element]:
    """Tables that go on from the page before under their header, and rows that a page's end cut whole."""
    result: list[Element] = []
    last: PlacedTable | None = None
    place = ends_on = 0
    for element in found:
        if isinstance(element, PlacedTable):
            if last is not None and ends_on + 1 == element.page and all(map(_is_note, result[place + 1 :])):
                before, table = pdf_tables.continued(last.table, element.table, glue)
                result[place] = last = PlacedTable(before, last.page)
                ends_on = element.page
                if table is None:
                    continue
                element = PlacedTable(table, element.page)
            last, place, ends_on = element, len(result), element.page
        result.append(element)
    return result


def _is_note(element: Element) -> bool:
    return isinstance(element, Paragraph) and element.is_note


def _add(canonical: CanonicalText, found: Sequence[Element], headings: Headings, words: Vocabulary) -> None:
    items: list[str] = []
    items_page = 0
    for element in [*found, None]:
        text = words.join([line.text for line in element.lines]) if isinstance(element, Paragraph) else ""
        if isinstance(element, Paragraph) and not element.is_note and is_item(text):
            items_page = items_page if items else element.page
            items.append(_LEADERS.sub(" … ", text))
            continue
        canonical.add("list", "\n".join(items), page=items_page)
        items = []
        if isinstance(element, PlacedTable):
            for title in element.table.titles:
                canonical.add("paragraph", title, page=element.page)
            canonical.add("table", markdown_table.render(element.table.rows), page=element.page)
        elif isinstance(element, Paragraph):
            level = headings.level(element, text)
            canonical.add("paragraph" if level is None else "heading", text, page=element.page, level=level)


def _outline(document: pypdfium2.PdfDocument) -> Outline:
    """Titles of the document's bookmarks that are long enough to be told from other text."""
    found: dict[str, int] = {}
    for number, bookmark in enumerate(document.get_toc(max_depth=8)):
        if number >= _MOST_BOOKMARKS:
            break
        title = "".join(bookmark.get_title().split())
        if text_lines.columns(title) >= 4:
            found.setdefault(title, bookmark.level + 1)
    return found
