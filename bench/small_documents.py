"""Small honest documents of every format, in Chinese and English, no two with the same text."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable

import docx
import openpyxl
import pptx

_TOPICS = (
    ("年假", "annual leave", "满{n}个月的员工每年有{d}天年假，须提前{e}天申请。"),
    ("报销", "travel expenses", "单笔超过{n}元的报销由第{d}组负责人签字，{e}日内付款。"),
    ("机房", "server room", "第{n}号机柜的温度不得高于{d}度，每{e}小时巡检一次。"),
    ("合同", "contracts", "第{n}号合同自签字起{d}日生效，有效期{e}年。"),
)


def small_document(number: int) -> tuple[str, bytes]:
    """File name and content; the format goes round with the number."""
    suffix, make = _FORMATS[number % len(_FORMATS)]
    return f"document-{number}{suffix}", make(number)


def paragraphs(number: int) -> tuple[str, list[str]]:
    """A title and three sentences that name the number."""
    zh, en, pattern = _TOPICS[number // len(_FORMATS) % len(_TOPICS)]
    first = pattern.format(n=number, d=number % 27 + 3, e=number % 11 + 2)
    second = f"Rule {number} about {en} was agreed on day {number % 28 + 1} and replaces rule {number + 20_000}."
    third = f"Questions about it go to desk {number % 97}, extension {number * 7}."
    return f"{zh} {en} {number}", [first, second, third]


def one_page_pdf(lines: list[str], number: int = 0) -> bytes:
    """Latin text only, set in Helvetica."""
    shown = "\n".join(f"1 0 0 1 72 {720 - 20 * row} Tm ({line}) Tj" for row, line in enumerate(lines))
    content = f"% {number}\nBT /F1 12 Tf\n{shown}\nET".encode()
    return pdf(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
            b" /Resources << /Font << /F1 5 0 R >> >> >>",
            b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        ]
    )


def pdf(objects: list[bytes]) -> bytes:
    """A file of these objects, numbered from 1; the first is the catalogue."""
    out, offsets = io.BytesIO(b"%PDF-1.7\n"), []
    out.seek(0, io.SEEK_END)
    for number, body in enumerate(objects, start=1):
        offsets.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    table = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.writelines(b"%010d 00000 n \n" % offset for offset in offsets)
    out.write(b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table))
    return out.getvalue()


def _text(number: int) -> bytes:
    title, lines = paragraphs(number)
    return "\n\n".join([title, *lines]).encode()


def _gb_text(number: int) -> bytes:
    title, lines = paragraphs(number)
    return "\n\n".join([title, *lines]).encode("gb18030")


def _markdown(number: int) -> bytes:
    title, lines = paragraphs(number)
    return f"# {title}\n\n{lines[0]}\n\n## Details\n\n- {lines[1]}\n- {lines[2]}\n".encode()


def _html(number: int) -> bytes:
    title, lines = paragraphs(number)
    body = "".join(f"<p>{line}</p>" for line in lines)
    return f"<!doctype html><html><head><meta charset=utf-8></head><body><h1>{title}</h1>{body}</body></html>".encode()


def _csv(number: int) -> bytes:
    rows = [f"{number},{row},{line}" for row, line in enumerate(paragraphs(number)[1])]
    return "\n".join(["rule,row,text", *rows]).encode()


def _json(number: int) -> bytes:
    title, lines = paragraphs(number)
    return json.dumps([{"title": title, "row": row, "text": line} for row, line in enumerate(lines)]).encode()


def _eml(number: int) -> bytes:
    _, lines = paragraphs(number)
    head = f"From: a@example.org\nTo: b@example.org\nSubject: Rule {number}\nDate: Thu, 1 Jan 2026 09:00:00 +0000\n"
    return (head + "Content-Type: text/plain; charset=utf-8\n\n" + "\n\n".join(lines[1:])).encode()


def _rtf(number: int) -> bytes:
    _, lines = paragraphs(number)
    return (r"{\rtf1\ansi\deff0 {\fonttbl {\f0 Arial;}}\f0 " + r"\par ".join(lines[1:]) + "}").encode()


def _pdf(number: int) -> bytes:
    return one_page_pdf(paragraphs(number)[1][1:], number)


def _docx(number: int) -> bytes:
    title, lines = paragraphs(number)
    document = docx.Document()
    document.add_heading(title, 1)
    for line in lines:
        document.add_paragraph(line)
    return _saved(document.save)


def _xlsx(number: int) -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["rule", "row", "text"])
    for row, line in enumerate(paragraphs(number)[1]):
        sheet.append([number, row, line])
    return _saved(book.save)


def _pptx(number: int) -> bytes:
    title, lines = paragraphs(number)
    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[1])
    slide.shapes.title.text = title
    slide.placeholders[1].text = "\n".join(lines)
    return _saved(deck.save)


def _epub(number: int) -> bytes:
    title, lines = paragraphs(number)
    body = "".join(f"<p>{line}</p>" for line in lines)
    page = f'<html xmlns="http://www.w3.org/1999/xhtml"><head><title>{title}</title></head><body>{body}</body></html>'
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id"><metadata '
        f'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{title}</dc:title><dc:identifier id="id">{number}'
        '</dc:identifier></metadata><manifest><item id="c" href="c.xhtml" media-type="application/xhtml+xml"/>'
        '</manifest><spine><itemref idref="c"/></spine></package>'
    )
    container = (
        '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles><rootfile '
        'full-path="c.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
    )
    parts = {"META-INF/container.xml": container, "c.opf": package, "c.xhtml": page}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        for name, content in parts.items():
            archive.writestr(name, content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _saved(save: Callable[[io.BytesIO], None]) -> bytes:
    out = io.BytesIO()
    save(out)
    return out.getvalue()


_FORMATS: tuple[tuple[str, Callable[[int], bytes]], ...] = (
    (".txt", _text), (".md", _markdown), (".html", _html), (".docx", _docx), (".pdf", _pdf), (".csv", _csv),
    (".json", _json), (".xlsx", _xlsx), (".eml", _eml), (".pptx", _pptx), (".rtf", _rtf), (".epub", _epub),
    (".txt", _gb_text),
)  # fmt: skip
