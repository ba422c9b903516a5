"""What Word, Excel and PowerPoint files become, and how each kind of bad one is told."""

from __future__ import annotations

import datetime as dt
import io
import re
import struct
import zipfile
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal

import docx
import openpyxl
import pytest
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openpyxl.comments import Comment
from openpyxl.utils.datetime import WINDOWS_EPOCH
from parsed import blocks, failure, parse, squeezed
from pptx import Presentation
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

from ingest.parsers.number_format import shown
from ingest.parsers.pptx import NOTES
from ingest.parsers.xlsx import XlsxParser
from ingest.parsers.zip_container import Container, Limits
from rag_service.errors import ParseFailed
from rag_service.media_types import DOCX, OLE, PPTX, XLSX


def saved(document: object) -> bytes:
    stream = io.BytesIO()
    document.save(stream)  # type: ignore[attr-defined]
    return stream.getvalue()


def parts(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(contents: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return stream.getvalue()


def changed(data: bytes, part: str, change: Callable[[bytes], bytes]) -> bytes:
    contents = parts(data)
    return zipped(contents | {part: change(contents[part])})


def strict(data: bytes) -> bytes:
    """As Office saves "Strict Open XML": other namespaces."""
    pattern = re.compile(rb"http://schemas\.openxmlformats\.org/(\w+)/2006/")
    contents = parts(data)
    kept = {"[Content_Types].xml", "_rels/.rels"}
    return zipped(
        {
            name: content if name in kept else pattern.sub(rb"http://purl.oclc.org/ooxml/\1/", content)
            for name, content in contents.items()
        }
    )


def text_of(media_type: str, data: bytes) -> str:
    return parse(media_type, data).text


# --- the container


THING = Container(noun="a thing", required="a.xml", legacy="an old thing")


def inspected(data: bytes, limits: Limits | None = None, *marks: bytes) -> frozenset[bytes]:
    return THING.inspect(data, limits or Limits(), marks)


def refused(data: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(ParseFailed) as caught:
        inspected(data, limits)
    return caught.value.reason


def directory_entries(data: bytes) -> list[int]:
    return [match.start() for match in re.finditer(b"PK\x01\x02", data)]


def patched(data: bytes, at: int, pattern: str, value: int) -> bytes:
    return data[:at] + struct.pack(pattern, value) + data[at + struct.calcsize(pattern) :]


@given(st.dictionaries(st.text("abc/.", min_size=1, max_size=6), st.binary(max_size=50), max_size=5))
def test_honest_archives_pass(contents: dict[str, bytes]) -> None:
    assert inspected(zipped({"a.xml": b"<a/>"} | {f"x{name}": content for name, content in contents.items()})) == set()


def test_entries_that_share_bytes_are_refused() -> None:
    data = zipped({"a.xml": b"<a/>", "b": b"1" * 100})
    second = directory_entries(data)[1]
    assert refused(patched(data, second + 42, "<I", 0)) == "archive-overlap"


def test_an_entry_that_reaches_into_the_directory_is_refused() -> None:
    data = zipped({"a.xml": b"<a/>", "b": b"1" * 100})
    second = directory_entries(data)[1]
    assert refused(patched(data, second + 20, "<I", 4_000)) == "archive-overlap"


def test_more_entries_than_anyone_needs_are_refused_before_they_are_read() -> None:
    data = zipped({"a.xml": b"<a/>"} | {f"{number}": b"" for number in range(20)})
    assert refused(data, Limits(entries=20)) == "decompression-limit"
    assert inspected(data, Limits(entries=21)) == set()


def test_inflated_bytes_and_xml_bytes_have_limits_of_their_own() -> None:
    data = zipped({"a.xml": b" " * 5_000, "b.bin": bytes(50_000)})
    assert refused(data, Limits(xml_bytes=4_999)) == "decompression-limit"
    assert refused(data, Limits(inflated_bytes=54_999)) == "decompression-limit"
    assert inspected(data, Limits(xml_bytes=5_000, inflated_bytes=55_000)) == set()


def test_an_encrypted_entry_is_told() -> None:
    data = zipped({"a.xml": b"<a/>"})
    assert refused(patched(data, directory_entries(data)[0] + 8, "<H", 1)) == "encrypted"


@pytest.mark.parametrize("keep", [3, 30, 60, -1])
def test_an_archive_cut_short_is_broken(keep: int) -> None:
    assert refused(zipped({"a.xml": b"<a/>" * 20})[:keep]) == "broken"


def test_a_flipped_byte_is_found() -> None:
    data = zipped({"a.xml": b"<a/>" * 2000})
    at = data.index(b"a.xml") + 12
    assert refused(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]) == "broken"


def test_another_format_is_broken_and_says_what_it_is_not() -> None:
    with pytest.raises(ParseFailed, match="but not a thing"):
        inspected(zipped({"b.xml": b""}))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_a_dtd_is_refused_even_across_two_pieces(encoding: str) -> None:
    padding = " " * ((1 << 20) // len(" ".encode(encoding)) - 5)
    assert refused(zipped({"a.xml": f"{padding}<!DOCTYPE x>".encode(encoding)})) == "xml-dtd"


def test_marks_are_seen_in_xml_parts_only() -> None:
    data = zipped({"a.xml": b"<m:oMath/>", "b.bin": b"other"})
    assert inspected(data, None, b":oMath", b"other") == {b":oMath"}


@pytest.mark.parametrize("media_type", [DOCX, XLSX, PPTX])
def test_compound_files_are_encrypted_or_of_an_older_format(media_type: str) -> None:
    assert failure(media_type, OLE + bytes(512)).reason == "broken"
    assert "save it as" in str(failure(media_type, OLE + bytes(512)))
    assert failure(media_type, OLE + bytes(512) + "EncryptedPackage".encode("utf-16-le")).reason == "encrypted"


# --- number formats


@pytest.mark.parametrize(
    ("value", "number_format", "text"),
    [
        (0.1234, "0.00%", "12.34%"),
        (1234567.891, "#,##0.00", "1,234,567.89"),
        (-5, "0;(0)", "(5)"),
        (1234.5, '"¥"#,##0.00', "¥1,234.50"),
        (1234.5, "[$¥-804]#,##0.00;[Red]-[$¥-804]#,##0", "¥1,234.50"),
        (-3, '_-* #,##0_-;-* #,##0_-;_-* "-"_-;_-@_-', "-3"),
        (0, '_-* #,##0_-;-* #,##0_-;_-* "-"_-;_-@_-', "-"),
        (1_500_000, '0.0,,"M"', "1.5M"),
        (1.25, "# ?/?", "1 1/4"),
        (12345, "0.00E+00", "1.23E+04"),
        (5551234, "000-0000", "555-1234"),
        (7, "000", "007"),
        (12, "0,000", "0,012"),
        (2.5, "0", "3"),
        (-0.001, "0.0", "0.0"),
        (3, 'General"天"', "3天"),
        (150, '[>100]"big "0;0', "big 150"),
        (5, ";;;", "5"),
        (0.1 + 0.2, "General", "0.3"),
        (13800138000, "General", "13800138000"),
        (True, "General", "TRUE"),
        (45352, "mm-dd-yy", "2024-03-01"),
        (45352, 'yyyy"年"m"月"d"日"', "2024年3月1日"),
        (45352.5, "yyyy/m/d h:mm", "2024/3/1 12:00"),
        (45352.75, '上午/下午h"时"mm"分"', "下午6时00分"),
        (45352, "aaaa", "星期五"),
        (45352, "d-mmm-yy", "1-Mar-24"),
        (0.25, "h:mm AM/PM", "6:00 AM"),
        (1.5, "[h]:mm", "36:00"),
        (3_000_000_000, "mm-dd-yy", "3000000000"),
        (dt.datetime(2024, 3, 1), "General", "2024-03-01"),
    ],
)
def test_a_cell_shows_what_its_format_says(value: object, number_format: str, text: str) -> None:
    assert shown(value, number_format, WINDOWS_EPOCH) == text


@given(st.floats(-1e12, 1e12).filter(lambda number: number <= -0.01 or number >= 0))
def test_thousands_and_rounding_are_exact(number: float) -> None:
    rounded = Decimal(repr(abs(number))).quantize(Decimal("0.01"), ROUND_HALF_UP)
    assert shown(number, "#,##0.00", WINDOWS_EPOCH) == f"{'-' if number < 0 and rounded else ''}{rounded:,}"


@given(
    st.one_of(st.floats(), st.integers(), st.datetimes(dt.datetime(1900, 3, 1)), st.times(), st.timedeltas()),
    st.text(st.sampled_from('0#?.,%;/E+-@"\\[]$年ymdhsaAMP/_* <>=12'), max_size=12),
)
@settings(max_examples=500)
def test_no_format_loses_a_value(value: object, number_format: str) -> None:
    assert shown(value, number_format, WINDOWS_EPOCH).strip()


# --- XLSX


def workbook(*rows: list[object], title: str = "表") -> openpyxl.Workbook:
    book = openpyxl.Workbook()
    book.active.title = title
    for row in rows:
        book.active.append(row)
    return book


def test_every_sheet_is_a_heading_over_its_tables_hidden_ones_too() -> None:
    book = workbook(["产品", "数量"], ["甲", 3], title="销售")
    hidden = book.create_sheet("底 稿")
    hidden.sheet_state = "hidden"
    hidden.append(["a", "b"])
    hidden.append([1.5, True])
    book.create_sheet("空")
    assert blocks(parse(XLSX, saved(book))) == [
        ("heading", "# 销售"),
        ("table", "| 产品 | 数量 |\n| --- | --- |\n| 甲 | 3 |"),
        ("heading", "# 底 稿"),
        ("table", "| a | b |\n| --- | --- |\n| 1.5 | TRUE |"),
    ]


def test_numbers_and_dates_look_as_on_the_screen() -> None:
    book = workbook(["率", "额", "日"], [0.256, 1234567.5, dt.datetime(2024, 3, 1)])
    for cell, number_format in zip(book.active[2], ("0.0%", "¥#,##0.00", 'yyyy"年"m"月"d"日"'), strict=True):
        cell.number_format = number_format
    assert text_of(XLSX, saved(book)).splitlines()[-1] == "| 25.6% | ¥1,234,567.50 | 2024年3月1日 |"


def test_formats_that_chinese_programs_do_not_write_out_are_dates() -> None:
    book = workbook(["日期", "n"], [45352, 1])
    book.active["A2"].number_format = "0.0000"
    data = changed(
        saved(book),
        "xl/styles.xml",
        lambda xml: re.sub(rb"<numFmts.*</numFmts>", b"", xml).replace(b'numFmtId="164"', b'numFmtId="31"'),
    )
    assert text_of(XLSX, data).splitlines()[-1] == "| 2024年3月1日 | 1 |"


def test_a_formula_shows_its_stored_result_and_itself_where_none_is() -> None:
    results = {b"2": b"<v>2</v>", b"3": b"<v/>", b"4": b""}
    data = saved(workbook(["a", "b", "c", "d", "e"], [1, "=A2*2", "=A2*3", "=A2*4", "=A2*5"]))

    def stored(xml: bytes) -> bytes:
        for factor, result in results.items():
            xml = re.sub(rb"(<f>A2\*" + factor + rb"</f>)(?:<v ?/>|<v></v>)", rb"\1" + result, xml)
        return re.sub(
            rb'<c r="E2"([^>]*)><f>A2\*5</f>(?:<v ?/>|<v></v>)', rb'<c r="E2"\1 t="str"><f>A2*5</f><v></v>', xml
        )

    text = text_of(XLSX, changed(data, "xl/worksheets/sheet1.xml", stored))
    assert text.splitlines()[-1] == "| 1 | 2 | =A2*3 | =A2*4 |  |"


def test_merged_cells_hold_for_all_their_rows() -> None:
    book = workbook(["部门", "姓名", "天"], ["研发", "张", 1], [None, "李", 2], ["市场", "王", 3])
    book.active.merge_cells("A2:A3")
    assert "| 研发 | 李 | 2 |" in text_of(XLSX, saved(book))


def test_names_over_several_columns_join_those_under_them() -> None:
    book = workbook(["区", "2024", None], [None, "上半年", "下半年"], ["东", 1, 2])
    book.active.merge_cells("B1:C1")
    book.active.merge_cells("A1:A2")
    assert text_of(XLSX, saved(book)).splitlines()[2] == "| 区 | 2024 上半年 | 2024 下半年 |"


def test_blank_rows_part_tables_but_not_a_table_from_its_figures() -> None:
    book = workbook(["区", "额"], ["东", 1], [], ["西", 2], [], ["人", "岁", "城"], ["张", 30, "沪"])
    tables = [text for kind, text in blocks(parse(XLSX, saved(book))) if kind == "table"]
    assert tables == [
        "| 区 | 额 |\n| --- | --- |\n| 东 | 1 |\n| 西 | 2 |",
        "| 人 | 岁 | 城 |\n| --- | --- | --- |\n| 张 | 30 | 沪 |",
    ]


def test_a_form_reads_as_lines() -> None:
    book = workbook(["登记表"], ["姓名：", "张三"], ["部门：", "研发"])
    assert blocks(parse(XLSX, saved(book)))[1:] == [
        ("paragraph", "登记表"),
        ("paragraph", "姓名： 张三\n部门： 研发"),
    ]


def test_notes_on_cells_stand_after_the_sheet() -> None:
    book = workbook(["a", "b"], [1, 2])
    book.active["B2"].comment = Comment("估计数\n待确认", "张")
    assert blocks(parse(XLSX, saved(book)))[-1] == ("list", "- [B2] 估计数 待确认")


def test_a_workbook_of_empty_sheets_is_empty() -> None:
    assert failure(XLSX, saved(openpyxl.Workbook())).reason == "empty"


def test_a_workbook_whose_sheet_is_missing_is_broken() -> None:
    contents = parts(saved(workbook(["a"])))
    del contents["xl/worksheets/sheet1.xml"]
    assert failure(XLSX, zipped(contents)).reason == "broken"


def test_one_string_shown_by_many_cells_cannot_fill_the_memory() -> None:
    data = saved(workbook(*([["长" * 10_000] * 10] * 10)))
    with pytest.raises(ParseFailed) as caught:
        XlsxParser(text_limit_bytes=500_000).parse(data)
    assert caught.value.reason == "output-limit"


CELLS = st.dictionaries(
    st.tuples(st.integers(1, 12), st.integers(1, 9)),
    st.text("ab中|:年 ", min_size=1, max_size=5),
    min_size=1,
    max_size=25,
).filter(lambda cells: any(text.strip() for text in cells.values()))


@given(CELLS)
@example({(1, 1): "a", (1, 2): "b", (3, 1): "a|b", (9, 9): "z"})
@settings(max_examples=60, deadline=None)
def test_no_cell_is_lost_wherever_it_stands(cells: dict[tuple[int, int], str]) -> None:
    book = openpyxl.Workbook()
    for (row, column), text in cells.items():
        book.active.cell(row, column, text)
    read = squeezed(text_of(XLSX, saved(book)).replace("\\|", "|"))
    for text in cells.values():
        assert squeezed(text) in read


# --- PPTX


def slide_with(presentation: Presentation, title: str | None, *texts: tuple[float, float, str]) -> object:
    """A slide with text boxes at (inches from the left, from the top)."""
    slide = presentation.slides.add_slide(presentation.slide_layouts[5 if title is not None else 6])
    if title is not None:
        slide.shapes.title.text = title
    for left, top, text in texts:
        slide.shapes.add_textbox(Inches(left), Inches(top), Inches(2), Inches(0.5)).text_frame.text = text
    return slide


def test_slides_are_headings_with_their_number_as_the_page() -> None:
    presentation = Presentation()
    slide_with(presentation, "概览", (1, 2, "第一段。"))
    slide_with(presentation, None)
    slide_with(presentation, "细节", (1, 2, "第二段。"))
    parsed = parse(PPTX, saved(presentation))
    assert [(block.page, block.level) for block in parsed.blocks] == [(1, 1), (1, None), (3, 1), (3, None)]
    assert parsed.text == "# 概览\n\n第一段。\n\n# 细节\n\n第二段。"
    assert parsed.pages == 3


def test_shapes_are_read_row_by_row_from_the_left() -> None:
    presentation = Presentation()
    slide_with(
        presentation, "T", (5, 2.05, "右上。"), (1, 4, "左下。"), (1, 2.1, "左上。"), (5, 4, "右下。"), (1, 5.5, "末。")
    )
    assert squeezed(text_of(PPTX, saved(presentation))) == "#T左上。右上。左下。右下。末。"


def test_a_slide_without_a_title_takes_its_first_short_line() -> None:
    presentation = Presentation()
    slide_with(presentation, None, (1, 1, "季度总结"), (1, 3, "收入增长。" * 20))
    slide_with(presentation, None, (1, 1, "很长的一段话。" * 20))
    assert [text for kind, text in blocks(parse(PPTX, saved(presentation))) if kind == "heading"] == [
        "# 季度总结",
        "# 2",
    ]


def test_levels_and_numbers_of_lists_are_kept() -> None:
    presentation = Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[1])
    slide.shapes.title.text = "T"
    frame = slide.placeholders[1].text_frame
    frame.text = "一"
    for level, text in ((1, "二"), (0, "三")):
        paragraph = frame.add_paragraph()
        paragraph.text, paragraph.level = text, level
    box = slide.shapes.add_textbox(Inches(1), Inches(6), Inches(3), Inches(1)).text_frame
    box.text = "甲"
    box.add_paragraph().text = "乙"
    for paragraph in box.paragraphs:
        properties = paragraph._p.get_or_add_pPr()
        properties.append(parse_xml(f'<a:buAutoNum {nsdecls("a")} type="ea1ChsPeriod" startAt="3"/>'))
    assert blocks(parse(PPTX, saved(presentation)))[1:] == [("list", "- 一\n  - 二\n- 三"), ("list", "三. 甲\n四. 乙")]


def test_tables_charts_groups_and_notes_are_read() -> None:
    presentation = Presentation()
    slide = slide_with(presentation, "T")
    table = slide.shapes.add_table(3, 2, Inches(1), Inches(2), Inches(4), Inches(1)).table
    for cell, text in zip(table.iter_cells(), ("项", "值", "甲", "1", "", "2"), strict=True):
        cell.text = text
    table.cell(1, 0).merge(table.cell(2, 0))
    data = CategoryChartData()
    data.categories = ["东", "西"]
    data.add_series("销售", (1.5, 4.4000000000000004))
    chart = slide.shapes.add_chart(
        XL_CHART_TYPE.COLUMN_CLUSTERED, Inches(1), Inches(4), Inches(4), Inches(2), data
    ).chart
    chart.has_title = True
    chart.chart_title.text_frame.text = "销售图"
    group = slide.shapes.add_group_shape()
    group.shapes.add_textbox(Inches(1), Inches(6.5), Inches(2), Inches(0.5)).text_frame.text = "组内的话。"
    slide.notes_slide.notes_text_frame.text = "讲稿第一句。\n第二句。"
    assert blocks(parse(PPTX, saved(presentation)))[1:] == [
        ("table", "| 项 | 值 |\n| --- | --- |\n| 甲 | 1 |\n| 甲 | 2 |"),
        ("paragraph", "销售图"),
        ("table", "|  | 销售 |\n| --- | --- |\n| 东 | 1.5 |\n| 西 | 4.4 |"),
        ("paragraph", "组内的话。"),
        ("paragraph", f"{NOTES}\n讲稿第一句。\n第二句。"),
    ]


def test_a_hidden_slide_is_kept() -> None:
    presentation = Presentation()
    slide_with(presentation, "T", (1, 2, "看不见的页。"))._element.set("show", "0")
    assert "看不见的页。" in text_of(PPTX, saved(presentation))


def test_text_in_an_alternative_for_new_programs_is_read_once() -> None:
    presentation = Presentation()
    slide = slide_with(presentation, "T", (1, 2, "新旧都有。"))
    shape = slide.shapes[-1]._element
    namespace = "http://schemas.openxmlformats.org/markup-compatibility/2006"
    wrapper = parse_xml(
        f'<mc:AlternateContent xmlns:mc="{namespace}"><mc:Choice Requires="p14"/><mc:Fallback/></mc:AlternateContent>'
    )
    shape.getparent().replace(shape, wrapper)
    wrapper[0].append(shape)
    assert text_of(PPTX, saved(presentation)) == "# T\n\n新旧都有。"


def test_slides_of_pictures_alone_have_no_text() -> None:
    presentation = Presentation()
    slide_with(presentation, None)
    assert failure(PPTX, saved(presentation)).reason == "no-text"


# --- strict documents


def test_strict_office_documents_read_as_others() -> None:
    document = docx.Document()
    document.add_heading("标题", level=1)
    document.add_paragraph("正文。")
    presentation = Presentation()
    slide_with(presentation, "T", (1, 2, "正文。"))
    for media_type, data in (
        (DOCX, saved(document)),
        (XLSX, saved(workbook(["a", "b"], [1, 2]))),
        (PPTX, saved(presentation)),
    ):
        assert text_of(media_type, strict(data)) == text_of(media_type, data)


# --- DOCX


@pytest.mark.parametrize(
    ("outline", "expected"), [(0, ("heading", "# 总则")), (9, ("paragraph", "总则")), (-(2**31), ("paragraph", "总则"))]
)
def test_an_outline_level_that_is_none_makes_no_heading(outline: int, expected: tuple[str, str]) -> None:
    document = docx.Document()
    properties = document.add_paragraph("总则")._p.get_or_add_pPr()
    properties.append(parse_xml(f'<w:outlineLvl {nsdecls("w")} w:val="{outline}"/>'))
    assert blocks(parse(DOCX, saved(document))) == [expected]


LEVEL = '<w:lvl w:ilvl="{n}"><w:start w:val="1"/><w:numFmt w:val="{style}"/>{more}<w:lvlText w:val="{text}"/></w:lvl>'


def numbered(
    document: docx.document.Document, *levels: tuple[str, str] | tuple[str, str, str], number: int = 90
) -> int:
    """A list with levels (style, text, more XML); its number."""
    root = document.part.numbering_part.element
    inner = "".join(
        LEVEL.format(n=n, style=level[0], text=level[1], more=level[2] if len(level) > 2 else "")
        for n, level in enumerate(levels)
    )
    abstract = parse_xml(f'<w:abstractNum {nsdecls("w")} w:abstractNumId="{number}">{inner}</w:abstractNum>')
    root.insert(0, abstract)
    another(document, number, of=number)
    return number


def another(document: docx.document.Document, number: int, *, of: int, start: int | None = None) -> int:
    override = f'<w:lvlOverride w:ilvl="0"><w:startOverride w:val="{start}"/></w:lvlOverride>' if start else ""
    document.part.numbering_part.element.append(
        parse_xml(f'<w:num {nsdecls("w")} w:numId="{number}"><w:abstractNumId w:val="{of}"/>{override}</w:num>')
    )
    return number


def item(document: docx.document.Document, text: str, number: int, level: int = 0, style: str | None = None) -> None:
    paragraph = document.add_paragraph(text, style=style)
    paragraph._p.get_or_add_pPr().append(
        parse_xml(f'<w:numPr {nsdecls("w")}><w:ilvl w:val="{level}"/><w:numId w:val="{number}"/></w:numPr>')
    )


def body_xml(document: docx.document.Document, xml: str) -> None:
    spaces = nsdecls("w", "wp", "a", "r") + (
        ' xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
        ' xmlns:v="urn:schemas-microsoft-com:vml"'
        ' xmlns:wps="http://schemas.microsoft.com/office/word/2010/wordprocessingShape"'
    )
    document.element.body.insert(-1, parse_xml(xml.replace(">", f" {spaces}>", 1)))


def test_a_contracts_numbers_are_those_word_writes() -> None:
    document = docx.Document()
    contract = numbered(
        document,
        ("chineseCountingThousand", "第%1条", '<w:suff w:val="nothing"/>'),
        ("decimal", "%1.%2", "<w:isLgl/>"),
        ("decimal", "(%3)"),
    )
    item(document, "总则", contract, style="Heading 1")
    item(document, "甲方应当付款。", contract, 1)
    item(document, "乙方应当交货。", contract, 1)
    item(document, "按时；", contract, 2)
    item(document, "按量。", contract, 2)
    item(document, "附则", contract, style="Heading 1")
    item(document, "本合同一式两份。", contract, 1)
    assert blocks(parse(DOCX, saved(document))) == [
        ("heading", "# 第一条总则"),
        ("list", "1.1 甲方应当付款。\n1.2 乙方应当交货。\n  (1) 按时；\n  (2) 按量。"),
        ("heading", "# 第二条附则"),
        ("list", "2.1 本合同一式两份。"),
    ]


def test_headings_are_numbered_by_their_style() -> None:
    document = docx.Document()
    number = numbered(
        document,
        ("decimal", "%1", '<w:pStyle w:val="Heading1"/>'),
        ("decimal", "%1.%2", '<w:pStyle w:val="Heading2"/>'),
    )
    for style in ("Heading 1", "Heading 2"):
        document.styles[style].element.get_or_add_pPr().append(
            parse_xml(f'<w:numPr {nsdecls("w")}><w:numId w:val="{number}"/></w:numPr>')
        )
    for text, level in (("一", 1), ("二", 2), ("三", 2), ("四", 1), ("五", 2)):
        document.add_heading(text, level=level)
    assert text_of(DOCX, saved(document)).split("\n\n") == ["# 1 一", "## 1.1 二", "## 1.2 三", "# 2 四", "## 2.1 五"]


def test_lists_go_on_restart_and_skip_as_in_word() -> None:
    document = docx.Document()
    first = numbered(document, ("decimal", "%1."), ("lowerLetter", "%1.%2)"))
    restarted = another(document, 91, of=first, start=1)
    item(document, "a", first)
    document.add_paragraph("Between.")
    item(document, "b", first)
    item(document, "c", restarted)
    item(document, "d", restarted, 1)
    item(document, "e", first)
    lists = [text for kind, text in blocks(parse(DOCX, saved(document))) if kind == "list"]
    assert lists == ["1. a", "2. b\n1. c\n  1.a) d\n2. e"]


def test_a_level_that_was_passed_over_counts_as_begun() -> None:
    document = docx.Document()
    number = numbered(document, ("decimal", "%1"), ("decimal", "%1.%2"), ("decimal", "%1.%2.%3"))
    for level in (0, 2, 1):
        item(document, "x", number, level)
    assert text_of(DOCX, saved(document)).split() == ["1", "x", "1.1.1", "x", "1.2", "x"]


def test_a_paragraph_may_leave_its_styles_list() -> None:
    document = docx.Document()
    item(document, "no item", 0, style="List Bullet")
    assert blocks(parse(DOCX, saved(document))) == [("paragraph", "no item")]


def test_insertions_are_in_and_deletions_out() -> None:
    document = docx.Document()
    body_xml(
        document,
        "<w:p><w:r><w:t>付款</w:t></w:r><w:del><w:r><w:delText>三十</w:delText></w:r></w:del>"
        "<w:ins><w:r><w:t>六十</w:t></w:r></w:ins><w:moveFrom><w:r><w:t>旧</w:t></w:r></w:moveFrom>"
        "<w:r><w:t>日内</w:t></w:r></w:p>",
    )
    body_xml(document, "<w:p><w:pPr><w:rPr><w:del/></w:rPr></w:pPr><w:r><w:t>接着</w:t></w:r></w:p>")
    body_xml(document, "<w:p><w:r><w:t>这里。</w:t></w:r><w:r><w:rPr><w:vanish/></w:rPr><w:t>隐</w:t></w:r></w:p>")
    assert text_of(DOCX, saved(document)) == "付款六十日内\n\n接着这里。"


def test_a_paragraph_that_should_go_on_where_none_follows_is_kept_in_its_place() -> None:
    document = docx.Document()
    paragraph = "<w:p><w:pPr><w:rPr><w:del/></w:rPr></w:pPr><w:r><w:t>{}</w:t></w:r></w:p>"
    body_xml(document, paragraph.format("表前。"))
    table = document.add_table(2, 2)
    for cell, text in zip((c for row in table.rows for c in row.cells), ("项目", "金额", "房租", "100"), strict=True):
        cell.text = text
    body_xml(document, paragraph.format("末段。"))
    assert blocks(parse(DOCX, saved(document))) == [
        ("paragraph", "表前。"),
        ("table", "| 项目 | 金额 |\n| --- | --- |\n| 房租 | 100 |"),
        ("paragraph", "末段。"),
    ]


def embedding(name: str, content: bytes) -> bytes:
    document = docx.Document()
    document.add_paragraph("前。")
    body_xml(document, '<w:altChunk r:id="rA"></w:altChunk>')
    contents = parts(saved(document))
    relation = (
        '<Relationship Id="rA" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/aFChunk" '
        f'Target="{name}"/></Relationships>'
    ).encode()
    relations = contents["word/_rels/document.xml.rels"].replace(b"</Relationships>", relation)
    return zipped(contents | {f"word/{name}": content, "word/_rels/document.xml.rels": relations})


def test_a_page_put_into_a_document_for_word_to_take_over_is_read() -> None:
    page = "<html><meta charset=utf-8><h2>条款</h2><p>付款三十日。</p></html>".encode()
    expected = [("paragraph", "前。"), ("heading", "## 条款"), ("paragraph", "付款三十日。")]
    assert blocks(parse(DOCX, embedding("chunk.html", page))) == expected
    mail = b"MIME-Version: 1.0\nContent-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n" + page
    assert blocks(parse(DOCX, embedding("chunk.mht", mail))) == expected


def test_a_part_only_word_can_take_over_fails_the_document() -> None:
    assert failure(DOCX, embedding("chunk.docx", b"PK")).reason == "broken"


def test_notes_keep_their_mark_and_stand_at_the_end() -> None:
    document = docx.Document()
    body_xml(
        document,
        '<w:p><w:r><w:t>正文</w:t></w:r><w:r><w:footnoteReference w:id="7"/></w:r><w:r><w:t>。</w:t></w:r></w:p>',
    )
    document.add_paragraph("末段。")
    contents = parts(saved(document))
    notes = (
        f'<w:footnotes {nsdecls("w")}><w:footnote w:id="0"><w:p><w:r><w:t>线</w:t></w:r></w:p></w:footnote>'
        '<w:footnote w:id="7"><w:p><w:r><w:footnoteRef/></w:r><w:r><w:t> 注文。</w:t></w:r></w:p></w:footnote>'
        "</w:footnotes>"
    )
    relation = (
        b'<Relationship Id="rN" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/footnotes" '
        b'Target="footnotes.xml"/></Relationships>'
    )
    relations = contents["word/_rels/document.xml.rels"].replace(b"</Relationships>", relation)
    data = zipped(contents | {"word/footnotes.xml": notes.encode(), "word/_rels/document.xml.rels": relations})
    assert text_of(DOCX, data) == "正文[1]。\n\n末段。\n\n[1] 注文。"


def test_a_text_box_is_read_once() -> None:
    document = docx.Document()
    box = "<w:txbxContent><w:p><w:r><w:t>框内文字</w:t></w:r></w:p></w:txbxContent>"
    body_xml(
        document,
        "<w:p><w:r><w:t>正文。</w:t></w:r><w:r><mc:AlternateContent>"
        f'<mc:Choice Requires="wps"><w:drawing><wps:txbx>{box}</wps:txbx></w:drawing></mc:Choice>'
        f"<mc:Fallback><w:pict><v:textbox>{box}</v:textbox></w:pict></mc:Fallback></mc:AlternateContent></w:r></w:p>",
    )
    assert text_of(DOCX, saved(document)) == "正文。\n\n框内文字"


def test_a_text_box_in_a_text_box_is_read_once() -> None:
    document = docx.Document()
    inner = "<w:txbxContent><w:p><w:r><w:t>内框</w:t></w:r></w:p></w:txbxContent>"
    held = f"<w:t>外框</w:t><w:pict><v:textbox>{inner}</v:textbox></w:pict>"
    outer = f"<w:txbxContent><w:p><w:r>{held}</w:r></w:p></w:txbxContent>"
    body_xml(document, f"<w:p><w:r><w:pict><v:textbox>{outer}</v:textbox></w:pict></w:r></w:p>")
    assert text_of(DOCX, saved(document)) == "外框\n\n内框"


def test_merged_cells_of_a_table_are_at_their_columns() -> None:
    document = docx.Document()
    table = document.add_table(4, 3)
    texts = ("区", "2024", "", "", "上半年", "下半年", "东", "1", "2", "", "3", "4")
    for cell, text in zip((cell for row in table.rows for cell in row.cells), texts, strict=True):
        cell.text = text
    table.cell(0, 1).merge(table.cell(0, 2))
    table.cell(0, 0).merge(table.cell(1, 0))
    table.cell(2, 0).merge(table.cell(3, 0))
    assert text_of(DOCX, saved(document)).splitlines() == [
        "| 区 | 2024 上半年 | 2024 下半年 |",
        "| --- | --- | --- |",
        "| 东 | 1 | 2 |",
        "| 东 | 3 | 4 |",
    ]


def test_a_table_in_a_table_is_readable() -> None:
    document = docx.Document()
    outer = document.add_table(2, 2)
    for cell, text in zip((cell for row in outer.rows for cell in row.cells), ("a", "b", "c", ""), strict=True):
        cell.text = text
    inner = outer.cell(1, 1).add_table(2, 2)
    for cell, text in zip((cell for row in inner.rows for cell in row.cells), ("x", "y", "1", "2"), strict=True):
        cell.text = text
    assert text_of(DOCX, saved(document)).splitlines()[-1] == "| c | x, y 1, 2 |"


def test_a_frame_of_one_cell_is_text() -> None:
    document = docx.Document()
    frame = document.add_table(1, 1).cell(0, 0)
    frame.text = "提示"
    frame.add_paragraph("第一项", style="List Bullet")
    assert blocks(parse(DOCX, saved(document))) == [("paragraph", "提示"), ("list", "- 第一项")]


def test_symbols_breaks_links_and_readings_are_text() -> None:
    document = docx.Document()
    body_xml(
        document,
        '<w:p><w:hyperlink><w:r><w:t>链接</w:t></w:r></w:hyperlink><w:r><w:sym w:font="Wingdings" w:char="F0FC"/>'
        "<w:br/><w:t>次行</w:t><w:noBreakHyphen/><w:t>末</w:t></w:r>"
        "<w:r><w:ruby><w:rt><w:r><w:t>hàn</w:t></w:r></w:rt><w:rubyBase><w:r><w:t>汉</w:t></w:r></w:rubyBase></w:ruby></w:r>"
        '<w:r><w:fldChar w:fldCharType="begin"/></w:r><w:r><w:instrText>PAGE</w:instrText></w:r></w:p>',
    )
    assert text_of(DOCX, saved(document)) == "链接✓\n次行-末汉(hàn)"


def test_a_page_that_ends_within_a_paragraph_parts_its_words() -> None:
    document = docx.Document()
    body_xml(document, '<w:p><w:r><w:t>the end</w:t><w:br w:type="page"/><w:t>Next page</w:t></w:r></w:p>')
    assert text_of(DOCX, saved(document)) == "the end\nNext page"


def test_content_controls_are_transparent() -> None:
    document = docx.Document()
    body_xml(document, "<w:sdt><w:sdtContent><w:p><w:r><w:t>填写处</w:t></w:r></w:p></w:sdtContent></w:sdt>")
    assert text_of(DOCX, saved(document)) == "填写处"


def test_lines_of_code_are_one_block_with_their_indentation() -> None:
    document = docx.Document()
    document.styles.add_style("Source Code", 1)
    for line in ("if x:", "    y = 1"):
        document.add_paragraph(line, style="Source Code")
    assert blocks(parse(DOCX, saved(document))) == [("code", "```\nif x:\n    y = 1\n```")]


def test_a_clause_styled_as_a_heading_stays_a_clause() -> None:
    document = docx.Document()
    document.add_heading("甲方应当按照本合同的约定付款。" * 20, level=2)
    assert [kind for kind, _ in blocks(parse(DOCX, saved(document)))] == ["paragraph"]


def test_a_zip_of_another_office_format_is_broken() -> None:
    assert failure(DOCX, saved(workbook(["a"]))).reason == "broken"
