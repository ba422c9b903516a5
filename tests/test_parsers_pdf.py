"""What a PDF becomes: its tables, columns, paragraphs, headings and notes; and how each kind of bad one is told."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate, Table, TableStyle

from ingest.parsers import REASONS, pdf_furniture, pdf_streams, pdf_tables
from ingest.parsers.ocr import OcrLine, Unreadable
from ingest.parsers.pdf import PdfParser
from ingest.parsers.pdf_lines import Line, pieces
from ingest.parsers.pdf_words import Vocabulary
from rag_service.errors import ParseFailed
from rag_service.types import ParsedDocument

SONG = "STSong-Light"
pdfmetrics.registerFont(UnicodeCIDFont(SONG))

ENGLISH = (
    "The first paragraph of this file is long enough to need several lines on the page, so that its lines have to be "
    "joined again by whoever reads it. It also has a second sentence, which ends here."
)
CHINESE = (
    "本文件的第一段足够长，在页面上需要占好几行，因此读取的人必须把这些行重新连接起来，而且在汉字之间不能加入任何空格。"
    "这一段还有第二句话，到这里结束。"
)


def parse(data: bytes, reader: Callable[[Image.Image], Sequence[OcrLine]] | None = None) -> ParsedDocument:
    """The document, after checking that its blocks cover its text."""
    parsed = PdfParser(reader).parse(data)
    assert not parsed.text[: parsed.blocks[0].start].strip()
    for block, following in pairwise(parsed.blocks):
        assert block.end <= following.start
        assert not parsed.text[block.end : following.start].strip()
    assert parsed.blocks[-1].end == len(parsed.text)
    return parsed


def blocks(parsed: ParsedDocument) -> list[tuple[str, str]]:
    return [(block.kind, parsed.text[block.start : block.end]) for block in parsed.blocks]


def kinds(parsed: ParsedDocument, kind: str) -> list[str]:
    return [text for found, text in blocks(parsed) if found == kind]


def failure(data: bytes, reader: Callable[[Image.Image], Sequence[OcrLine]] | None = None) -> ParseFailed:
    with pytest.raises(ParseFailed) as caught:
        PdfParser(reader).parse(data)
    assert caught.value.reason in REASONS
    return caught.value


def drawn(*pages: Callable[[Canvas], None], **options: object) -> bytes:
    stream = io.BytesIO()
    canvas = Canvas(stream, pagesize=A4, **options)
    for page in pages:
        page(canvas)
        canvas.showPage()
    canvas.save()
    return stream.getvalue()


def lines_at(canvas: Canvas, x: float, y: float, lines: Sequence[str], size: float = 11, font: str = SONG) -> None:
    canvas.setFont(font, size)
    for number, line in enumerate(lines):
        canvas.drawString(x, y - number * 1.5 * size, line)


def wrapped(text: str, width: int) -> list[str]:
    return [text[start : start + width] for start in range(0, len(text), width)]


def styled(*texts: str | None, size: float = 11, heading: float = 18) -> bytes:
    """A PDF laid out by reportlab; a text with a leading # is set larger, None ends a page."""
    body = ParagraphStyle("body", fontName=SONG, fontSize=size, leading=size * 1.4, wordWrap="CJK", spaceAfter=9)
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


def tabled(rows: Sequence[Sequence[str]], *style: tuple[object, ...], **options: object) -> bytes:
    stream = io.BytesIO()
    cell = ParagraphStyle("cell", fontName=SONG, fontSize=10, leading=14, wordWrap="CJK")
    table = Table(
        [[Paragraph(text, cell) for text in row] for row in rows],
        style=TableStyle([("GRID", (0, 0), (-1, -1), 0.5, colors.black), *style]),
        **options,
    )
    SimpleDocTemplate(stream, pagesize=A4).build([Paragraph(CHINESE, cell), table, Paragraph(ENGLISH, cell)])
    return stream.getvalue()


# --- paragraphs, headings, lists


def test_lines_become_paragraphs_with_their_page() -> None:
    parsed = parse(styled(ENGLISH, CHINESE, None, "A second page. " * 3))
    assert blocks(parsed) == [
        ("paragraph", ENGLISH),
        ("paragraph", CHINESE),
        ("paragraph", "A second page. A second page. A second page."),
    ]
    assert [block.page for block in parsed.blocks] == [1, 1, 2]
    assert parsed.pages == 2


def test_headings_are_told_by_their_size() -> None:
    parsed = parse(styled("#总则", CHINESE, "#Scope", ENGLISH))
    assert [kind for kind, _ in blocks(parsed)] == ["heading", "paragraph", "heading", "paragraph"]
    assert {block.level for block in parsed.blocks if block.kind == "heading"} == {1}


def test_headings_at_the_bodys_size_are_told_by_their_number() -> None:
    parsed = parse(styled("第一章 总则", CHINESE, "1.1 适用范围", CHINESE, "一、基本要求", CHINESE))
    found = [(parsed.text[b.start : b.end], b.level) for b in parsed.blocks if b.kind == "heading"]
    assert found == [("第一章 总则", 1), ("1.1 适用范围", 2), ("一、基本要求", 3)]


def test_the_outline_tells_headings_and_their_levels() -> None:
    def page(canvas: Canvas) -> None:
        lines_at(canvas, 72, 700, ["Plain words"])
        lines_at(canvas, 72, 660, wrapped(CHINESE, 40))
        for level, title in enumerate(("Outer title", "Plain words")):
            canvas.bookmarkPage(title)
            canvas.addOutlineEntry(title, title, level)

    parsed = parse(drawn(page))
    assert [(b.kind, b.level) for b in parsed.blocks] == [("heading", 2), ("paragraph", None)]


def test_a_number_that_a_line_end_parted_from_its_word_begins_no_item() -> None:
    text = ("The limit of vibration is the one set by ISO 10816-", "3. The cause was a worn coupling.")
    expected = "The limit of vibration is the one set by ISO 10816-3. The cause was a worn coupling."
    assert parse(drawn(lambda canvas: lines_at(canvas, 72, 700, text, font="Times-Roman"))).text == expected


def test_bullets_are_one_list() -> None:
    parsed = parse(styled(CHINESE, "• 第一项", "• 第二项", "• 第三项", CHINESE))
    assert [kind for kind, _ in blocks(parsed)] == ["paragraph", "list", "paragraph"]
    assert kinds(parsed, "list") == ["• 第一项\n• 第二项\n• 第三项"]


def test_hyphens_at_line_ends_are_mended() -> None:
    text = ("This line ends with a hyphen-", "ated word, and the next one con-", "tinues with the rest of it.")
    expected = "This line ends with a hyphenated word, and the next one continues with the rest of it."
    assert parse(drawn(lambda canvas: lines_at(canvas, 72, 700, text, font="Times-Roman"))).text == expected


@pytest.mark.parametrize(
    ("first", "second", "glued"),
    [
        ("a hyphen-", "ated word", "a hyphenated word"),
        ("a state-of-the-", "art thing", "a state-of-the-art thing"),
        ("the self-", "driving car", "the self-driving car"),
        ("the well-docu-", "mented case", "the well-documented case"),
        ("the US-", "Chinese border", "the US-Chinese border"),
        ("pages 3-", "5", "pages 3-5"),
        ("中文，", "接着", "中文，接着"),
        ("中文", "English", "中文 English"),
        ("中文。", "English", "中文。English"),
        ("two", "words", "two words"),
    ],
)
def test_cut_words_are_mended_by_what_else_the_document_says(first: str, second: str, glued: str) -> None:
    words = Vocabulary.of(["Elsewhere it is self-driving, and documented."])
    assert words.glue(first, second) == glued


def test_a_line_end_between_chinese_and_latin_is_a_space_where_the_document_sets_one() -> None:
    cut = ["本条见第3.2", "节，或者打开", "Settings"]
    close = Vocabulary.of(["共12个月，用Python写成。"])
    assert close.join(cut) == "本条见第3.2节，或者打开Settings"
    spaced = Vocabulary.of(["共 12 个月，用 Python 写成，第3条。"])
    assert spaced.join(cut) == "本条见第3.2 节，或者打开 Settings"


@given(st.lists(st.text("abc中文，。- ", min_size=1), min_size=1))
def test_joining_loses_nothing_but_white_space_and_hyphens(texts: list[str]) -> None:
    def inked(text: str) -> str:
        return "".join(text.split()).replace("-", "")

    joined = Vocabulary(frozenset()).join(texts)
    assert inked(joined) == inked("".join(texts))


@given(st.lists(st.text("中文汉字，。", min_size=1), min_size=1))
def test_no_space_is_invented_between_chinese_characters(texts: list[str]) -> None:
    assert Vocabulary(frozenset()).join(texts) == "".join(texts)


def test_a_paragraph_that_goes_on_over_the_page_is_one_and_has_the_page_it_begins_on() -> None:
    text = wrapped(CHINESE * 3, 36)
    parsed = parse(
        drawn(
            lambda canvas: lines_at(canvas, 72, 120, text[:3]),
            lambda canvas: lines_at(canvas, 72, 760, text[3:]),
        )
    )
    assert blocks(parsed) == [("paragraph", CHINESE * 3)]
    assert parsed.blocks[0].page == 1


def test_what_is_drawn_twice_for_boldness_is_said_once() -> None:
    def page(canvas: Canvas) -> None:
        lines_at(canvas, 72, 700, ["加粗的文字 Bold letters"])
        x = 72.5
        for character in "加粗的文字 Bold letters":
            lines_at(canvas, x, 699.6, [character])
            x += canvas.stringWidth(character, SONG, 11)

    assert parse(drawn(page)).text == "加粗的文字 Bold letters"


def test_invisible_text_over_a_scan_is_read() -> None:
    def page(canvas: Canvas) -> None:
        canvas.drawImage(ImageReader(Image.new("L", (600, 800), 200)), 0, 0, *A4)
        text = canvas.beginText(72, 700)
        text.setTextRenderMode(3)
        text.setFont(SONG, 11)
        text.textLine("识别出来的文字在图像之上但不可见")
        canvas.drawText(text)

    assert parse(drawn(page)).text == "识别出来的文字在图像之上但不可见"


# --- footnotes


def test_footnotes_keep_their_mark_and_stay_out_of_the_text() -> None:
    text = wrapped(CHINESE * 2, 36)

    def first(canvas: Canvas) -> None:
        lines_at(canvas, 72, 140, text[:3])
        lines_at(canvas, 72, 60, ["1 第一条脚注的内容。", "2 第二条脚注，", "它有两行。"], size=8)

    parsed = parse(drawn(first, lambda canvas: lines_at(canvas, 72, 760, text[3:])))
    assert [text for _, text in blocks(parsed)] == [
        CHINESE * 2,
        "1 第一条脚注的内容。",
        "2 第二条脚注，它有两行。",
    ]


def test_a_superscript_stays_with_its_word() -> None:
    def page(canvas: Canvas) -> None:
        lines_at(canvas, 72, 700, ["一个词"])
        lines_at(canvas, 105, 705, ["1"], size=7)
        lines_at(canvas, 109, 700, ["之后的文字"])

    assert parse(drawn(page)).text == "一个词1之后的文字"


def test_a_superscript_is_no_word_of_its_own() -> None:
    def page(canvas: Canvas) -> None:
        lines_at(canvas, 72, 700, ["evidence"], font="Times-Roman")
        lines_at(canvas, 74 + canvas.stringWidth("evidence", "Times-Roman", 11), 705, ["12"], size=7)

    assert parse(drawn(page)).text == "evidence12"


# --- reading order


def test_columns_are_read_one_after_the_other_under_a_title_across() -> None:
    left, right = "左栏的文字先读完再读右栏。" * 8, "右栏的文字在左栏之后读完。" * 8

    def page(canvas: Canvas) -> None:
        lines_at(canvas, 160, 760, ["横跨两栏的标题"], size=20)
        lines_at(canvas, 72, 700, wrapped(left, 18))
        lines_at(canvas, 300, 692, wrapped(right, 18))

    assert [text for _, text in blocks(parse(drawn(page)))] == ["横跨两栏的标题", left, right]


def test_a_left_column_that_is_a_line_longer_is_read_before_the_right_one() -> None:
    text = [f"双倍行距的两栏正文里的第{number}句话。" for number in "一二三四五六七八九"]

    def page(canvas: Canvas) -> None:
        for number, sentence in enumerate(text):
            column, row = divmod(number, 5)
            lines_at(canvas, 72 + 270 * column, 700 - 24 * row, [sentence])

    assert "".join(parse(drawn(page)).text.split()) == "".join(text)


def test_a_left_column_that_ends_within_a_sentence_goes_on_past_a_gap() -> None:
    text = [f"这是一段分成两栏排版的正文的第{number}行文字" for number in "一二三四五六七八九"]

    def page(canvas: Canvas) -> None:
        lines_at(canvas, 72, 700, text[:4])
        lines_at(canvas, 72, 618, text[4:5])
        lines_at(canvas, 340, 700, text[5:])

    assert parse(drawn(page)).text.replace("\n\n", "") == "".join(text)


def test_what_stands_apart_below_both_columns_is_read_after_them() -> None:
    left, right = "左栏的文字先读完再读右栏。" * 8, "右栏的文字在左栏之后读完。" * 8

    def page(canvas: Canvas) -> None:
        lines_at(canvas, 72, 700, wrapped(left, 18))
        lines_at(canvas, 300, 700, wrapped(right, 18))
        lines_at(canvas, 72, 560, ["附注：两栏之后的一行。"])

    assert [text for _, text in blocks(parse(drawn(page)))] == [left, right, "附注：两栏之后的一行。"]


def test_three_columns_are_read_from_the_left() -> None:
    texts = [f"{name}栏的文字应当在它自己的栏里从上到下读完。" * 5 for name in "左中右"]

    def page(canvas: Canvas) -> None:
        for number, text in enumerate(texts):
            lines_at(canvas, 50 + number * 170, 700, wrapped(text, 13))

    assert parse(drawn(page)).text.replace("\n\n", "") == "".join(texts)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_page_reads_like_any_other(turns: int) -> None:
    def page(canvas: Canvas) -> None:
        canvas.translate(300, 400)
        canvas.rotate(90 * turns)
        lines_at(canvas, -200, 100, wrapped(CHINESE, 30))

    assert parse(drawn(page)).text == CHINESE


def test_vertical_writing_is_read_down_and_to_the_left() -> None:
    def page(canvas: Canvas) -> None:
        canvas.setFont(SONG, 12)
        for column, text in enumerate(("竖排的第一行文字", "竖排的第二行文字")):
            for row, character in enumerate(text):
                canvas.drawString(400 - 20 * column, 700 - 13 * row, character)

    assert parse(drawn(page)).text == "竖排的第一行文字竖排的第二行文字"


# --- tables


def test_a_ruled_table_is_markdown_where_it_stands() -> None:
    rows = [
        ["类型", "天数", "说明"],
        ["年假", "10", "按工龄递增，每满一年增加一天，最多不超过十五天"],
        ["病假", "5", ""],
    ]
    parsed = parse(tabled(rows, colWidths=[60, 60, 120]))
    assert blocks(parsed) == [
        ("paragraph", CHINESE),
        (
            "table",
            "| 类型 | 天数 | 说明 |\n| --- | --- | --- |\n"
            "| 年假 | 10 | 按工龄递增，每满一年增加一天，最多不超过十五天 |\n| 病假 | 5 |  |",
        ),
        ("paragraph", ENGLISH),
    ]


def test_a_merged_cell_is_said_once() -> None:
    rows = [["类型", "天数", ""], ["", "试用期", "正式"], ["年假", "0", "10"]]
    parsed = parse(tabled(rows, ("SPAN", (0, 0), (0, 1)), ("SPAN", (1, 0), (2, 0)), colWidths=[60, 60, 60]))
    assert kinds(parsed, "table") == [
        "| 类型 | 天数 |  |\n| --- | --- | --- |\n|  | 试用期 | 正式 |\n| 年假 | 0 | 10 |"
    ]


def test_a_row_across_the_whole_table_is_its_title() -> None:
    rows = [["表1 假期", "", ""], ["类型", "试用", "正式"], ["年假", "0", "10"]]
    parsed = parse(tabled(rows, ("SPAN", (0, 0), (2, 0)), colWidths=[60, 60, 60]))
    assert [text for _, text in blocks(parsed)][1:3] == [
        "表1 假期",
        "| 类型 | 试用 | 正式 |\n| --- | --- | --- |\n| 年假 | 0 | 10 |",
    ]


@pytest.mark.parametrize("repeat", [0, 1])
def test_a_table_over_pages_has_its_header_on_each_and_every_row_once(repeat: int) -> None:
    rows = [["编号", "名称"], *([f"A{number:03}", f"物品{number}"] for number in range(120))]
    parsed = parse(tabled(rows, colWidths=[80, 120], repeatRows=repeat))
    tables = [block for block in parsed.blocks if block.kind == "table"]
    assert [block.page for block in tables] == list(range(1, len(tables) + 1))
    assert len(tables) > 2
    for block in tables:
        assert parsed.text[block.start : block.end].startswith("| 编号 | 名称 |\n| --- | --- |\n| A")
    assert [parsed.text.count(f"| A{number:03} | 物品{number} |") for number in range(120)] == [1] * 120


def test_footnotes_between_the_parts_of_a_table_do_not_part_it_from_its_header() -> None:
    def part(rows: Sequence[str], top: float) -> Callable[[Canvas], None]:
        def draw(canvas: Canvas) -> None:
            canvas.grid([72, 172, 272], [top - 20 * number for number in range(len(rows) + 1)])
            for number, row in enumerate(rows):
                lines_at(canvas, 80, top - 15 - 20 * number, [row])
                lines_at(canvas, 180, top - 15 - 20 * number, [f"{row}的内容"])
            lines_at(canvas, 72, 60, ["1 脚注的内容。"], size=8)

        return draw

    parsed = parse(drawn(text_page, part(["项目", "甲"], 150), part(["乙", "丙"], 780)))
    assert kinds(parsed, "table")[1].startswith("| 项目 | 项目的内容 |\n| --- | --- |\n| 乙 | 乙的内容 |")


def over_the_page(first: Sequence[Sequence[str]], second: Sequence[Sequence[str]]) -> list[str]:
    """The tables of a document that has these rows at one page's end and those at the next one's beginning."""

    def part(rows: Sequence[Sequence[str]], top: float) -> Callable[[Canvas], None]:
        def draw(canvas: Canvas) -> None:
            canvas.grid([72, 132, 192, 252], [top - 40 * number for number in range(len(rows) + 1)])
            for number, row in enumerate(rows):
                for column, text in enumerate(row):
                    lines_at(canvas, 76 + 60 * column, top - 15 - 40 * number, text.split("|"))

        return draw

    return kinds(parse(drawn(part(first, 150), part(second, 780))), "table")


@pytest.mark.parametrize("header", [[], [["项目", "数量", "说明"]]])
def test_a_row_that_the_page_end_cuts_is_one_row(header: list[list[str]]) -> None:
    first = [["项目", "数量", "说明"], ["甲", "10 pieces", "由采购部门|负责验收并"]]
    found = over_the_page(first, [*header, ["", "monthly", "存档"], ["乙", "20", "无"]])
    assert found == [
        "| 项目 | 数量 | 说明 |\n| --- | --- | --- |\n| 甲 | 10 pieces monthly | 由采购部门负责验收并存档 |",
        "| 项目 | 数量 | 说明 |\n| --- | --- | --- |\n| 乙 | 20 | 无 |",
    ]


def test_a_page_that_only_ends_a_cut_row_has_no_table_of_its_own() -> None:
    header = ["项目", "数量", "说明"]
    found = over_the_page([header, ["甲", "10", "由采购部门|负责验收并"]], [header, ["", "", "存档"]])
    assert found == ["| 项目 | 数量 | 说明 |\n| --- | --- | --- |\n| 甲 | 10 | 由采购部门负责验收并存档 |"]


def test_a_row_under_a_merged_cell_is_no_rest_of_the_one_before() -> None:
    header = ["类型", "阶段", "天数"]
    found = over_the_page([header, ["年假", "试用期", "0"]], [["", "正式", "10"], ["病假", "全部", "5"]])
    assert [table.split("\n")[2] for table in found] == ["| 年假 | 试用期 | 0 |", "|  | 正式 | 10 |"]


def test_a_table_of_horizontal_rules_alone_is_a_table() -> None:
    rows = [["模型", "准确率", "速度"], ["甲", "0.91", "12"], ["乙", "0.88", "25"], ["丙", "0.95", "7"]]

    def page(canvas: Canvas) -> None:
        for y in (718, 698, 630):
            canvas.line(72, y, 400, y)
        for number, row in enumerate(rows):
            for column, text in enumerate(row):
                lines_at(canvas, 80 + 110 * column, 705 - 20 * number, [text])
        lines_at(canvas, 72, 560, wrapped(CHINESE, 30))

    parsed = parse(drawn(page))
    assert kinds(parsed, "table") == [
        "| 模型 | 准确率 | 速度 |\n| --- | --- | --- |\n| 甲 | 0.91 | 12 |\n| 乙 | 0.88 | 25 |\n| 丙 | 0.95 | 7 |"
    ]
    assert kinds(parsed, "paragraph") == [CHINESE]


def test_a_table_of_words_needs_its_rules_to_be_one() -> None:
    rows = [["Term", "Meaning"], ["alpha", "the first letter"], ["omega", "the last letter"]]

    def words(canvas: Canvas) -> None:
        for number, row in enumerate(rows):
            for column, text in enumerate(row):
                lines_at(canvas, 80 + 150 * column, 705 - 20 * number, [text])

    def ruled(canvas: Canvas) -> None:
        words(canvas)
        for y in (718, 698, 655):
            canvas.line(72, y, 400, y)

    assert kinds(parse(drawn(words)), "table") == []
    assert kinds(parse(drawn(ruled)), "table") == [
        "| Term | Meaning |\n| --- | --- |\n| alpha | the first letter |\n| omega | the last letter |"
    ]


def test_columns_that_are_unmistakable_are_a_table_without_any_rule() -> None:
    rows = [["城市", "人口", "面积"], ["北京", "2189", "16410"], ["上海", "2487", "6340"], ["广州", "1881", "7434"]]

    def page(canvas: Canvas) -> None:
        lines_at(canvas, 72, 760, wrapped(CHINESE, 36))
        for number, row in enumerate(rows):
            for column, text in enumerate(row):
                lines_at(canvas, 80 + 110 * column, 640 - 18 * number, [text])

    expected = "| 城市 | 人口 | 面积 |\n| --- | --- | --- |\n| 北京 | 2189 | 16410 |"
    assert kinds(parse(drawn(page)), "table")[0].startswith(expected)


def test_a_frame_around_text_is_no_table() -> None:
    def page(canvas: Canvas) -> None:
        canvas.rect(60, 600, 460, 130)
        lines_at(canvas, 72, 700, wrapped(CHINESE, 36))

    assert blocks(parse(drawn(page))) == [("paragraph", CHINESE)]


def test_a_page_of_prose_in_a_frame_with_a_few_fields_is_prose() -> None:
    text = CHINESE * 6

    def page(canvas: Canvas) -> None:
        canvas.grid([60, 300, 540], [730, 760])
        canvas.rect(60, 300, 480, 430)
        lines_at(canvas, 72, 740, ["编号：甲"])
        lines_at(canvas, 310, 740, ["日期：乙"])
        lines_at(canvas, 72, 700, wrapped(text, 40))

    assert kinds(parse(drawn(page)), "table") == []
    assert text in parse(drawn(page)).text


@given(st.lists(st.lists(st.sampled_from(["", "甲", "b", "3"]), min_size=3, max_size=3), min_size=1))
def test_empty_rows_and_columns_go_and_no_text_with_them(cells: list[list[str]]) -> None:
    found = pdf_tables.trimmed(cells)
    assert sorted("".join(map("".join, found))) == sorted("".join(map("".join, cells)))
    assert all(any(row) for row in found)
    assert all(any(column) for column in zip(*found, strict=True))


# --- what repeats on every page


def manual(pages: int, header: str, number: Callable[[int], str], first: Callable[[int], str]) -> bytes:
    def page(index: int) -> Callable[[Canvas], None]:
        def draw(canvas: Canvas) -> None:
            lines_at(canvas, 72, 810, [header], size=9)
            lines_at(canvas, 72, 750, [first(index)], size=11)
            lines_at(canvas, 72, 700, wrapped(f"这是第{'一二三四五六七八九十'[index]}页。" + CHINESE, 36))
            lines_at(canvas, 290, 30, [number(index + 1)], size=9)

        return draw

    return drawn(*(page(index) for index in range(pages)))


@pytest.mark.parametrize(
    "number",
    [
        str,
        "- {} -".format,
        "第 {} 页 共 6 页".format,
        "Page {} of 6".format,
        lambda n: ("i", "ii", "iii", "iv", "v", "vi")[n - 1],
        lambda n: f"第{'一二三四五六'[n - 1]}页",
    ],
)
def test_running_headers_and_page_numbers_are_dropped(number: Callable[[int], str]) -> None:
    parsed = parse(manual(6, "某某公司员工手册", number, lambda index: f"{'甲乙丙丁戊己'[index]}部分的开头"))
    assert "员工手册" not in parsed.text
    assert [text for _, text in blocks(parsed)][1::2] == [f"这是第{n}页。{CHINESE}" for n in "一二三四五六"]


def test_an_account_in_a_repeated_footer_is_said_once() -> None:
    footer = "开户行：工商银行海淀支行 账号 6222000011112222"
    bodies = [[line(f"第{number}张发票的明细，{number}月份" * 3, 300)] for number in "一二三四五"]
    pages = [pdf_furniture.Page([*body, line(footer, 780, size=8)], 0, 800) for body in bodies]
    kept = pdf_furniture.without_furniture(pages, 10)
    assert [piece.text for page in kept for piece in page].count(footer) == 1
    assert kept[0] == pages[0].pieces
    assert kept[1:] == bodies[1:]


def test_a_few_pages_keep_their_headers() -> None:
    parsed = parse(manual(3, "某某公司员工手册", str, lambda index: f"{'甲乙丙'[index]}部分的开头"))
    assert parsed.text.count("某某公司员工手册") == 3


def test_figures_at_the_edge_that_count_no_pages_are_content() -> None:
    figures = [417, 23, 9051, 88, 6, 310]
    parsed = parse(manual(6, "某某公司员工手册", lambda n: str(figures[n - 1]), lambda index: "开头"))
    assert all(str(figure) in parsed.text for figure in figures)


def line(text: str, top: float, *, size: float = 10, bold: bool = False) -> Line:
    return Line(text, 50, 50 + size * len(text), top, top + size, size, bold)


def test_lines_that_differ_in_numbers_which_count_no_pages_are_content() -> None:
    numbers = [417, 23, 9051, 88, 6, 310]
    pages = [pdf_furniture.Page([line(f"合同编号：{number}", 40)], 0, 800) for number in numbers]
    assert pdf_furniture.without_furniture(pages, 10) == [page.pieces for page in pages]


def test_a_header_of_every_other_page_is_dropped() -> None:
    bodies = [[line(f"{name}的正文" * 6, 200)] for name in "甲乙丙丁戊己庚辛"]
    pages = [
        pdf_furniture.Page([line("员工手册", 40), *body] if number % 2 else body, 0, 800)
        for number, body in enumerate(bodies)
    ]
    assert pdf_furniture.without_furniture(pages, 10) == bodies


def test_a_bold_line_close_to_its_text_is_a_heading_however_often_it_repeats() -> None:
    pages = [
        pdf_furniture.Page([line("注意事项", 40, bold=True), line(f"{name}的正文" * 6, 55)], 0, 800)
        for name in "甲乙丙丁戊己"
    ]
    assert pdf_furniture.without_furniture(pages, 10) == [page.pieces for page in pages]


def test_a_line_of_the_body_is_content_however_often_a_page_ends_with_it() -> None:
    texts = [[line(f"{name}的第{number}行", 500 + 15 * number) for number in range(15)] for name in "甲乙丙丁戊己"]
    pages = [pdf_furniture.Page([*body, line("经办人签字", 725)], 0, 800) for body in texts]
    assert pdf_furniture.without_furniture(pages, 10) == [page.pieces for page in pages]
    smaller = [pdf_furniture.Page([*body, line("经办人签字", 725, size=8)], 0, 800) for body in texts]
    apart = [pdf_furniture.Page([*body, line("经办人签字", 760)], 0, 800) for body in texts]
    assert pdf_furniture.without_furniture(smaller, 10) == pdf_furniture.without_furniture(apart, 10) == texts


def test_a_repeated_line_in_the_middle_of_the_page_is_content() -> None:
    pages = [pdf_furniture.Page([line("同样的一行", 400)], 0, 800) for _ in range(6)]
    assert pdf_furniture.without_furniture(pages, 10) == [page.pieces for page in pages]


# --- scans


def scan(canvas: Canvas) -> None:
    canvas.drawImage(ImageReader(Image.new("L", (600, 800), 120)), 0, 0, *A4)


def text_page(canvas: Canvas) -> None:
    lines_at(canvas, 72, 700, wrapped(CHINESE, 36))


def read_two_lines(image: Image.Image) -> list[OcrLine]:
    """Two lines of a paragraph that fill a page rendered at 200 dots per inch."""
    assert image.width > 1600
    return [OcrLine(text, 200, 300 + 60 * n, 1500, 335 + 60 * n, 0.9) for n, text in enumerate(wrapped(CHINESE, 45))]


def test_a_scanned_page_is_read_as_a_picture_between_the_others() -> None:
    parsed = parse(drawn(text_page, scan, text_page), read_two_lines)
    assert [(block.page, text) for block, (_, text) in zip(parsed.blocks, blocks(parsed), strict=True)] == [
        (1, CHINESE),
        (2, CHINESE),
        (3, CHINESE),
    ]


def test_without_a_reader_a_document_with_scanned_pages_is_refused_and_says_which() -> None:
    refused = failure(drawn(text_page, scan, text_page, scan))
    assert refused.reason == "no-text"
    assert refused.data["pages"] == ["2", "4"]


def test_a_scan_that_cannot_be_read_with_confidence_is_refused() -> None:
    def unreadable(_: Image.Image) -> list[OcrLine]:
        raise Unreadable(0.3)

    assert failure(drawn(scan), unreadable).reason == "no-text"


def test_blank_pages_are_fine() -> None:
    parsed = parse(drawn(text_page, lambda canvas: None, text_page))
    assert parsed.pages == 3
    assert [block.page for block in parsed.blocks] == [1, 3]


def test_a_pdf_without_text_says_so() -> None:
    assert failure(drawn(lambda canvas: canvas.rect(10, 10, 100, 100, fill=1))).reason == "no-text"


# --- hostile and broken


def raw(*objects: bytes, root: int = 1) -> bytes:
    """A PDF of these numbered objects with a right cross-reference table."""
    body = b"%PDF-1.7\n"
    offsets = []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    count = len(objects) + 1
    return body + (
        b"xref\n0 %d\n0000000000 65535 f \n%btrailer\n<</Size %d/Root %d 0 R>>\nstartxref\n%d\n%%%%EOF"
        % (count, table, count, root, len(body))
    )


def stream_object(content: bytes, extra: bytes = b"") -> bytes:
    return b"<</Length %d%b>>\nstream\n%b\nendstream" % (len(content), extra, content)


FONT = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"
PAGE = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F 4 0 R>>>>/Contents 5 0 R>>"
HELLO = b"BT /F 12 Tf 72 700 Td (Hello from a small file.) Tj ET"


def small(pages: bytes = b"<</Type/Pages/Kids[3 0 R]/Count 1>>", content: bytes | None = None) -> bytes:
    return raw(b"<</Type/Catalog/Pages 2 0 R>>", pages, PAGE, FONT, content or stream_object(HELLO))


def test_a_pdf_behind_a_password_says_so() -> None:
    encrypt = StandardEncryption("open sesame", strength=128)
    assert failure(drawn(text_page, encrypt=encrypt)).reason == "encrypted"


def test_a_pdf_that_is_only_restricted_is_read() -> None:
    encrypt = StandardEncryption("", ownerPassword="owner", canCopy=0)
    assert parse(drawn(text_page, encrypt=encrypt)).text == CHINESE


@pytest.mark.parametrize("keep", [20, 200])
def test_a_pdf_cut_short_is_broken(keep: int) -> None:
    assert failure(styled(ENGLISH)[:keep]).reason == "broken"


def test_a_pdf_with_a_wrong_cross_reference_table_is_read() -> None:
    assert parse(small().replace(b"startxref\n", b"startxref\n9")).text == "Hello from a small file."


def test_a_page_tree_that_contains_itself_ends() -> None:
    assert failure(small(b"<</Type/Pages/Kids[2 0 R 3 0 R 2 0 R]/Count 3>>")).reason == "broken"


def test_a_million_pages_that_are_not_there_are_not_looked_for_one_by_one() -> None:
    assert failure(small(b"<</Type/Pages/Kids[3 0 R]/Count 1000000>>")).reason == "broken"


def flate_bomb(times: int) -> bytes:
    """A content stream that inflates to a little over the limit, packed so many times."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(b" " * 1_010_000) for _ in range(100)) + packer.flush()
    for _ in range(times - 1):
        packed = zlib.compress(packed, 9)
    return small(content=stream_object(packed, b"/Filter[" + b"/FlateDecode" * times + b"]"))


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_stream_that_inflates_to_too_much_is_told_before_it_does(times: int) -> None:
    refused = failure(flate_bomb(times))
    assert refused.reason == "decompression-limit"
    assert refused.data["limit_bytes"] == pdf_streams.STREAM_LIMIT_BYTES


def test_a_bomb_in_ascii_armour_is_told() -> None:
    packed = base64.a85encode(zlib.compress(b" " * 101_000_000, 9)) + b"~>"
    data = small(content=stream_object(packed, b"/Filter[/ASCII85Decode/FlateDecode]"))
    assert failure(data).reason == "decompression-limit"


def test_many_streams_are_counted_together() -> None:
    stream = stream_object(zlib.compress(b" " * 50_000), b"/Filter/FlateDecode")
    pdf_streams.check(raw(*[stream] * 4), total_limit=250_000)
    with pytest.raises(ParseFailed):
        pdf_streams.check(raw(*[stream] * 6), total_limit=250_000)


def test_a_compressed_stream_within_the_limits_is_read() -> None:
    packed = zlib.compress(b" " * 1_000_000 + HELLO)
    assert parse(small(content=stream_object(packed, b"/Filter/FlateDecode"))).text == "Hello from a small file."


@given(st.binary(max_size=300))
def test_no_bytes_make_the_look_at_streams_fail(data: bytes) -> None:
    pdf_streams.check(b"obj<</Filter/FlateDecode>>stream\n" + data + b"endstream")


def test_a_font_that_tells_no_characters_is_no_text() -> None:
    """The codes of a page's glyphs are not indexed as if they were letters."""
    descendant = (
        b"<</Type/Font/Subtype/CIDFontType2/BaseFont/Nameless/CIDSystemInfo"
        b"<</Registry(Adobe)/Ordering(Identity)/Supplement 0>>>>"
    )
    font = b"<</Type/Font/Subtype/Type0/BaseFont/Nameless/Encoding/Identity-H/DescendantFonts[6 0 R]>>"
    content = stream_object(b"BT /F 12 Tf 72 700 Td <E001E002E003E004E005> Tj ET")
    data = raw(
        b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 1>>", PAGE, font, content, descendant
    )
    assert failure(data).reason == "no-text"


def test_pieces_of_no_glyphs_are_none() -> None:
    assert pieces([]) == []
