"""What each format becomes, and how each kind of bad file is told."""

from __future__ import annotations

import io
import zipfile

import docx
import pytest
from reportlab.lib.pagesizes import A4
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen import canvas
from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate

from ingest.parsers import REASONS, lines
from ingest.parsers.docx import DocxParser
from ingest.parsers.registry import PARSERS, parser_for
from rag_service.errors import ParseFailed
from rag_service.media_types import DOCX, HTML, MARKDOWN, OLE, PDF, SUFFIXES, TEXT
from rag_service.types import ParsedDocument


def parse(media_type: str, data: bytes | str) -> ParsedDocument:
    """The document, after checking what holds for every document."""
    parsed = parser_for(media_type).parse(data.encode() if isinstance(data, str) else data)
    position = 0
    for block in parsed.blocks:
        assert position <= block.start < block.end
        assert not parsed.text[position : block.start].strip()
        position = block.end
    assert position == len(parsed.text)
    assert "\n\n\n" not in parsed.text
    assert not any(line != line.rstrip() for line in parsed.text.split("\n"))
    assert not set(parsed.text) & set("\x00\r\ufeff\u00ad")
    return parsed


def blocks(parsed: ParsedDocument) -> list[tuple[str, str]]:
    return [(block.kind, parsed.text[block.start : block.end]) for block in parsed.blocks]


def reason(media_type: str, data: bytes) -> str:
    with pytest.raises(ParseFailed) as caught:
        parser_for(media_type).parse(data)
    assert caught.value.reason in REASONS
    return caught.value.reason


def test_every_supported_suffix_has_a_parser() -> None:
    assert {suffix: parser_for(kind).media_types[0] for suffix, kind in SUFFIXES.items()} == SUFFIXES
    assert {suffix for parser in PARSERS for suffix in parser.suffixes} == set(SUFFIXES)


@pytest.mark.parametrize("media_type", sorted(set(SUFFIXES.values())))
@pytest.mark.parametrize("data", [b"", b" \r\n\t \n"])
def test_an_empty_file_is_empty_in_every_format(media_type: str, data: bytes) -> None:
    assert reason(media_type, data) == "empty"


# --- plain text


def test_paragraphs_are_what_stands_between_blank_lines() -> None:
    parsed = parse(TEXT, "First line.\r\nSecond line.  \r\n\r\n\r\n \r\n　　第二段。\r\n")
    assert blocks(parsed) == [("paragraph", "First line.\nSecond line."), ("paragraph", "第二段。")]


def test_hard_wrapped_text_is_unwrapped() -> None:
    wrapped = (
        "The quick brown fox jumps over the lazy dog while\n"
        "the other animals of the forest watch it with some\n"
        "amazement, because none of them has ever seen such\n"
        "a thing before.\n\nA new paragraph."
    )
    assert blocks(parse(TEXT, wrapped))[0][1] == " ".join(wrapped.split("\n\n")[0].split("\n"))


def test_hard_wrapped_chinese_is_unwrapped_without_spaces() -> None:
    text = "知识库里的每一份文件都会被切成小段回答问题时先找出相关的段落再写出带有引用的句子" * 3
    wrapped = "\n".join(text[start : start + 30] for start in range(0, len(text), 30))
    assert parse(TEXT, wrapped).text == text


def test_lines_that_were_meant_stay_lines() -> None:
    poem = "床前明月光，\n疑是地上霜。\n举头望明月，\n低头思故乡。"
    address = "Youju Ltd\n12 Long Street\nSpringfield\nPhone: 555 0100"
    assert parse(TEXT, f"{poem}\n\n{address}").text == f"{poem}\n\n{address}"


@pytest.mark.parametrize(
    ("first", "second", "glued"),
    [
        ("a hyphen-", "ated word", "a hyphenated word"),
        ("the US-", "Chinese border", "the US- Chinese border"),
        ("中文", "接着", "中文接着"),
        ("中文", "then English", "中文 then English"),
        ("pages 3-", "5", "pages 3- 5"),
    ],
)
def test_lines_are_glued_as_they_were_read(first: str, second: str, glued: str) -> None:
    assert lines.glue(first, second) == glued


def test_unreadable_bytes_are_told_as_encoding() -> None:
    assert reason(TEXT, bytes(range(1, 256)) * 4) == "encoding"


# --- Markdown


def test_markdown_keeps_its_source_and_gets_its_structure() -> None:
    source = (
        "# 手册\n\nSome **bold** text with [a link](https://example.com).\n\n- one\n- two\n  - three\n\n"
        "| a | b |\n| - | - |\n| 1 | 2 |\n\n```py\nx = 1\n\n\ny = 2\n```\n\nSecond\n------\n\n> quoted"
    )
    parsed = parse(MARKDOWN, source)
    assert blocks(parsed) == [
        ("heading", "# 手册"),
        ("paragraph", "Some **bold** text with [a link](https://example.com)."),
        ("list", "- one\n- two\n  - three"),
        ("table", "| a | b |\n| - | - |\n| 1 | 2 |"),
        ("code", "```py\nx = 1\n\ny = 2\n```"),
        ("heading", "Second\n------"),
        ("paragraph", "> quoted"),
    ]
    assert [block.level for block in parsed.blocks if block.kind == "heading"] == [1, 2]


def test_front_matter_is_no_heading() -> None:
    parsed = parse(MARKDOWN, "---\ntitle: X\nlang: zh\n---\n# A\n")
    assert blocks(parsed) == [("code", "---\ntitle: X\nlang: zh\n---"), ("heading", "# A")]


def test_link_definitions_are_not_lost() -> None:
    assert "[x]: https://example.com" in parse(MARKDOWN, "See [x].\n\n[x]: https://example.com\n").text


def test_a_wrapped_paragraph_in_a_quote_is_one_sentence() -> None:
    source = (
        "> The quick brown fox jumps over the lazy dog while\n"
        "> the other animals of the forest watch it with some\n"
        "> amazement, because none of them has ever seen such\n"
        "> a thing before."
    )
    assert parse(MARKDOWN, source).text == source.replace("\n> ", " ")


# --- HTML


def test_html_is_its_visible_text_in_blocks() -> None:
    html = """<html><head><title>Page</title><style>p{}</style></head><body><script>evil()</script>
      <h1>标题</h1><p>第一
      行，<a href="https://example.com/x">link</a> and <b>bold_text</b>.<br>Next line.</p>
      <ul><li>one</li><li>two</li></ul>
      <table><tr><th>名</th><th>数</th></tr><tr><td>a</td><td>1</td></tr></table>
      <pre>x = 1
  y</pre><!-- hidden --></body></html>"""
    parsed = parse(HTML, html)
    assert blocks(parsed) == [
        ("heading", "# 标题"),
        ("paragraph", "第一行，link and bold_text.\nNext line."),
        ("list", "- one\n- two"),
        ("table", "| 名 | 数 |\n| --- | --- |\n| a | 1 |"),
        ("code", "```\nx = 1\n  y\n```"),
    ]


def test_a_page_without_a_heading_gets_its_title() -> None:
    assert blocks(parse(HTML, "<title>The\n title</title><p>Text.")) == [
        ("heading", "# The title"),
        ("paragraph", "Text."),
    ]


def test_html_says_its_charset_itself() -> None:
    html = '<meta charset="big5"><p>中文網頁的內容'
    assert parse(HTML, html.encode("big5")).text == "中文網頁的內容"
    older = '<meta http-equiv="Content-Type" content="text/html; charset=gb2312"><p>镕'
    assert parse(HTML, older.encode("gbk")).text == "镕"
    assert parse(HTML, "<p>有记号的网页".encode("utf-16")).text == "有记号的网页"


def test_html_nested_beyond_recursion_keeps_its_text() -> None:
    assert "deep down" in parse(HTML, "<div>" * 20_000 + "deep down" + "</div>" * 20_000).text


# --- DOCX


def word(document: docx.document.Document) -> bytes:
    stream = io.BytesIO()
    document.save(stream)
    return stream.getvalue()


def rewritten(data: bytes, part: str, content: bytes) -> bytes:
    """The archive with one part replaced."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, content if name == part else old.read(name))
    return stream.getvalue()


def test_a_word_document_keeps_headings_lists_and_tables() -> None:
    document = docx.Document()
    document.add_heading("员工手册", level=0)
    document.add_heading("请假", level=1)
    document.add_paragraph("年假每年 10 天。 Two_words and *stars*.")
    document.add_paragraph("第一项", style="List Bullet")
    document.add_paragraph("第二项", style="List Bullet")
    table = document.add_table(2, 2)
    for cell, text in zip((c for row in table.rows for c in row.cells), ("类型", "天数", "年假", "10"), strict=True):
        cell.text = text
    assert blocks(parse(DOCX, word(document))) == [
        ("heading", "# 员工手册"),
        ("heading", "# 请假"),
        ("paragraph", "年假每年 10 天。 Two_words and *stars*."),
        ("list", "- 第一项\n- 第二项"),
        ("table", "| 类型 | 天数 |\n| --- | --- |\n| 年假 | 10 |"),
    ]


def test_an_equation_in_a_word_document_is_not_lost() -> None:
    document = docx.Document()
    document.add_paragraph("Energy:")
    data = word(document)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        xml = archive.read("word/document.xml").decode()
    math = (
        '<m:oMath xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math">'
        "<m:r><m:t>E=mc</m:t></m:r></m:oMath>"
    )
    changed = xml.replace("Energy:</w:t></w:r>", f"Energy:</w:t></w:r>{math}")
    assert "E=mc" in parse(DOCX, rewritten(data, "word/document.xml", changed.encode())).text


def test_a_word_document_of_empty_tables_is_empty() -> None:
    document = docx.Document()
    document.add_table(2, 2)
    assert reason(DOCX, word(document)) == "empty"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_dtd_in_any_xml_part_is_refused(encoding: str) -> None:
    data = word(docx.Document())
    xml = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE x [<!ENTITY e "B">]><x>A&e;</x>'.encode(encoding)
    for part in ("word/document.xml", "word/styles.xml", "_rels/.rels"):
        assert reason(DOCX, rewritten(data, part, xml)) == "xml-dtd"


def test_inflating_is_counted_against_a_limit() -> None:
    document = docx.Document()
    document.add_paragraph("长" * 1_000_000)
    with pytest.raises(ParseFailed) as caught:
        DocxParser(xml_limit_bytes=1_000_000).parse(word(document))
    assert caught.value.reason == "decompression-limit"
    assert caught.value.data["limit_bytes"] == 1_000_000


def test_word_files_that_are_none() -> None:
    data = word(docx.Document())
    plain_zip = io.BytesIO()
    with zipfile.ZipFile(plain_zip, "w") as archive:
        archive.writestr("a.txt", "x")
    assert reason(DOCX, plain_zip.getvalue()) == "broken"
    assert reason(DOCX, data[: len(data) // 2]) == "broken"
    assert reason(DOCX, OLE + bytes(512)) == "broken"
    assert reason(DOCX, OLE + bytes(512) + "EncryptedPackage".encode("utf-16-le")) == "encrypted"


# --- PDF


def styled(*texts: str | None, size: float = 11, heading: float = 18) -> bytes:
    """A PDF laid out by reportlab; a text with a leading # is set larger, None ends a page."""
    pdfmetrics.registerFont(UnicodeCIDFont("STSong-Light"))
    body = ParagraphStyle(
        "body", fontName="STSong-Light", fontSize=size, leading=size * 1.4, wordWrap="CJK", spaceAfter=9
    )
    english = ParagraphStyle("english", fontName="Times-Roman", fontSize=size, leading=size * 1.2, spaceAfter=9)
    large = ParagraphStyle("large", parent=body, fontSize=heading, leading=heading * 1.4)
    stream = io.BytesIO()
    story = [
        PageBreak()
        if text is None
        else Paragraph(text.lstrip("#"), large if text.startswith("#") else english if text.isascii() else body)
        for text in texts
    ]
    SimpleDocTemplate(stream, pagesize=A4).build(story)
    return stream.getvalue()


ENGLISH = (
    "The first paragraph of this file is long enough to need several lines on the page, so that its lines have to be "
    "joined again by whoever reads it. It also has a second sentence, which ends here."
)
CHINESE = (
    "本文件的第一段足够长，在页面上需要占好几行，因此读取的人必须把这些行重新连接起来，而且在汉字之间不能加入任何空格。"
    "这一段还有第二句话，到这里结束。"
)


def test_a_pdfs_lines_become_paragraphs_with_their_page() -> None:
    parsed = parse(PDF, styled(ENGLISH, CHINESE, None, "A second page. " * 3))
    assert blocks(parsed) == [
        ("paragraph", ENGLISH),
        ("paragraph", CHINESE),
        ("paragraph", "A second page. A second page. A second page."),
    ]
    assert [block.page for block in parsed.blocks] == [1, 1, 2]
    assert parsed.pages == 2


def test_a_pdfs_headings_are_told_by_their_size() -> None:
    parsed = parse(PDF, styled("#总则", CHINESE, "#Scope", ENGLISH))
    assert [kind for kind, _ in blocks(parsed)] == ["heading", "paragraph", "heading", "paragraph"]
    assert {block.level for block in parsed.blocks if block.kind == "heading"} == {1}


def test_a_pdfs_hyphens_at_line_ends_are_mended() -> None:
    stream = io.BytesIO()
    page = canvas.Canvas(stream)
    text = page.beginText(72, 700)
    for line in ("This line ends with a hyphen-", "ated word, and the next one con-", "tinues with the rest of it."):
        text.textLine(line)
    page.drawText(text)
    page.save()
    expected = "This line ends with a hyphenated word, and the next one continues with the rest of it."
    assert parse(PDF, stream.getvalue()).text == expected


def test_a_pdf_without_text_says_so() -> None:
    stream = io.BytesIO()
    page = canvas.Canvas(stream)
    page.rect(10, 10, 100, 100, fill=1)
    page.save()
    assert reason(PDF, stream.getvalue()) == "no-text"


def test_a_pdf_behind_a_password_says_so() -> None:
    stream = io.BytesIO()
    page = canvas.Canvas(stream, encrypt=StandardEncryption("open sesame", strength=128))
    page.drawString(72, 700, "secret")
    page.save()
    assert reason(PDF, stream.getvalue()) == "encrypted"


def test_a_pdf_that_is_only_restricted_is_read() -> None:
    stream = io.BytesIO()
    page = canvas.Canvas(stream, encrypt=StandardEncryption("", ownerPassword="owner", canCopy=0))
    page.drawString(72, 700, "Readable by anyone.")
    page.save()
    assert parse(PDF, stream.getvalue()).text == "Readable by anyone."


@pytest.mark.parametrize("keep", [20, 200])
def test_a_pdf_cut_short_is_broken(keep: int) -> None:
    assert reason(PDF, styled(ENGLISH)[:keep]) == "broken"
