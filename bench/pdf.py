"""How long a PDF of 300 pages in Chinese takes: with tables, running headers, page numbers and footnotes."""

from __future__ import annotations

import io
import random
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from reportlab.lib import colors  # type: ignore[import-untyped]
from reportlab.lib.pagesizes import A4  # type: ignore[import-untyped]
from reportlab.lib.styles import ParagraphStyle  # type: ignore[import-untyped]
from reportlab.lib.units import mm  # type: ignore[import-untyped]
from reportlab.pdfbase import pdfmetrics  # type: ignore[import-untyped]
from reportlab.pdfbase.cidfonts import UnicodeCIDFont  # type: ignore[import-untyped]
from reportlab.pdfgen.canvas import Canvas  # type: ignore[import-untyped]
from reportlab.platypus import Flowable, PageBreak, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle  # type: ignore[import-untyped]

from bench.evalset import ZH, corpus
from bench.results import Result
from bench.service import serving, wait_until_finished
from ingest.parsers.pdf import PdfParser

_PAGES = 300
_MOST_READY_SECONDS = 30.0
_MOST_PARSE_SECONDS = 5.0
_FONT = "STSong-Light"


def run(evaluation: Path, scratch: Path) -> list[Result]:
    data = handbook([row["text"] for row in corpus(evaluation, ZH)], _PAGES)
    begun = time.process_time()
    parsed = PdfParser().parse(data)
    parsing = time.process_time() - begun
    if parsed.pages is None or parsed.pages < _PAGES:
        raise SystemExit(f"{parsed.pages} pages of {_PAGES}")
    ready = _until_ready(data, scratch / "pdf")
    what = (
        f"a Chinese PDF of {parsed.pages} pages with tables, {len(parsed.text):,} characters, {len(data) >> 10:,} KiB"
    )
    return [
        Result(f"{what}: parsed, CPU time", "≤ 5 s", f"{parsing:.1f} s", parsing <= _MOST_PARSE_SECONDS),
        Result(f"{what}: uploaded, to `ready`, one worker", "≤ 30 s", f"{ready:.1f} s", ready <= _MOST_READY_SECONDS),
    ]


def handbook(texts: list[str], pages: int) -> bytes:
    """A handbook of so many pages: a page holds a heading, paragraphs to fill it, often a table, a footnote."""
    pdfmetrics.registerFont(UnicodeCIDFont(_FONT))
    stream = io.BytesIO()
    document = SimpleDocTemplate(stream, pagesize=A4, topMargin=28 * mm, bottomMargin=32 * mm)
    furnish = partial(_furnish, texts)
    document.build(list(_story(texts, pages)), onFirstPage=furnish, onLaterPages=furnish)
    return stream.getvalue()


def _story(texts: list[str], pages: int) -> Iterator[Flowable]:
    body = ParagraphStyle("body", fontName=_FONT, fontSize=10.5, leading=16, wordWrap="CJK", firstLineIndent=21)
    heading = ParagraphStyle("heading", parent=body, fontSize=15, leading=24, firstLineIndent=0)
    drawn = random.Random(7)
    for number in range(1, pages + 1):
        yield Paragraph(f"第{number}节 {drawn.choice(texts)[:12]}", heading)
        room = 700 if number % 3 == 0 else 1_150
        while room > 0:
            text = drawn.choice(texts)[: min(400, room + 40)]
            room -= len(text) + 30
            yield Paragraph(text.replace("<", "＜").replace("&", "＆"), body)
        if number % 3 == 0:
            yield Spacer(1, 6 * mm)
            yield _table(drawn)
        if number < pages:
            yield PageBreak()


def _table(drawn: random.Random) -> Table:
    rows = [["项目", "本期金额", "上期金额", "增减"]]
    rows += [
        [f"科目{drawn.randrange(1000)}", *(f"{drawn.randrange(10**7):,}" for _ in range(2)), f"{drawn.randrange(90)}%"]
        for _ in range(9)
    ]
    style = [("GRID", (0, 0), (-1, -1), 0.5, colors.grey), ("FONT", (0, 0), (-1, -1), _FONT, 9)]
    return Table(rows, style=TableStyle(style), repeatRows=1)


def _furnish(texts: list[str], canvas: Canvas, document: SimpleDocTemplate) -> None:
    number = canvas.getPageNumber()
    canvas.setFont(_FONT, 9)
    canvas.drawString(25 * mm, A4[1] - 18 * mm, "某某公司员工手册（二〇二五年版）")
    canvas.drawCentredString(A4[0] / 2, 12 * mm, f"第 {number} 页")
    canvas.line(25 * mm, 27 * mm, 70 * mm, 27 * mm)
    canvas.setFont(_FONT, 8)
    canvas.drawString(25 * mm, 22 * mm, f"{number} 参见{texts[number][:30]}")


def _until_ready(data: bytes, folder: Path) -> float:
    """From the upload until the job has ended, the worker being warm."""
    with serving(folder, workers=1) as running:
        client = running.client()
        kb = client.call("POST", "/v1/knowledge-bases", {"name": "bench"})["id"]
        wait_until_finished(client, [client.upload(kb, {"warm.txt": "A text that only warms the worker up."})])
        begun = time.perf_counter()
        wait_until_finished(client, [client.upload(kb, {"handbook.pdf": data})])
        return time.perf_counter() - begun
