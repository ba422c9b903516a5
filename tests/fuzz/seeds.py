"""What is mutated: small files of every format, made by real programs (`tests/fidelity`, `samples`) and made here."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

from docx import Document as WordDocument
from openpyxl import Workbook
from openpyxl.comments import Comment
from pptx import Presentation
from pptx.util import Inches
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Paragraph, SimpleDocTemplate, Table

from rag_service import media_types

ROOT = Path(__file__).resolve().parents[2]
_FOLDERS = (ROOT / "tests" / "fidelity" / "files", ROOT / "samples" / "documents")
_LARGEST = 60_000
FORMATS: dict[str, str] = {
    "txt": media_types.TEXT,
    "md": media_types.MARKDOWN,
    "html": media_types.HTML,
    "xml": media_types.XML,
    "pdf": media_types.PDF,
    "docx": media_types.DOCX,
    "pptx": media_types.PPTX,
    "xlsx": media_types.XLSX,
    "csv": media_types.CSV,
    "epub": media_types.EPUB,
    "rtf": media_types.RTF,
    "eml": media_types.EML,
    "json": media_types.JSON,
    "jsonl": media_types.JSONL,
}
"""Name of a format to its media type."""


def seeds(format: str) -> list[bytes]:
    """At least two files, in an order that is always the same."""
    named = [path for folder in _FOLDERS for path in sorted(folder.iterdir()) if path.suffix in media_types.SUFFIXES]
    mine = [path for path in named if media_types.SUFFIXES[path.suffix] == FORMATS[format]]
    found = [path.read_bytes() for path in mine if path.stat().st_size <= _LARGEST]
    return [*found, *(make() for make in _MADE.get(format, ()))]


def _word() -> bytes:
    word = WordDocument()
    word.add_heading("Warranty 保修", 1)
    word.add_paragraph("The lamp is guaranteed for five years.")
    for text in ("switches", "冷却水泵"):
        word.add_paragraph(text, style="List Bullet")
        word.add_paragraph(text, style="List Number")
    table = word.add_table(2, 3)
    table.cell(0, 0).merge(table.cell(0, 1)).text = "Part 部件"
    table.cell(1, 0).text = "Pump"
    word.sections[0].header.paragraphs[0].text = "Header"
    return _saved(word.save)


def _sheets() -> bytes:
    book = Workbook()
    sheet = book.worksheets[0]
    for row in (("Part", "价格", "Date"), ("Pump 水泵", 12.5, "2026-03-01"), ("Lamp", "=B2*2", None)):
        sheet.append(row)
    sheet["B2"].number_format = '#,##0.00 "元"'
    sheet["A2"].comment = Comment("Checked.", "me")
    sheet.merge_cells("A5:B6")
    book.create_sheet("空").sheet_state = "hidden"
    return _saved(book.save)


def _slides() -> bytes:
    deck = Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[1])
    slide.shapes.title.text, slide.placeholders[1].text = "Review 回顾", "First\nSecond"
    slide.notes_slide.notes_text_frame.text = "A note."
    table = slide.shapes.add_table(2, 2, Inches(1), Inches(3), Inches(4), Inches(1)).table
    table.cell(0, 0).text, table.cell(1, 1).text = "Quarter", "18%"
    return _saved(deck.save)


def _pages() -> bytes:
    buffer = io.BytesIO()
    style = getSampleStyleSheet()
    rows = [["Part", "Price"], *([f"Pump {n}", str(n * 12.5)] for n in range(4))]
    table = Table(rows, style=[("GRID", (0, 0), (-1, -1), 1, "black")])
    SimpleDocTemplate(buffer).build(
        [
            Paragraph("1. Warranty", style["Heading1"]),
            Paragraph("The lamp is guaranteed for five years. " * 9, style["Normal"]),
            table,
            Paragraph("• one<br/>• two", style["Normal"]),
        ]
    )
    return buffer.getvalue()


def _chinese_pages() -> bytes:
    buffer = io.BytesIO()
    pdfmetrics.registerFont(UnicodeCIDFont("STSong-Light"))
    canvas = Canvas(buffer)
    for page in range(3):
        canvas.setFont("STSong-Light", 12)
        canvas.bookmarkPage(str(page))
        canvas.addOutlineEntry(f"第{page}章", str(page))
        for line in range(5):
            canvas.drawString(72, 700 - 16 * line, "知识库里的每一份文件都会被切成小段。")
        canvas.drawCentredString(300, 30, f"第 {page + 1} 页")
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def _book() -> bytes:
    buffer = io.BytesIO()
    opf = (
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata/><manifest>'
        '<item id="a" href="a.xhtml" media-type="application/xhtml+xml"/>'
        '<item id="n" href="n.xhtml" media-type="application/xhtml+xml" properties="nav"/>'
        '</manifest><spine><itemref idref="a"/></spine></package>'
    )
    container = (
        '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles>'
        '<rootfile full-path="o.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
    )
    page = '<html xmlns="http://www.w3.org/1999/xhtml"><body><h1>一</h1><p>Text.</p><ul><li>a</li></ul></body></html>'
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("mimetype", "application/epub+zip")
        archive.writestr("META-INF/container.xml", container)
        archive.writestr("o.opf", opf)
        archive.writestr("a.xhtml", page)
        archive.writestr("n.xhtml", page)
    return buffer.getvalue()


def _saved(save: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


def _mail() -> bytes:
    return (
        b"From: a@b.example\nTo: c@d.example\nSubject: =?utf-8?B?5L+d5L+u?=\nDate: Mon, 2 Mar 2026 10:00:00 +0800\n"
        b"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: text/plain; "
        b"charset=utf-8; format=flowed\nContent-Transfer-Encoding: quoted-printable\n\nFive=20years.=E4=BF=9D\n--x\n"
        b"Content-Type: multipart/alternative; boundary=y\n\n--y\nContent-Type: text/html\n"
        b"Content-Transfer-Encoding: base64\n\nPHA+SGk8L3A+\n--y--\n--x\nContent-Type: message/rfc822\n\n"
        b"Subject: inner\n\nInner text.\n--x--\n"
    )


_RICH = (
    r"{\rtf1\ansi\ansicpg936\deff0{\fonttbl{\f0\fcharset134 SimSun;}{\f1 Arial;}}{\info{\title T}}"
    r"\pard\outlinelevel0 Warranty \'b1\'a3\'d0\'de\par\pard\f1 Five \u24180?years.\line next{\footnote note}\par "
    r"\trowd\cellx1000\cellx2000\intbl a\cell b\cell\row\trowd\cellx1000\intbl {\b c}\cell\row\pard {\*\gen x}\par}"
)
_FEED = (
    '<?xml version="1.0" encoding="utf-8"?><rss version="2.0"><channel><title>T</title><item><title>一</title>'
    "<description>&lt;p&gt;Text.&lt;/p&gt;</description><pubDate>Mon, 02 Mar 2026</pubDate></item></channel></rss>"
)
_SETTINGS = '<settings a="1"><part id="2"><name>Pump</name><price>12.5</price></part><!-- c --><t>水泵</t></settings>'
_RECORDS = [{"part": "Pump 水泵", "price": 12.5, "tags": ["a", "b"], "more": {"x": None, "y": True}}, {"part": "Lamp"}]

_MADE: dict[str, tuple[Callable[[], bytes], ...]] = {
    "docx": (_word,),
    "xlsx": (_sheets,),
    "pptx": (_slides,),
    "pdf": (_pages, _chinese_pages),
    "epub": (_book,),
    "eml": (_mail,),
    "rtf": (_RICH.encode,),
    "xml": (_FEED.encode, _SETTINGS.encode),
    "csv": ('name;价格\nPump;1,5\n"a\nb";2\n'.encode, "a,b,c\n1,2,3\n4,5,6\n".encode),
    "json": (json.dumps(_RECORDS).encode, json.dumps({"items": _RECORDS}, ensure_ascii=False).encode),
    "jsonl": ("\n".join(json.dumps(record) for record in _RECORDS * 4).encode,),
    "html": (
        "<h1>A</h1><p>b<table><tr><th>c<td rowspan=2>d<tr><td>e</table><ul><li>f<ol><li>g</ol></ul><pre>h".encode,
    ),
}
