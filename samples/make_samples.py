"""Writes the sample files that are not plain text in the repository: two PDFs, two DOCXs, two legacy encodings.

    python samples/make_samples.py            # writes them into samples/
    python samples/make_samples.py build/x    # writes them elsewhere, to compare

The text is in `samples/source/`. Dates and identifiers are fixed, so that the same versions of reportlab and
python-docx write the same bytes. The Chinese PDF names the standard CID font STSong-Light and embeds nothing.
"""

from __future__ import annotations

import datetime
import io
import re
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from docx import Document
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import Cm, Pt
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import cm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, KeepTogether, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "source"
FIXED = datetime.datetime(2026, 5, 29, 9, 0, 0)
WIDTH = A4[0] - 4.4 * cm - 12  # the frame keeps 6 points free on each side
CHINESE_FONT = "STSong-Light"


@dataclass
class Piece:
    """One block of a source text: a heading with its level, a paragraph, a list item with its mark, or a table."""

    kind: str
    text: str = ""
    level: int = 0
    rows: list[list[str]] = field(default_factory=list)


def pieces(markdown: str) -> Iterator[Piece]:
    """The few Markdown forms the sources use; every paragraph is one line."""
    rows: list[list[str]] = []
    for line in [*markdown.splitlines(), ""]:
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if not all(re.fullmatch(r"-+", cell) for cell in cells):
                rows.append(cells)
            continue
        if rows:
            yield Piece("table", rows=rows)
            rows = []
        if heading := re.match(r"(#+) (.*)", line):
            yield Piece("heading", heading.group(2), level=len(heading.group(1)))
        elif line.startswith("- "):
            yield Piece("item", line[2:])
        elif line.strip():
            yield Piece("paragraph", line.strip())


# --- PDF ---------------------------------------------------------------------------------------------------------


def styles(chinese: bool) -> dict[str, ParagraphStyle]:
    body, bold = (CHINESE_FONT, CHINESE_FONT) if chinese else ("Helvetica", "Helvetica-Bold")
    wrap = {"wordWrap": "CJK"} if chinese else {}
    base = ParagraphStyle("body", fontName=body, fontSize=10.5, leading=16, spaceAfter=6, **wrap)
    return {
        "body": base,
        "item": ParagraphStyle("item", parent=base, leftIndent=14, bulletIndent=4, spaceAfter=3),
        "cell": ParagraphStyle("cell", parent=base, fontSize=9, leading=12.5, spaceAfter=0),
        "head": ParagraphStyle("head", parent=base, fontName=bold, fontSize=9, leading=12.5, spaceAfter=0),
        "h1": ParagraphStyle("h1", parent=base, fontName=bold, fontSize=20, leading=27, spaceAfter=12),
        "h2": ParagraphStyle("h2", parent=base, fontName=bold, fontSize=14.5, leading=20, spaceBefore=12),
        "h3": ParagraphStyle("h3", parent=base, fontName=bold, fontSize=12, leading=17, spaceBefore=8),
    }


def column_widths(rows: list[list[str]]) -> list[float]:
    """Shares of the page width after the longest cell of each column, held between narrow and wide."""
    longest = [
        min(44, max(8, *(sum(2 if ord(c) > 0x2E7F else 1 for c in row[i]) for row in rows)))
        for i in range(len(rows[0]))
    ]
    return [WIDTH * share / sum(longest) for share in longest]


def pdf_table(rows: list[list[str]], style: dict[str, ParagraphStyle]) -> Table:
    cells = [[Paragraph(escape(c), style["cell" if i else "head"]) for c in row] for i, row in enumerate(rows)]
    table = Table(cells, colWidths=column_widths(rows), repeatRows=1, spaceBefore=4, spaceAfter=10)
    table.setStyle(
        TableStyle(
            [
                ("GRID", (0, 0), (-1, -1), 0.5, colors.HexColor("#8a99a6")),
                ("BACKGROUND", (0, 0), (-1, 0), colors.HexColor("#e3edf3")),
                ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
                ("TOPPADDING", (0, 0), (-1, -1), 3),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 4),
            ]
        )
    )
    return table


def flowables(markdown: str, style: dict[str, ParagraphStyle]) -> list[Flowable]:
    story: list[Flowable] = []
    headings: list[Flowable] = []
    for piece in pieces(markdown):
        if piece.kind == "heading":
            headings.append(Paragraph(escape(piece.text), style[f"h{piece.level}"]))
            continue
        if piece.kind == "table":
            flowable: Flowable = pdf_table(piece.rows, style)
        elif piece.kind == "item":
            flowable = Paragraph(escape(piece.text), style["item"], bulletText="•")
        else:
            flowable = Paragraph(escape(piece.text), style["body"])
        story.append(KeepTogether([*headings, flowable]) if headings else flowable)
        headings = []
    return [*story, *headings, Spacer(1, 1)]


def numbered_canvas(title: str, footer: str, font: str) -> type[Canvas]:
    """A canvas that knows the number of pages when it writes their header and footer."""

    class Numbered(Canvas):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._pages: list[dict[str, Any]] = []

        def showPage(self) -> None:
            self._pages.append(dict(self.__dict__))
            self._startPage()

        def save(self) -> None:
            for number, page in enumerate(self._pages, start=1):
                self.__dict__.update(page)
                self.setFont(font, 8)
                self.setFillColor(colors.HexColor("#56636e"))
                if number > 1:
                    self.drawString(2.2 * cm, A4[1] - 1.4 * cm, title)
                self.drawCentredString(A4[0] / 2, 1.2 * cm, footer.format(number, len(self._pages)))
                super().showPage()
            super().save()

    return Numbered


def write_pdf(target: Path, markdown: str, *, chinese: bool, title: str, footer: str, author: str) -> None:
    font = CHINESE_FONT if chinese else "Helvetica"
    document = SimpleDocTemplate(
        str(target),
        pagesize=A4,
        leftMargin=2.2 * cm,
        rightMargin=2.2 * cm,
        topMargin=2 * cm,
        bottomMargin=2 * cm,
        title=title,
        author=author,
        creator="samples/make_samples.py",
        lang="zh-CN" if chinese else "en-GB",
        invariant=1,
    )
    document.build(flowables(markdown, styles(chinese)), canvasmaker=numbered_canvas(title, footer, font))


# --- DOCX --------------------------------------------------------------------------------------------------------


def write_docx(target: Path, markdown: str, *, chinese: bool, title: str, author: str) -> None:
    document = Document()
    section = document.sections[0]
    section.page_width, section.page_height = Cm(21), Cm(29.7)
    normal = document.styles["Normal"]
    normal.font.size = Pt(10.5)
    normal.font.name = "Times New Roman" if chinese else "Calibri"
    if chinese:
        normal.element.rPr.rFonts.set(qn("w:eastAsia"), "宋体")
    for piece in pieces(markdown):
        if piece.kind == "heading":
            document.add_heading(piece.text, level=piece.level)
        elif piece.kind == "table":
            docx_table(document, piece.rows)
        else:
            document.add_paragraph(piece.text, style="List Bullet" if piece.kind == "item" else None)
    core = document.core_properties
    core.title, core.author, core.last_modified_by = title, author, author
    core.created = core.modified = FIXED
    core.comments, core.revision, core.language = "", 1, "zh-CN" if chinese else "en-GB"
    buffer = io.BytesIO()
    document.save(buffer)
    target.write_bytes(with_fixed_times(buffer.getvalue()))


def docx_table(document: Any, rows: list[list[str]]) -> None:
    table = document.add_table(rows=0, cols=len(rows[0]), style="Table Grid")
    for number, row in enumerate(rows):
        cells = table.add_row().cells
        for cell, text in zip(cells, row, strict=True):
            cell.text = text
            if number == 0:
                for run in cell.paragraphs[0].runs:
                    run.bold = True
    table.rows[0]._tr.get_or_add_trPr().append(OxmlElement("w:tblHeader"))
    document.add_paragraph()


def with_fixed_times(package: bytes) -> bytes:
    """The same zip members with one fixed time, so that the file does not depend on when it was made."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(package)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            member = zipfile.ZipInfo(name, date_time=FIXED.timetuple()[:6])
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = 0o644 << 16
            member.create_system = 3
            new.writestr(member, old.read(name))
    return buffer.getvalue()


# --- all of them -------------------------------------------------------------------------------------------------


def read(name: str) -> str:
    return (SOURCE / name).read_text(encoding="utf-8")


def write_encoded(target: Path, name: str, encoding: str) -> None:
    """As saved by a Windows editor: lines end with CR LF, no byte order mark."""
    target.write_bytes(read(name).replace("\n", "\r\n").encode(encoding))


def make(folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    pdfmetrics.registerFont(UnicodeCIDFont(CHINESE_FONT))
    write_pdf(
        folder / "annual-report-2025.pdf",
        read("annual-report-2025.md"),
        chinese=False,
        title="Clearbrook Instruments Annual Report 2025",
        footer="Page {} of {}",
        author="Clearbrook Instruments",
    )
    write_pdf(
        folder / "质量检验规程.pdf",
        read("质量检验规程.md"),
        chinese=True,
        title="质量检验规程 CC-QP-08 版本D/2",
        footer="第{}页 共{}页",
        author="澄川科技质量部",
    )
    write_docx(
        folder / "travel-and-expense-policy.docx",
        read("travel-and-expense-policy.md"),
        chinese=False,
        title="Travel and Expense Policy",
        author="Clearbrook Instruments",
    )
    write_docx(
        folder / "采购合同模板.docx",
        read("采购合同模板.md"),
        chinese=True,
        title="采购合同（模板）",
        author="澄川科技采购部",
    )
    write_encoded(folder / "会议纪要-2026-03.txt", "会议纪要-2026-03.txt", "gb18030")
    write_encoded(folder / "traditional-notice.txt", "traditional-notice.txt", "big5")
    return sorted(
        folder / name
        for name in (
            "annual-report-2025.pdf",
            "质量检验规程.pdf",
            "travel-and-expense-policy.docx",
            "采购合同模板.docx",
            "会议纪要-2026-03.txt",
            "traditional-notice.txt",
        )
    )


if __name__ == "__main__":
    for path in make(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "documents"):
        print(f"{path.stat().st_size:>8}  {path.name}")
