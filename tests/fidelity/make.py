"""Makes the files of the fidelity set with the real programs: LibreOffice, Chromium, the office libraries, Pillow.

Needed only to make the set anew (`python tests/fidelity/make.py`); the files themselves are committed. Wants `soffice`
and `chromium` on the path and the Noto CJK fonts.
"""

from __future__ import annotations

import csv
import io
import json
import random
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from email.message import EmailMessage
from functools import partial
from html import escape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import docx
import openpyxl
from contents import (
    BUDGET_EN,
    CONTRACT_ZH,
    HANDBOOK_ZH,
    LONG_ZH,
    MANUAL_MIXED,
    MINUTES_EN,
    NOTICE_HANT,
    REPORT_EN,
    SLIDES_EN,
    SLIDES_ZH,
    STOCK_ZH,
    Content,
    Heading,
    Items,
    Paragraph,
    Rows,
    plain,
    tables,
)
from openpyxl.styles import Font
from PIL import Image, ImageFilter
from pptx import Presentation
from pptx.util import Inches, Pt

FILES = Path(__file__).parent / "files"
STYLE = (
    "body{font-family:'Noto Serif CJK SC','Liberation Serif',serif;font-size:12pt;line-height:1.6;max-width:17cm;"
    "margin:1cm auto}table{border-collapse:collapse}td,th{border:1px solid #444;padding:3pt 6pt}"
)


def html(content: Content, *, lang: str, style: str = STYLE, extra: str = "") -> str:
    body = "\n".join(_part(part) for part in content)
    return (
        f'<!DOCTYPE html><html lang="{lang}"><head><meta charset="utf-8"><title>{escape(_title(content))}</title>'
        f"<style>{style}</style></head><body>{extra}\n{body}\n</body></html>"
    )


def _title(content: Content) -> str:
    return next(part.text for part in content if isinstance(part, Heading))


def _part(part: object) -> str:
    match part:
        case Heading(level=level, text=text):
            return f"<h{level}>{escape(text)}</h{level}>"
        case Paragraph(text=text):
            return f"<p>{escape(text)}</p>"
        case Items(texts=texts, numbered=numbered):
            tag = "ol" if numbered else "ul"
            return f"<{tag}>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + f"</{tag}>"
        case Rows(cells=cells):
            head, *rows = ["".join(f"<CELL>{escape(cell)}</CELL>" for cell in row) for row in cells]
            lines = [head.replace("CELL", "th"), *(row.replace("CELL", "td") for row in rows)]
            # Attributes, as Writer's import reads no borders and widths from a style sheet.
            return (
                '<table border="1" width="100%" cellpadding="4">'
                + "".join(f"<tr>{line}</tr>" for line in lines)
                + "</table>"
            )
    raise TypeError(part)


def markdown(content: Content) -> str:
    blocks: list[str] = []
    for part in content:
        match part:
            case Heading(level=level, text=text):
                blocks.append("#" * level + " " + text)
            case Paragraph(text=text):
                blocks.append(text)
            case Items(texts=texts, numbered=numbered):
                blocks.append("\n".join(f"{n}. {t}" if numbered else f"- {t}" for n, t in enumerate(texts, 1)))
            case Rows(cells=cells):
                lines = ["| " + " | ".join(row) + " |" for row in cells]
                blocks.append("\n".join([lines[0], "|" + " --- |" * len(cells[0]), *lines[1:]]))
    return "\n\n".join(blocks) + "\n"


def soffice(source: Path, target: str, name: str, infilter: str | None = None) -> None:
    """LibreOffice converts `source` into `files/<name>`."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["soffice", f"-env:UserInstallation=file://{folder}/profile", "--headless"]
        if infilter:
            command.append(f"--infilter={infilter}")
        subprocess.run(
            [*command, "--convert-to", target, "--outdir", folder, str(source)], check=True, stdout=subprocess.DEVNULL
        )
        [made] = [p for p in Path(folder).iterdir() if p.is_file()]
        shutil.move(made, FILES / name)


def chromium(page: Path | str, name: str, *options: str) -> None:
    """Chromium prints (`.pdf`) or photographs (anything else) a page."""
    out, address = FILES / name, page if isinstance(page, str) else page.as_uri()
    what = f"--print-to-pdf={out}" if name.endswith(".pdf") else f"--screenshot={out}"
    subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", what, *options, address],
        check=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def from_writer(folder: Path) -> None:
    """Typed into Writer (through its own HTML import), saved in its formats."""
    for name, content, lang in (
        ("handbook-zh", HANDBOOK_ZH, "zh"), ("report-en", REPORT_EN, "en"), ("contract-zh", CONTRACT_ZH, "zh"),
        ("notice-hant", NOTICE_HANT, "zh-Hant"), ("manual-mixed", MANUAL_MIXED, "zh"), ("minutes-en", MINUTES_EN, "en"),
    ):  # fmt: skip
        page = folder / f"{name}.html"
        page.write_text(html(content, lang=lang), "utf-8")
        soffice(page, "odt:writer8", f"{name}.odt", "HTML (StarWriter)")
        odt = FILES / f"{name}.odt"
        soffice(odt, "docx:MS Word 2007 XML", f"writer-{name}.docx")
        if name in ("handbook-zh", "report-en", "notice-hant"):
            soffice(odt, "rtf:Rich Text Format", f"writer-{name}.rtf")
        if name in ("handbook-zh", "report-en", "manual-mixed"):
            soffice(odt, "epub:EPUB", f"writer-{name}.epub")
        if name in ("handbook-zh", "report-en", "contract-zh", "notice-hant"):
            soffice(odt, "pdf:writer_pdf_Export", f"writer-{name}.pdf")
        if name in ("handbook-zh", "minutes-en"):
            soffice(odt, "html:XHTML Writer File", f"writer-{name}.xhtml")
        odt.unlink()


def from_chromium(folder: Path) -> None:
    """Printed and photographed by a browser."""
    for name, content, lang in (
        ("handbook-zh", HANDBOOK_ZH, "zh"), ("report-en", REPORT_EN, "en"), ("manual-mixed", MANUAL_MIXED, "zh"),
        ("minutes-en", MINUTES_EN, "en"),
    ):  # fmt: skip
        page = folder / f"{name}.html"
        page.write_text(html(content, lang=lang), "utf-8")
        chromium(page, f"browser-{name}.pdf", "--no-pdf-header-footer")
    columns = STYLE + "div{column-count:2;column-gap:1cm;text-align:justify;hyphens:auto}"
    prose = tuple(part for part in REPORT_EN if not isinstance(part, Rows))
    body = html(prose, lang="en", style=columns).replace("<body>", "<body><div>").replace("</body>", "</div></body>")
    page = folder / "columns.html"
    page.write_text(body, "utf-8")
    chromium(page, "browser-columns-en.pdf", "--no-pdf-header-footer")
    prose = tuple(part for part in HANDBOOK_ZH if not isinstance(part, Rows))
    body = html(prose, lang="zh", style=columns).replace("<body>", "<body><div>").replace("</body>", "</div></body>")
    page.write_text(body, "utf-8")
    chromium(page, "browser-columns-zh.pdf", "--no-pdf-header-footer")
    long = LONG_ZH
    page.write_text(html(long, lang="zh"), "utf-8")
    # With the browser's own running header (date, title) and footer (address, page of pages).
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        chromium(f"http://127.0.0.1:{server.server_port}/{page.name}", "browser-long-zh.pdf")
        server.shutdown()


def from_libraries() -> None:
    """Made by the libraries that other programs make their files with."""
    for name, content in (("contract-zh", CONTRACT_ZH), ("report-en", REPORT_EN)):
        _word(content).save(str(FILES / f"library-{name}.docx"))
    _slides("运行与维护培训", SLIDES_ZH).save(str(FILES / "library-training-zh.pptx"))
    _slides("Quarterly Review", SLIDES_EN).save(str(FILES / "library-review-en.pptx"))
    for name, sheets in (("stock-zh", STOCK_ZH), ("budget-en", BUDGET_EN)):
        book = openpyxl.Workbook()
        book.remove(book.active)
        for title, rows in sheets:
            sheet = book.create_sheet(title)
            for row in rows:
                sheet.append(list(row))
            for cell in sheet[1]:
                cell.font = Font(bold=True)
        book.save(FILES / f"library-{name}.xlsx")


def _word(content: Content) -> docx.document.Document:
    document = docx.Document()
    for part in content:
        match part:
            case Heading(level=level, text=text):
                document.add_heading(text, level)
            case Paragraph(text=text):
                document.add_paragraph(text)
            case Items(texts=texts, numbered=numbered):
                for text in texts:
                    document.add_paragraph(text, style="List Number" if numbered else "List Bullet")
            case Rows(cells=cells):
                table = document.add_table(len(cells), len(cells[0]), style="Table Grid")
                for row, texts in zip(table.rows, cells, strict=True):
                    for cell, text in zip(row.cells, texts, strict=True):
                        cell.text = text
    return document


def _slides(title: str, slides: Sequence[tuple[str, tuple[str, ...]]]) -> Presentation:
    deck = Presentation()
    first = deck.slides.add_slide(deck.slide_layouts[0])
    first.shapes.title.text = title
    first.placeholders[1].text = "2026"
    for heading, points in slides:
        slide = deck.slides.add_slide(deck.slide_layouts[1])
        slide.shapes.title.text = heading
        frame = slide.placeholders[1].text_frame
        frame.text = points[0]
        for point in points[1:]:
            frame.add_paragraph().text = point
    slide = deck.slides.add_slide(deck.slide_layouts[5])
    slide.shapes.title.text = "A | B"
    rows = tables(NOTICE_HANT)[0].cells
    table = slide.shapes.add_table(len(rows), len(rows[0]), Inches(1), Inches(2), Inches(8), Inches(3)).table
    for y, row in enumerate(rows):
        for x, text in enumerate(row):
            table.cell(y, x).text = text
            table.cell(y, x).text_frame.paragraphs[0].font.size = Pt(18)
    return deck


def from_calc(folder: Path) -> None:
    """Calc opens a table of each language and saves it in its formats."""
    for name, rows in (("payments-zh", tables(CONTRACT_ZH)[0].cells), ("pumps-en", tables(REPORT_EN)[0].cells)):
        source = folder / f"{name}.csv"
        out = io.StringIO()
        csv.writer(out).writerows(rows)
        source.write_text(out.getvalue(), "utf-8")
        infilter = "CSV:44,34,76,1"
        soffice(source, "xlsx:Calc MS Excel 2007 XML", f"calc-{name}.xlsx", infilter)
        # 44 is the comma, 34 the quote; 76 UTF-8, then code page 936 by LibreOffice's own numbers.
        soffice(source, "csv:Text - txt - csv (StarCalc):44,34,76,1", f"calc-{name}.csv", infilter)
        if name == "payments-zh":
            (FILES / "excel-payments-gbk.csv").write_bytes(out.getvalue().encode("gb18030"))
            tabs = "\r\n".join("\t".join(row) for row in rows) + "\r\n"
            (FILES / "excel-payments-utf16.tsv").write_bytes(tabs.encode("utf-16"))


def texts() -> None:
    for name, content, encoding in (
        ("handbook-utf8.txt", HANDBOOK_ZH, "utf-8"), ("contract-gbk.txt", CONTRACT_ZH, "gb18030"),
        ("notice-big5.txt", NOTICE_HANT, "big5"), ("report-utf16.txt", REPORT_EN, "utf-16"),
    ):  # fmt: skip
        prose = tuple(part for part in content if not isinstance(part, Rows))
        body = plain(prose).replace("\n", "\r\n\r\n")
        (FILES / name).write_bytes(body.encode(encoding))
    (FILES / "contract-zh.md").write_text(markdown(CONTRACT_ZH), "utf-8")
    (FILES / "report-en.md").write_text(markdown(REPORT_EN), "utf-8")
    (FILES / "handbook-gb2312.html").write_bytes(
        html(HANDBOOK_ZH, lang="zh").replace("utf-8", "gb2312").encode("gb18030")
    )
    (FILES / "manual-mixed.html").write_text(html(MANUAL_MIXED, lang="zh"), "utf-8")
    records = [dict(zip(BUDGET_EN[0][1][0], row, strict=True)) for row in BUDGET_EN[0][1][1:]]
    (FILES / "budget-en.json").write_text(json.dumps(records, indent=1), "utf-8")
    stock = [dict(zip(STOCK_ZH[0][1][0], row, strict=True)) for row in STOCK_ZH[0][1][1:]]
    lines = [json.dumps(record, ensure_ascii=False) for record in stock]
    (FILES / "stock-zh.jsonl").write_text("\n".join(lines) + "\n", "utf-8")


def mails() -> None:
    for name, content, charset, subject in (
        ("mail-zh.eml", NOTICE_HANT, "big5", "停車場使用須知"), ("mail-en.eml", MINUTES_EN, "us-ascii", "Minutes"),
        ("mail-gbk.eml", CONTRACT_ZH, "gb18030", "设备采购合同（草案）"),
    ):  # fmt: skip
        mail = EmailMessage()
        mail["Subject"], mail["From"], mail["To"] = subject, "Wang Lei <wang.lei@example.com>", "office@example.com"
        mail["Date"] = "Mon, 02 Mar 2026 09:15:00 +0800"
        prose = tuple(part for part in content if not isinstance(part, Rows))
        body = plain(prose).replace("\n", "\n\n")
        mail.set_content(body if charset != "us-ascii" else body.replace("ø", "o"), charset=charset)
        (FILES / name).write_bytes(bytes(mail))


def images(folder: Path) -> None:
    """Pages as a scanner sees them: noise, skew, JPEG."""
    dice = random.Random(7)
    for name, content, lang, suffix, degrees, dots in (
        ("scan-notice-hant", NOTICE_HANT, "zh-Hant", "png", 0.0, 0),
        ("scan-contract-zh", CONTRACT_ZH, "zh", "png", 1.2, 900),
        ("scan-minutes-en", MINUTES_EN, "en", "jpg", -0.8, 900),
        ("scan-handbook-zh", HANDBOOK_ZH, "zh", "tiff", 0.6, 400),
    ):  # fmt: skip
        prose = tuple(part for part in content if not isinstance(part, Rows))
        page = folder / "scan.html"
        page.write_text(html(prose, lang=lang), "utf-8")
        shot = FILES / f"{name}.shot.png"
        chromium(page, shot.name, "--window-size=794,1123", "--force-device-scale-factor=2", "--hide-scrollbars")
        image = Image.open(shot).convert("L")
        shot.unlink()
        if degrees:
            image = image.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=255)
        pixels = image.load()
        for _ in range(dots):
            x, y = dice.randrange(image.width), dice.randrange(image.height)
            pixels[x, y] = dice.randrange(0, 200)
        if dots:
            image = image.filter(ImageFilter.GaussianBlur(0.6))
        options = {"jpg": {"quality": 80}, "tiff": {"compression": "tiff_lzw"}, "png": {"optimize": True}}[suffix]
        image.save(FILES / f"{name}.{suffix}", dpi=(192, 192), **options)
        if suffix == "jpg":
            image.save(FILES / f"{name}.pdf", resolution=192)


def main() -> None:
    shutil.rmtree(FILES, ignore_errors=True)
    FILES.mkdir()
    steps: tuple[Callable[..., None], ...] = (from_writer, from_chromium, from_calc, images)
    with tempfile.TemporaryDirectory() as folder:
        for step in steps:
            step(Path(folder))
    for simple in (from_libraries, texts, mails):
        simple()
    print(
        f"{len(list(FILES.iterdir()))} files, {sum(f.stat().st_size for f in FILES.iterdir())} bytes", file=sys.stderr
    )


if __name__ == "__main__":
    main()
