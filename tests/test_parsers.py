"""What each format becomes, and how each kind of bad file is told."""

from __future__ import annotations

import io
import re
import time
import zipfile
from contextlib import suppress
from functools import reduce

import docx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parsed import blocks, failure, parse

from ingest.parsers import lines
from ingest.parsers.canonical import CanonicalText
from ingest.parsers.docx import DocxParser
from ingest.parsers.registry import PARSERS, parser_for
from ingest.parsers.zip_container import Limits
from rag_service.errors import ParseFailed
from rag_service.media_types import DOCX, HTML, MARKDOWN, OLE, SUFFIXES, TEXT, XML, ZIP


def reason(media_type: str, data: bytes) -> str:
    return failure(media_type, data).reason


def test_every_supported_suffix_has_a_parser() -> None:
    parsed = {suffix: kind for suffix, kind in SUFFIXES.items() if kind != ZIP}
    assert all(suffix in parser_for(kind).suffixes for suffix, kind in parsed.items())
    assert {suffix for parser in PARSERS for suffix in parser.suffixes} == set(parsed)


@pytest.mark.parametrize("media_type", sorted(set(SUFFIXES.values()) - {ZIP}))
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


@given(st.lists(st.text("ab中。- \t", max_size=6), min_size=1, max_size=8))
def test_many_lines_are_glued_as_two_by_two(rows: list[str]) -> None:
    assert lines.flow(rows) == reduce(lines.glue, rows)


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


def test_footnotes_keep_their_mark() -> None:
    source = "The limit is ten days.[^1]\n\n[^1]: Twelve from 2025.\n"
    assert parse(MARKDOWN, source).text == source.strip()


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


def html_blocks(body: str) -> list[tuple[str, str]]:
    return blocks(parse(HTML, body))


def test_a_tables_cells_stay_in_their_columns() -> None:
    table = """<table><caption>年假</caption><tbody><tr><th rowspan=2>类型</th><th colspan=2>天数</th></tr>
      <tr><td>新</td><td>旧</td></tr></tbody><tfoot><tr><td>合计</td><td>10</td></tr></tfoot>
      <tbody><tr><td>事假|病假</td><td>5<br>天</td><td><p>3</p><p>天</p></td></tr></tbody></table>"""
    assert html_blocks(table) == [
        ("paragraph", "年假"),
        (
            "table",
            "| 类型 | 天数 新 | 天数 旧 |\n| --- | --- | --- |\n| 事假\\|病假 | 5 天 | 3 天 |\n| 合计 | 10 |  |",
        ),
    ]


def test_a_head_that_stands_last_is_shown_first() -> None:
    table = "<table><tr><td>1<td>a<thead><tr><th>n<th>m</thead><tr><td>2<td>b</table>"
    assert html_blocks(table) == [("table", "| n | m |\n| --- | --- |\n| 1 | a |\n| 2 | b |")]


def test_a_cell_over_several_rows_stands_in_each() -> None:
    table = """<table><tr><th>部门<th>姓名<th>电话<tr><td rowspan=2>财务<td>张三<td>1<tr><td>李四<td>2
      <tr><td>法务<td>王五<td rowspan=9>3<tr><td>行政<td>赵六</table>"""
    assert html_blocks(table) == [
        (
            "table",
            "| 部门 | 姓名 | 电话 |\n| --- | --- | --- |\n| 财务 | 张三 | 1 |\n| 财务 | 李四 | 2 |\n"
            "| 法务 | 王五 | 3 |\n| 行政 | 赵六 | 3 |",
        )
    ]


def test_a_form_made_of_a_table_is_its_lines() -> None:
    form = "<table><tr><td>姓名：</td><td>张三</td></tr><tr><td>电话：</td><td>123</td></tr></table>"
    assert html_blocks(form) == [("paragraph", "姓名： 张三\n电话： 123")]


def test_a_table_within_a_cell_is_said_once() -> None:
    inner = "<table><tr><td>x1</td><td>x2</td></tr></table>"
    table = f"<table><tr><th>a</th><th>b</th></tr><tr><td>long text before {inner}</td><td>2</td></tr></table>"
    assert html_blocks(table) == [("table", "| a | b |\n| --- | --- |\n| long text before x1, x2 | 2 |")]


def test_what_stands_between_the_cells_of_a_table_is_not_lost() -> None:
    inner = "<table><tr><td>x<td>y</table>"
    page = f"<table>one<tr>two<td>a<td>b{inner}</tr>three{inner}</table>"
    assert parse(HTML, page).text.split() == ["one", "two", "a", "b", "x:", "y", "three", "x:", "y"]


def test_a_cell_over_all_columns_of_one_row_is_said_once() -> None:
    assert html_blocks("<table><tr><td colspan=3>a<td>b</table>") == [("paragraph", "a: b")]


def test_a_table_whose_cells_span_too_much_is_told() -> None:
    row = "<tr><td colspan=1000 rowspan=65534>x"
    assert reason(HTML, f"<table>{row * 3_000}</table>".encode()) == "output-limit"


def test_a_table_that_only_places_blocks_is_none() -> None:
    inner = "<table><tr><td>a</td><td>b</td></tr><tr><td>1</td><td>2</td></tr></table>"
    page = f"<table><tr><td><h2>菜单</h2><ul><li>一</li></ul></td><td>{inner}</td></tr></table>"
    assert html_blocks(page) == [
        ("heading", "## 菜单"),
        ("list", "- 一"),
        ("table", "| a | b |\n| --- | --- |\n| 1 | 2 |"),
    ]


def test_code_is_one_block_whatever_it_holds() -> None:
    code = "# Title\n```\n\n- item\n| a | b |\n    x"
    assert html_blocks(f"<p>Before</p><pre><code>{code}</code></pre>") == [
        ("paragraph", "Before"),
        ("code", f"````\n{code}\n````"),
    ]


def test_readings_stand_behind_their_word() -> None:
    assert (
        parse(HTML, "<p><ruby>漢<rp>(</rp><rt>かん</rt><rp>)</rp>字<rt>じ</rt></ruby>を読む").text
        == "漢字（かんじ）を読む"
    )


def test_definitions_and_nested_lists_keep_their_order() -> None:
    terms = "<dl><dt>年假</dt><dd>每年十天。</dd><dt>病假</dt><dd>凭证明。</dd></dl>"
    parsed = parse(HTML, f"{terms}<ol start=3><li>三<ul><li>a</li></ul></li><li>四</li></ol>")
    assert blocks(parsed) == [
        ("paragraph", "年假\n:   每年十天。"),
        ("paragraph", "病假\n:   凭证明。"),
        ("list", "3. 三\n   - a\n4. 四"),
    ]


def test_an_item_that_brings_its_own_mark_gets_no_other() -> None:
    page = """<ol start=3><li><p><span>3.</span>三</p><li><span>4.</span>四</ol>
      <ul><li><span>•</span> one<li>• two</ul><p>x<ul><li>- dash</ul>"""
    assert html_blocks(page) == [
        ("list", "3. 三\n4. 四"),
        ("list", "- one\n- two"),
        ("paragraph", "x"),
        ("list", "- dash"),
    ]


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<ol><li>1. first<li>second</ol>", "1. 1. first\n2. second"),
        ("<ol><li>2. Quartal<li>1. Quartal</ol>", "1. 2. Quartal\n2. 1. Quartal"),
        ("<ol><li>1.5 mm<li>2.5 mm</ol>", "1. 1.5 mm\n2. 2.5 mm"),
        ("<ul><li>-5 °C<li>-7 °C</ul>", "- -5 °C\n- -7 °C"),
        ("<ol><li value=7>seven<li>eight</ol>", "7. seven\n8. eight"),
        ("<ol start=²><li>one</ol>", "1. one"),
    ],
)
def test_what_only_looks_like_an_items_mark_stays(page: str, text: str) -> None:
    assert html_blocks(page) == [("list", text)]


@pytest.mark.parametrize("tag", ["p", "div", "h1", "h3"])
def test_a_title_that_the_text_begins_with_is_said_once(tag: str) -> None:
    parsed = parse(HTML, f"<title>The  title</title><{tag}><b>The</b> title</{tag}><p>Text.")
    level = 3 if tag == "h3" else 1
    assert blocks(parsed) == [("heading", f"{'#' * level} The title"), ("paragraph", "Text.")]
    assert parsed.blocks[0].level == level


def test_cells_and_items_that_are_not_closed_are_told_apart() -> None:
    page = "<ul><li>one<li>two</ul><table><tr><td>a<td>b<tr><td>1<td>2</table>"
    assert html_blocks(page) == [("list", "- one\n- two"), ("table", "| a | b |\n| --- | --- |\n| 1 | 2 |")]


def test_what_xhtml_holds_as_character_data_is_text() -> None:
    assert parse(HTML, '<?xml version="1.0"?><p>a <![CDATA[x < y & <b>]]> b</p><![CDATA[open').text == "a x < y & <b> b"


def test_what_a_page_hides_is_left_out() -> None:
    page = """<p hidden>no</p><div style="color:red; display : none">no</div><span style="visibility:hidden">no</span>
      <template>no</template><noscript>no</noscript><p style="display:block">yes</p><?php no ?><!-- no -->"""
    assert parse(HTML, page).text == "yes"


def test_a_formula_is_its_source() -> None:
    source = '<annotation encoding="application/x-tex">x^2</annotation>'
    math = f"<math><semantics><mrow><mi>x</mi></mrow>{source}</semantics></math>"
    assert parse(HTML, f"<p>So {math}.</p>").text == "So $x^2$."


@given(
    st.lists(
        st.sampled_from(
            ["<table>", "<tr>", "<td colspan=9>", "<p>", "</table>", "<li>", "<ruby>", "<pre>", "字", "</td>"]
        )
    )
)
def test_any_tags_give_a_document_or_nothing(tags: list[str]) -> None:
    # Each its own character: a name that stands twice in the header of a table is said once.
    said = [chr(0x4E00 + number) if tag == "字" else tag for number, tag in enumerate(tags)]
    with suppress(ParseFailed):
        parsed = parse(HTML, "".join(said))
        assert {piece for piece in said if len(piece) == 1} <= set(parsed.text)


@pytest.mark.parametrize(
    "page", ["<table><td colspan=9><li><tr>甲<td colspan=9>乙", "<table><td>甲<tr><td>乙<tr><td>丙"]
)
def test_text_in_a_table_that_is_none_is_not_lost(page: str) -> None:
    assert set(re.findall("[甲乙丙]", page)) == set(re.findall("[甲乙丙]", parse(HTML, page).text))


@pytest.mark.parametrize("tag", ["div", "table><tr><td", "ul><li", "blockquote", "b"])
def test_deep_nesting_never_crashes(tag: str) -> None:
    assert "deep" in parse(HTML, f"<{tag}>" * 3_000 + "deep").text


# --- no text takes longer for what it is made of

SIZE = 150_000


def takes_no_longer_than_its_size_allows(media_type: str, text: str) -> bool:
    """Whether it takes at most four times as long as that many characters in small paragraphs, measured beside it.

    Another process may slow one down and not the other; what is quadratic is slow a third time too.
    """
    fair = "<p>a word</p>" * (SIZE // 13)
    return any(cpu_seconds(media_type, text) < 4 * cpu_seconds(HTML, fair) for _ in range(3))


def cpu_seconds(media_type: str, text: str) -> float:
    """Of this thread alone: others that earlier tests have left may be at work."""
    begun = time.thread_time()
    with suppress(ParseFailed):
        parser_for(media_type).parse(text.encode())
    return time.thread_time() - begun


PAGES = {
    "comments without end": "<!--",
    "tags without end": "<a ",
    "values without end": "<a b='",
    "declarations without end": "<![if ",
    "brackets": "<",
    "nested blocks": "<div>a\nb",
    "nested lists": "<ul><li>x",
    "nested and hidden": "<div hidden>",
    "hidden between shown": "<i hidden>x</i>y",
    "links side by side": "<a>x</a>",
    "breaks and ends": "<br></p>",
    "entities": "&amp;&#x4e2d;&x",
    "tables in tables": "<table><tr><td>x",
    "lines": "word\nword<br>",
}


@pytest.mark.parametrize("piece", PAGES.values(), ids=PAGES.keys())
def test_no_page_takes_longer_than_its_size_allows(piece: str) -> None:
    assert takes_no_longer_than_its_size_allows(HTML, f"x{piece * (SIZE // len(piece))}")


@pytest.mark.parametrize(
    ("media_type", "text"),
    [
        (HTML, f"<p>x{' ' * SIZE}y"),
        (HTML, f"<pre>x{' ' * SIZE}y</pre>"),
        (HTML, f"<ol>{'<li>x' * (SIZE // 10)}</ol>"),
        (HTML, f"<a {' '.join(f'a{n}=1' for n in range(SIZE // 8))}>x</a>"),
        (TEXT, f"x{' ' * SIZE}y\n" * 2),
        (HTML, f"<p>{'k' * SIZE}\nb"),
        (TEXT, "a line\n" * SIZE),
        (MARKDOWN, f"x{' ' * SIZE}y\nz"),
        (MARKDOWN, "[" * SIZE),
        (XML, f"{' ' * SIZE}<a>x</a>"),
    ],
    ids=lambda value: value[:12],
)
def test_no_text_takes_longer_than_its_size_allows(media_type: str, text: str) -> None:
    assert takes_no_longer_than_its_size_allows(media_type, text)


def test_a_text_that_is_still_empty_is_one() -> None:
    canonical = CanonicalText()
    assert canonical
    assert canonical.length == 0
    canonical.add("paragraph", "four")
    canonical.add("paragraph", "more")
    assert canonical.length == len("four\n\nmore")


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
        DocxParser(Limits(xml_bytes=1_000_000)).parse(word(document))
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
