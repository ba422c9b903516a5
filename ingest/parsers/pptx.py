"""Presentations: every slide, hidden ones too, under its title, with the slide's number as the page.

Shapes are read as a reader's eye goes, row by row from the left to the right; speaker notes follow their slide under
a mark of their own. Reviewers' comments are left out: they speak about the document, and may contradict it.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from lxml import etree
from pptx import Presentation
from pptx.enum.shapes import MSO_SHAPE_TYPE, PP_PLACEHOLDER

from ingest.parsers import charts, equations, markdown_table, numerals, opc
from ingest.parsers.canonical import CanonicalText
from ingest.parsers.zip_container import Container, Limits
from rag_service import media_types
from rag_service.types import ParsedDocument

NOTES = "[备注 / Notes]"

_SLIDES = Container(
    noun="a presentation",
    required="[Content_Types].xml",
    legacy="a legacy PowerPoint (.ppt) file named .pptx; save it as .pptx",
)
_ROW_SHARE = 24
"""Shapes whose tops are less than this part of the slide's height apart stand in one row."""
_TITLE_CHARACTERS = 60
_RUNNING = (PP_PLACEHOLDER.DATE, PP_PLACEHOLDER.FOOTER, PP_PLACEHOLDER.HEADER)
_BULLETED = (PP_PLACEHOLDER.BODY, PP_PLACEHOLDER.OBJECT, PP_PLACEHOLDER.VERTICAL_BODY, PP_PLACEHOLDER.VERTICAL_OBJECT)
_NUMBERS = {
    "arabic": "decimal", "alphaLc": "lowerLetter", "alphaUc": "upperLetter", "romanLc": "lowerRoman",
    "romanUc": "upperRoman", "ea1Chs": "chineseCountingThousand", "ea1Cht": "taiwaneseCountingThousand",
    "ea1Jpn": "japaneseCounting", "arabicDb": "decimalFullWidth", "circleNum": "decimalEnclosedCircle",
}  # fmt: skip


class PptxParser:
    name = "pptx/1"
    media_types = (media_types.PPTX,)
    suffixes = (".pptx", ".pptm")

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()

    def parse(self, data: bytes) -> ParsedDocument:
        if opc.STRICT in _SLIDES.inspect(data, self._limits, marks=(opc.STRICT,)):
            data = opc.transitional(data)
        presentation = Presentation(io.BytesIO(data))
        canonical = CanonicalText()
        writer = _Writer(canonical, row_height=(presentation.slide_height or 0) // _ROW_SHARE)
        for number, slide in enumerate(presentation.slides, 1):
            writer.add_slide(number, slide)
        slides = len(presentation.slides)
        return canonical.document(self.name, pages=slides, otherwise="no-text" if slides else "empty")


class _Writer:
    def __init__(self, canonical: CanonicalText, row_height: int) -> None:
        self._canonical = canonical
        self._row_height = row_height
        self._page = 0
        self._running: set[str] = set()

    def add_slide(self, number: int, slide: Any) -> None:
        self._page = number
        _unfold_alternatives(slide._element)
        shapes = [shape for shape in self._in_order(slide.shapes) if self._is_shown(shape)]
        notes = _notes(slide)
        title = _title_of(slide, shapes)
        if title is not None:
            shapes = [shape for shape in shapes if shape.shape_id != title.shape_id]
        if title is None and not notes and not any(_holds_text(shape) for shape in shapes):
            return
        words = " ".join(_paragraph_texts(title)) if title is not None else ""
        self._canonical.add("heading", f"# {' '.join(words.split()) or number}", page=number, level=1)
        for shape in shapes:
            self._add_shape(shape)
        if notes:
            self._canonical.add("paragraph", f"{NOTES}\n{notes}", page=number)

    def _is_shown(self, shape: Any) -> bool:
        """Slide numbers are not text; a footer says the same on every slide, and is kept the first time."""
        kind = _placeholder(shape)
        if kind == PP_PLACEHOLDER.SLIDE_NUMBER:
            return False
        if kind in _RUNNING:
            text = " ".join(_paragraph_texts(shape))
            fresh = text not in self._running
            self._running.add(text)
            return fresh
        return True

    def _in_order(self, shapes: Iterable[Any]) -> list[Any]:
        """Row by row: whoever begins lower than a row's first shape by `row_height` begins a new row."""
        rows: list[list[Any]] = []
        for shape in sorted(shapes, key=_top):
            if rows and _top(shape) - _top(rows[-1][0]) <= self._row_height:
                rows[-1].append(shape)
            else:
                rows.append([shape])
        return [shape for row in rows for shape in sorted(row, key=_left)]

    def _add_shape(self, shape: Any) -> None:
        if shape.shape_type == MSO_SHAPE_TYPE.GROUP:
            for inner in self._in_order(shape.shapes):
                self._add_shape(inner)
        elif getattr(shape, "has_table", False):
            self._add_table(shape.table)
        elif getattr(shape, "has_chart", False):
            self._add_chart(_parsed(shape.chart.part.blob))
        elif shape.has_text_frame:
            self._add_paragraphs(_paragraphs(shape.text_frame._txBody, _placeholder(shape) in _BULLETED))
        else:
            self._add_diagram(shape)

    def _add_table(self, table: Any) -> None:
        rows, spans = _table(table)
        markdown_table.add_grid(self._canonical, rows, spans=spans, page=self._page)

    def _add_chart(self, chart: opc.Element) -> None:
        self._canonical.add("paragraph", charts.title(chart), page=self._page)
        if rows := charts.rows(chart):
            self._canonical.add("table", markdown_table.render(rows), page=self._page)

    def _add_diagram(self, shape: Any) -> None:
        """SmartArt: its points' texts, one an item."""
        points = [text for element in _diagram(shape) for text in _point_texts(element)]
        self._canonical.add("list", "\n".join(f"- {text}" for text in points), page=self._page)

    def _add_paragraphs(self, paragraphs: Sequence[_Paragraph]) -> None:
        """Runs of list items as lists, what is between them as paragraphs."""
        run: list[_Paragraph] = []
        for paragraph in paragraphs:
            if run and (run[0].mark is None) != (paragraph.mark is None):
                self._add_run(run)
                run = []
            run.append(paragraph)
        if run:
            self._add_run(run)

    def _add_run(self, run: Sequence[_Paragraph]) -> None:
        if run[0].mark is None:
            self._canonical.add("paragraph", "\n".join(paragraph.text for paragraph in run), page=self._page)
        else:
            base = min(paragraph.level for paragraph in run)
            items = (f"{'  ' * (p.level - base)}{p.mark} {' '.join(p.text.split())}" for p in run)
            self._canonical.add("list", "\n".join(items), page=self._page)


@dataclass(frozen=True, slots=True)
class _Paragraph:
    text: str
    level: int
    mark: str | None
    """"-", a number as written, or None for a paragraph that is no item."""


def _paragraphs(body: opc.Element, bulleted: bool) -> list[_Paragraph]:
    """A text body's paragraphs that hold text; `bulleted` where paragraphs that say nothing of it are items."""
    found: list[_Paragraph] = []
    counters = _Counters()
    elements = [element for element in body if opc.local(element) == "p" and _text(element).strip()]
    # A single paragraph in a slide's body is a sentence, whatever the template puts before it.
    bulleted = bulleted and len(elements) > 1
    for element in elements:
        properties = next((child for child in element if opc.local(child) == "pPr"), None)
        level = int(properties.get("lvl", "0")) if properties is not None else 0
        found.append(_Paragraph(_text(element), level, counters.mark(properties, level, bulleted)))
    return found


@dataclass(slots=True)
class _Counters:
    """The numbers of a text body's lists, by level."""

    counts: dict[int, int] = field(default_factory=dict)

    def mark(self, properties: opc.Element | None, level: int, bulleted: bool) -> str | None:
        bullets = {opc.local(child): child for child in (() if properties is None else properties)}
        self.counts = {deep: count for deep, count in self.counts.items() if deep <= level}
        if (automatic := bullets.get("buAutoNum")) is not None:
            start = int(automatic.get("startAt", "1"))
            self.counts[level] = self.counts.get(level, start - 1) + 1
            return _number(self.counts[level], automatic.get("type", "arabicPeriod"))
        self.counts.pop(level, None)
        if "buNone" in bullets:
            return None
        return "-" if bulleted or "buChar" in bullets or "buBlip" in bullets else None


def _number(number: int, kind: str) -> str:
    style = next((style for prefix, style in sorted(_NUMBERS.items(), reverse=True) if kind.startswith(prefix)), "")
    text = numerals.counted(number, style)
    if kind.endswith("ParenBoth"):
        return f"({text})"
    return text + (")" if kind.endswith("ParenR") else "" if kind.endswith("Plain") else ".")


def _text(paragraph: opc.Element) -> str:
    """Runs, fields and equations; python-pptx's own text leaves equations out."""
    return "".join(_pieces(paragraph)).strip("\n")


def _pieces(element: opc.Element) -> Iterator[str]:
    for part in element:
        name = opc.local(part)
        if name == "oMath":
            yield equations.latex(part)
        elif name in ("t", "br"):
            yield "\n" if name == "br" else part.text or ""
        else:
            yield from _pieces(part)


def _paragraph_texts(shape: Any) -> list[str]:
    return [_text(p) for p in shape.text_frame._txBody if opc.local(p) == "p"] if shape.has_text_frame else []


def _title_of(slide: Any, shapes: Sequence[Any]) -> Any | None:
    """The title's shape, or the first text of a slide without one where it is a short line."""
    title = slide.shapes.title
    if title is not None and "".join(_paragraph_texts(title)).strip():
        return title
    first = next((shape for shape in shapes if _holds_text(shape)), None)
    if first is None or not first.has_text_frame or _placeholder(first) in _RUNNING:
        return None
    texts = [text for text in _paragraph_texts(first) if text.strip()]
    is_line = len(texts) == 1 and "\n" not in texts[0] and len(texts[0]) <= _TITLE_CHARACTERS
    return first if is_line else None


def _holds_text(shape: Any) -> bool:
    names = ("t", "v", "relIds", "chart")
    return any(opc.local(element) in names and (element.text or "x").strip() for element in shape._element.iter())


def _placeholder(shape: Any) -> PP_PLACEHOLDER | None:
    kind: PP_PLACEHOLDER | None = shape.placeholder_format.type if shape.is_placeholder else None
    return kind


def _top(shape: Any) -> int:
    return shape.top if shape.top is not None else 0


def _left(shape: Any) -> int:
    return shape.left if shape.left is not None else 0


def _table(table: Any) -> tuple[list[list[str]], list[markdown_table.Span]]:
    """Cells as rows; one merged over several rows is repeated in each."""
    rows = [[_cell_text(cell) for cell in row.cells] for row in table.rows]
    spans: list[markdown_table.Span] = []
    for top, row in enumerate(table.rows):
        for left, cell in enumerate(row.cells):
            if cell.is_merge_origin:
                below = range(top, min(top + cell.span_height, len(rows)))
                for number in below:
                    rows[number][left] = rows[top][left]
                spans += [markdown_table.Span(number, left, left + cell.span_width) for number in below]
    return rows, [span for span in spans if span.last - span.first > 1]


def _cell_text(cell: Any) -> str:
    return "\n".join(_text(element) for element in cell._tc.iter() if opc.local(element) == "p")


def _notes(slide: Any) -> str:
    if not slide.has_notes_slide:
        return ""
    frame = slide.notes_slide.notes_text_frame
    return "\n".join(_text(p) for p in frame._txBody if opc.local(p) == "p").strip() if frame is not None else ""


def _diagram(shape: Any) -> Iterator[opc.Element]:
    for element in shape._element.iter():
        if opc.local(element) == "relIds":
            relation = next((value for name, value in element.attrib.items() if name.endswith("}dm")), None)
            if relation is not None:
                yield _parsed(shape.part.related_part(relation).blob)


def _point_texts(diagram: opc.Element) -> Iterator[str]:
    for element in diagram.iter():
        if opc.local(element) == "pt":
            text = " ".join(_text(p) for p in element.iter() if opc.local(p) == "p")
            if text.strip():
                yield " ".join(text.split())


def _parsed(xml: bytes) -> opc.Element:
    return etree.fromstring(xml, etree.XMLParser(resolve_entities=False, no_network=True))


def _unfold_alternatives(root: opc.Element) -> None:
    """Put the first alternative that holds text in the place of its `AlternateContent`, which python-pptx skips."""
    for alternative in [element for element in root.iter() if opc.local(element) == "AlternateContent"]:
        parent = alternative.getparent()
        choices = [choice for choice in alternative if any(opc.local(piece) == "t" for piece in choice.iter())]
        for element in list(choices[0] if choices else ()):
            parent.insert(parent.index(alternative), element)
        parent.remove(alternative)
