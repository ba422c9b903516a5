"""CSV, TSV, JSON and JSON Lines: nothing lost, everything readable; and the pure parts that tables share."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from parsed import blocks, failure, parse, squeezed

from ingest.parsers import markdown_table, numerals
from ingest.parsers.canonical import clean
from ingest.parsers.csv_table import delimiter_of
from ingest.parsers.json_records import DEPTH_LIMIT
from ingest.parsers.markdown_table import Span
from rag_service.media_types import CSV, JSON, JSONL, TSV

LETTERS = st.text(st.sampled_from("ab中文年,;|\t\" '\n-:#0"), max_size=8)
FILLED = LETTERS.filter(lambda text: clean(text).strip())


# --- CSV


def test_a_csv_is_a_table_with_its_first_row_as_header() -> None:
    assert blocks(parse(CSV, "姓名,部门\n张三,研发\n李四,\n")) == [
        ("table", "| 姓名 | 部门 |\n| --- | --- |\n| 张三 | 研发 |\n| 李四 |  |")
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_told_by_the_rows(delimiter: str) -> None:
    rows = ["名称", "说明，含逗号", "金额"], ["甲", "一、二；三", "1"], ["乙", "四", "2"]
    text = "\n".join(delimiter.join(row) for row in rows)
    assert delimiter_of(text) == delimiter
    assert parse(CSV, text).text.splitlines()[2] == "| 甲 | 一、二；三 | 1 |"


def test_a_decimal_comma_is_no_delimiter() -> None:
    assert delimiter_of("a;b\n1,5;2,5\n3,5;4,5\n") == ";"


def test_excels_hint_names_the_delimiter_and_is_no_row() -> None:
    assert parse(CSV, "sep=;\na;b\n1,2;3,4\n").text == "| a | b |\n| --- | --- |\n| 1,2 | 3,4 |"


def test_quoted_cells_keep_delimiters_line_ends_and_bars() -> None:
    text = parse(CSV, 'q,a\n"one, two","first\nsecond | third"\nx,"say ""hi"""\n').text
    assert text.splitlines()[2:] == ["| one, two | first second \\| third |", '| x | say "hi" |']


def test_a_quotation_mark_that_is_never_closed_is_only_a_mark() -> None:
    assert parse(CSV, 'size,n\n"5 inch,1\n6 inch,2\n').text.splitlines()[2:] == ['| "5 inch | 1 |', "| 6 inch | 2 |"]


def test_ragged_rows_are_kept() -> None:
    assert parse(CSV, "1,2\na,b,c\nd,e\n").text.splitlines()[2:] == ["| a | b | c |", "| d | e |  |"]


def test_a_bom_and_other_encodings_are_read() -> None:
    text = "姓名,部门\n张三,研发中心\n李四,人力资源部\n"
    assert {parse(CSV, text.encode(name)).text for name in ("utf-8-sig", "gb18030", "utf-16")} == {
        parse(CSV, text).text
    }


def test_a_tsv_is_told_by_its_tabs() -> None:
    assert parse(TSV, "a\tb\n1\t2\n").text == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_rows_of_prose_become_records_that_can_be_quoted() -> None:
    answer = "第一段说明。" * 60 + "\n\n" + "第二段。"
    stream = io.StringIO()
    csv.writer(stream).writerows([["问题", "答案"], ["怎么请假？", answer]])
    assert blocks(parse(CSV, stream.getvalue() + "如何报销？,填单\n"))[:3] == [
        ("paragraph", "问题: 怎么请假？"),
        ("paragraph", f"答案:\n{answer}"),
        ("paragraph", "问题: 如何报销？\n答案: 填单"),
    ]


@given(st.lists(st.lists(LETTERS, min_size=2, max_size=4), min_size=2, max_size=5), st.sampled_from(",;\t|"))
@example([["a", "b"], ['"', "c"]], ",")
@example([["-", ":"], ["", ":"]], ",")
@example([["", ""], ["-", ":"]], ",")
def test_no_cell_of_a_csv_is_lost(rows: list[list[str]], delimiter: str) -> None:
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    if not any(clean(cell).strip() for row in rows for cell in row):
        return
    read = markdown_squeezed(parse(CSV, stream.getvalue()).text)
    # Whatever was taken for the delimiter: the letters are there, in order.
    for row in rows:
        for cell in row:
            for piece in re.findall(r"[ab中文年0#]+", cell):
                assert piece in read


def markdown_squeezed(text: str) -> str:
    return squeezed(text.replace("\\|", "|"))


# --- Markdown tables


def cells_of(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


@given(st.lists(st.lists(LETTERS, min_size=1, max_size=4), min_size=1, max_size=5))
def test_a_rendered_row_is_one_line_that_reads_back(rows: list[list[str]]) -> None:
    header, _, *body = markdown_table.render(rows).split("\n")
    width = max(map(len, rows))
    for line, row in zip([header, *body], rows, strict=True):
        filled = [squeezed(cell) for cell in row] + [""] * (width - len(row))
        assert [squeezed(cell) for cell in cells_of(line)] == filled


@given(st.lists(st.lists(st.one_of(st.just(""), FILLED), max_size=5), max_size=6))
def test_a_grid_keeps_every_cell_in_some_block(rows: list[list[str]]) -> None:
    text = markdown_squeezed("\n".join(text for _, text in markdown_table.grid(rows)))
    for row in rows:
        for cell in row:
            assert squeezed(clean(cell)) in text


def test_titles_and_notes_around_a_table_are_no_rows_of_it() -> None:
    rows = [["2024 年销售", "", ""], ["", "", ""], ["区", "一季度", "二季度"], ["东", "1", "2"], ["注：未审计", "", ""]]
    assert list(markdown_table.grid(rows)) == [
        ("paragraph", "2024 年销售"),
        ("table", "| 区 | 一季度 | 二季度 |\n| --- | --- | --- |\n| 东 | 1 | 2 |"),
        ("paragraph", "注：未审计"),
    ]


def test_names_over_several_columns_join_the_names_under_them() -> None:
    rows = [["区", "2024", ""], ["区", "上半年", "下半年"], ["东", "1", "2"]]
    [(_, table)] = markdown_table.grid(rows, [Span(0, 1, 3)])
    assert table.splitlines()[0] == "| 区 | 2024 上半年 | 2024 下半年 |"


def test_a_name_over_several_columns_is_repeated_where_no_names_stand_under_it() -> None:
    rows = [["区", "销售", ""], ["东", "1", "2"], ["西", "3", "4"]]
    [(_, table)] = markdown_table.grid(rows, [Span(0, 1, 3)])
    assert table.splitlines()[0] == "| 区 | 销售 | 销售 |"
    assert table.splitlines()[2] == "| 东 | 1 | 2 |"


def test_a_form_is_lines() -> None:
    assert list(markdown_table.grid([["姓名：", "张三"], ["部门：", "研发"]])) == [
        ("paragraph", "姓名： 张三\n部门： 研发")
    ]


def test_a_few_cells_far_apart_are_lines_and_cost_nothing() -> None:
    rows = [[""] * number + [f"c{number}"] for number in range(3_000)]
    [(kind, text)] = markdown_table.grid(rows)
    assert kind == "paragraph"
    assert text.splitlines() == [f"c{number}" for number in range(3_000)]


# --- JSON


def test_records_are_lines_of_paths_and_values() -> None:
    source = """[{"标题": "请假", "作者": {"名": "张三"}, "标签": ["a", "b"], "页": 1.50},
                 {"标题": "报销", "附件": [{"n": 1}, {"n": null}], "空": {}, "无": ""}]"""
    assert blocks(parse(JSON, source)) == [
        ("paragraph", "标题: 请假\n作者.名: 张三"),
        ("paragraph", "标签:\n- a\n- b"),
        ("paragraph", "页: 1.50"),
        ("paragraph", '标题: 报销\n附件[1].n: 1\n附件[2].n: null\n空: {}\n无: ""'),
    ]


def test_a_long_value_stays_as_it_was_written() -> None:
    body = "第一段。\n\n第二段，\n第二行。"
    assert blocks(parse(JSON, json.dumps({"id": 7, "body": body})))[1] == ("paragraph", f"body:\n{body}")


def test_records_under_one_key_are_records_of_their_own() -> None:
    parsed = parse(JSON, '{"count": 2, "items": [{"a": 1}, {"a": 2}], "next": null}')
    assert [text for _, text in blocks(parsed)] == ["count: 2", "items[1].a: 1", "items[2].a: 2", "next: null"]


def test_what_json_is_not_strict_about_is_kept() -> None:
    huge = "9" * 5_000
    text = parse(JSON, f'{{"a": NaN, "a": "again", "f": 1.10, "n": {huge}}}').text
    assert text.split("\n") == ["a: NaN", "a: again", "f: 1.10", "", "n:", huge]


def test_a_broken_line_is_named() -> None:
    problem = failure(JSONL, '{"a": 1}\n\n{oops}\n{"b": 2}\n')
    assert (problem.reason, problem.data["line"]) == ("broken", 3)
    assert failure(JSON, '{"a": 1,\n "b": }').data["line"] == 2


def test_json_lines_named_json_are_read_all_the_same() -> None:
    assert parse(JSON, '{"a": 1}\n{"a": 2}\n').text == parse(JSONL, '{"a": 1}\n{"a": 2}\n').text == "a: 1\n\na: 2"


@pytest.mark.parametrize("source", ["[" * 100_000, '{"a":' * 5_000, "[" * 200 + "]" * 200])
def test_deep_nesting_is_refused_by_name(source: str) -> None:
    problem = failure(JSON, source)
    assert (problem.reason, problem.data.get("limit_depth", DEPTH_LIMIT)) == ("broken", DEPTH_LIMIT)


def test_paths_that_multiply_a_long_key_are_limited() -> None:
    source = {"k " * 50_000: {str(number): number for number in range(2_000)}}
    assert failure(JSON, json.dumps(source)).reason == "output-limit"


JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), FILLED),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(FILLED, inner, max_size=4)),
    max_leaves=12,
)


@given(JSON_VALUES)
@example({"a": {"b": [[1, [2]], {"c": "\n x"}]}})
def test_every_string_of_a_json_file_is_in_the_text(value: object) -> None:
    text = squeezed(parse(JSON, json.dumps(value)).text)
    for string in strings(value):
        assert squeezed(clean(string)) in text


def strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(text for inner in value.values() for text in strings(inner))]
    if isinstance(value, list):
        return [text for inner in value for text in strings(inner)]
    return [value] if isinstance(value, str) else [json.dumps(value)]


# --- numerals


@pytest.mark.parametrize(
    ("number", "style", "written"),
    [
        (1, "chineseCounting", "一"),
        (10, "chineseCountingThousand", "十"),
        (21, "chineseCountingThousand", "二十一"),
        (101, "chineseCountingThousand", "一百零一"),
        (110, "chineseCountingThousand", "一百一十"),
        (1010, "chineseCountingThousand", "一千零一十"),
        (12, "chineseLegalSimplified", "壹拾贰"),
        (3, "ideographTraditional", "丙"),
        (4, "decimalEnclosedCircle", "④"),
        (2, "decimalEnclosedParen", "⑵"),
        (28, "upperLetter", "BB"),
        (1994, "lowerRoman", "mcmxciv"),
        (7, "decimalFullWidth", "７"),
        (3, "decimalZero", "03"),
        (22, "ordinal", "22nd"),
        (5, "whatever", "5"),
    ],
)
def test_numbers_are_written_in_the_documents_style(number: int, style: str, written: str) -> None:
    assert numerals.counted(number, style) == written


@pytest.mark.parametrize("style", ["decimal", "upperRoman", "chineseCountingThousand", "chineseLegalSimplified"])
def test_no_two_numbers_are_written_alike(style: str) -> None:
    written = [numerals.counted(number, style) for number in range(1, 4_000)]
    assert len(set(written)) == len(written)


def test_a_value_of_white_space_alone_leaves_no_line() -> None:
    assert list(markdown_table.record([("a", " \n"), ("b", "x")])) == [("paragraph", "b: x")]
