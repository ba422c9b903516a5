"""Documents made with the real programs come back as they were written: characters, order, tables with their headers.

The files are in `fidelity/files` (see `fidelity/make.py`), what they say in `fidelity/contents.py`, written by hand.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ingest.parsers import ocr
from ingest.sandbox import Sandbox
from rag_service import media_types
from rag_service.types import ParsedDocument

HERE = Path(__file__).parent / "fidelity"
sys.path.insert(0, str(HERE))

import contents as c  # noqa: E402  (lives beside the files)

LEAST_ACCURACY = 0.99


@dataclass(frozen=True)
class Expected:
    text: str
    tables: tuple[c.Rows, ...]


def written(content: c.Content, *, tables: bool = True, before: str = "") -> Expected:
    parts = content if tables else tuple(part for part in content if not isinstance(part, c.Rows))
    return Expected(before + c.plain(parts), tuple(c.tables(parts)))


def sheets(book: c.Sheets) -> Expected:
    lines, found = [], []
    for title, rows in book:
        cells = tuple(tuple(str(cell) for cell in row) for row in rows)
        found.append(c.Rows(cells))
        lines += [title, *(" ".join(row) for row in cells)]
    return Expected("\n".join(lines), tuple(found))


def slides(title: str, deck: c.Slides) -> Expected:
    rows = c.tables(c.NOTICE_HANT)[0]
    lines = [title, "2026"]
    for heading, points in deck:
        lines += [heading, *points]
    return Expected("\n".join([*lines, "A | B", *(" ".join(row) for row in rows.cells)]), (rows,))


def records(rows: tuple[tuple[str | int | float, ...], ...]) -> Expected:
    names, *values = rows
    lines = [f"{name}: {value}" for row in values for name, value in zip(names, row, strict=True)]
    return Expected("\n".join(lines), ())


def table(content: c.Content) -> Expected:
    rows = c.tables(content)[0]
    return Expected("\n".join(" ".join(row) for row in rows.cells), (rows,))


def mail(subject: str, content: c.Content) -> Expected:
    head = (
        f"{subject}\nFrom: Wang Lei <wang.lei@example.com>\nTo: office@example.com\n"
        "Date: Mon, 02 Mar 2026 09:15:00 +0800\n"
    )
    return written(content, tables=False, before=head)


# Writer's EPUB has no list numbers in it.
UNNUMBERED = tuple(c.Items(part.texts) if isinstance(part, c.Items) else part for part in c.HANDBOOK_ZH)
# Calc reads "30%" as a number, and shows it with two places.
PAYMENTS_IN_CALC = c.Rows(
    tuple(
        tuple(f"{cell[:-1]}.00%" if cell.endswith("%") else cell for cell in row)
        for row in c.tables(c.CONTRACT_ZH)[0].cells
    )
)
ASCII_MINUTES = tuple(
    c.Paragraph(part.text.replace("ø", "o")) if isinstance(part, c.Paragraph) else part for part in c.MINUTES_EN
)
EXPECTED: dict[str, Expected] = {
    "writer-handbook-zh.docx": written(c.HANDBOOK_ZH),
    "writer-report-en.docx": written(c.REPORT_EN),
    "writer-contract-zh.docx": written(c.CONTRACT_ZH),
    "writer-notice-hant.docx": written(c.NOTICE_HANT),
    "writer-manual-mixed.docx": written(c.MANUAL_MIXED),
    "writer-minutes-en.docx": written(c.MINUTES_EN),
    "library-contract-zh.docx": written(c.CONTRACT_ZH),
    "library-report-en.docx": written(c.REPORT_EN),
    "writer-handbook-zh.rtf": written(c.HANDBOOK_ZH),
    "writer-report-en.rtf": written(c.REPORT_EN),
    "writer-notice-hant.rtf": written(c.NOTICE_HANT),
    "writer-handbook-zh.epub": written(UNNUMBERED),
    "writer-report-en.epub": written(c.REPORT_EN),
    "writer-manual-mixed.epub": written(c.MANUAL_MIXED),
    "writer-handbook-zh.xhtml": written(c.HANDBOOK_ZH),
    "writer-minutes-en.xhtml": written(c.MINUTES_EN),
    "writer-handbook-zh.pdf": written(c.HANDBOOK_ZH),
    "writer-report-en.pdf": written(c.REPORT_EN),
    "writer-contract-zh.pdf": written(c.CONTRACT_ZH),
    "writer-notice-hant.pdf": written(c.NOTICE_HANT),
    "browser-handbook-zh.pdf": written(c.HANDBOOK_ZH),
    "browser-report-en.pdf": written(c.REPORT_EN),
    "browser-manual-mixed.pdf": written(c.MANUAL_MIXED),
    "browser-minutes-en.pdf": written(c.MINUTES_EN),
    "browser-columns-zh.pdf": written(c.HANDBOOK_ZH, tables=False),
    "browser-columns-en.pdf": written(c.REPORT_EN, tables=False),
    "browser-long-zh.pdf": written(c.LONG_ZH),
    "library-training-zh.pptx": slides("运行与维护培训", c.SLIDES_ZH),
    "library-review-en.pptx": slides("Quarterly Review", c.SLIDES_EN),
    "library-stock-zh.xlsx": sheets(c.STOCK_ZH),
    "library-budget-en.xlsx": sheets(c.BUDGET_EN),
    # Calc names a sheet that came from a CSV after its file.
    "calc-payments-zh.xlsx": written((c.Heading(1, "payments-zh"), PAYMENTS_IN_CALC)),
    "calc-pumps-en.xlsx": written((c.Heading(1, "pumps-en"), *c.tables(c.REPORT_EN))),
    "calc-payments-zh.csv": table((PAYMENTS_IN_CALC,)),
    "calc-pumps-en.csv": table(c.REPORT_EN),
    "excel-payments-gbk.csv": table(c.CONTRACT_ZH),
    "excel-payments-utf16.tsv": table(c.CONTRACT_ZH),
    "handbook-utf8.txt": written(c.HANDBOOK_ZH, tables=False),
    "contract-gbk.txt": written(c.CONTRACT_ZH, tables=False),
    "notice-big5.txt": written(c.NOTICE_HANT, tables=False),
    "report-utf16.txt": written(c.REPORT_EN, tables=False),
    "contract-zh.md": written(c.CONTRACT_ZH),
    "report-en.md": written(c.REPORT_EN),
    "handbook-gb2312.html": written(c.HANDBOOK_ZH),
    "manual-mixed.html": written(c.MANUAL_MIXED),
    "budget-en.json": records(c.BUDGET_EN[0][1]),
    "stock-zh.jsonl": records(c.STOCK_ZH[0][1]),
    "mail-zh.eml": mail("停車場使用須知", c.NOTICE_HANT),
    "mail-en.eml": mail("Minutes", ASCII_MINUTES),
    "mail-gbk.eml": mail("设备采购合同（草案）", c.CONTRACT_ZH),
    "scan-notice-hant.png": written(c.NOTICE_HANT, tables=False),
    "scan-contract-zh.png": written(c.CONTRACT_ZH, tables=False),
    "scan-minutes-en.jpg": written(c.MINUTES_EN, tables=False),
    "scan-minutes-en.pdf": written(c.MINUTES_EN, tables=False),
    "scan-handbook-zh.tiff": written(c.HANDBOOK_ZH, tables=False),
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as opened:
        yield opened


def parsed(sandbox: Sandbox, name: str) -> ParsedDocument:
    path = HERE / "files" / name
    if name.startswith("scan") and not ocr.is_installed():
        pytest.skip("pages are read with the extra [ocr]")
    with path.open("rb") as content:
        return sandbox.parse(path, media_types.detect(name, None, content))


def test_every_file_of_the_set_has_its_expected_text() -> None:
    assert {path.name for path in (HERE / "files").iterdir()} == EXPECTED.keys()
    assert len(EXPECTED) >= 40


@pytest.mark.parametrize("name", EXPECTED)
def test_ninety_nine_of_a_hundred_characters_are_right_and_in_order(sandbox: Sandbox, name: str) -> None:
    expected, found = bare(EXPECTED[name].text), bare(read_aloud(parsed(sandbox, name)))
    assert 1 - distance(expected, found) / len(expected) >= LEAST_ACCURACY, f"expected {expected}\n   found {found}"


@pytest.mark.parametrize("name", [name for name, expected in EXPECTED.items() if expected.tables])
def test_tables_come_with_their_header_and_all_their_rows(sandbox: Sandbox, name: str) -> None:
    document = parsed(sandbox, name)
    found = [rows_of(document.text[b.start : b.end]) for b in document.blocks if b.kind == "table"]
    assert len(found) >= len(EXPECTED[name].tables)
    for expected in EXPECTED[name].tables:
        header, *rows = [list(map(bare, row)) for row in expected.cells]
        # Over a page's end it goes on as another table, under the same header.
        while rows:
            assert found, f"no table begins with {rows[0]}"
            (found_header, *found_rows), *found = found
            assert (found_header, found_rows) == (header, rows[: len(found_rows)])
            rows = rows[len(found_rows) :]
    assert not found


def read_aloud(document: ParsedDocument) -> str:
    """The text, without the header that a table which goes on over a page gets once more."""
    pieces: list[str] = []
    header, page = None, None
    for block in document.blocks:
        text = document.text[block.start : block.end]
        first = text.partition("\n")[0] if block.kind == "table" else None
        goes_on = first is not None and first == header and block.page != page
        pieces.append("\n".join(text.split("\n")[2:]) if goes_on else text)
        header, page = first, block.page
    return "\n\n".join(pieces)


def rows_of(markdown: str) -> list[list[str]]:
    """The cells of a Markdown table, its rule left out; the rule has to be its second line."""
    header, rule, *rows = markdown.split("\n")
    assert re.fullmatch(r"\|(\s*:?-+:?\s*\|)+", rule)
    return [[bare(cell) for cell in re.split(r"(?<!\\)\|", row.strip().strip("|"))] for row in (header, *rows)]


def bare(text: str) -> str:
    """Width folded, without white space, Markdown's marks and list bullets."""
    text = unicodedata.normalize("NFKC", text)
    text = re.sub(r"^[ \t]*(?:#{1,6} |[-*•●] |\|(?:\s*:?-+:?\s*\|)+$)", "", text, flags=re.MULTILINE)
    return re.sub(r"[\s|\\]", "", text)


def distance(a: str, b: str) -> int:
    """Levenshtein's, by Hyyrö's bit vectors (2003, "A bit-vector algorithm for computing Levenshtein distances")."""
    if not a:
        return len(b)
    at: dict[str, int] = {}
    for position, character in enumerate(a):
        at[character] = at.get(character, 0) | 1 << position
    mask, last = (1 << len(a)) - 1, 1 << (len(a) - 1)
    plus, minus, score = mask, 0, len(a)
    for character in b:
        match = at.get(character, 0)
        diagonal = (((match & plus) + plus) ^ plus) | match | minus
        up, down = minus | (~(diagonal | plus) & mask), plus & diagonal
        score += bool(up & last) - bool(down & last)
        up, down = (up << 1) | 1, down << 1
        plus, minus = (down | ~(diagonal | up)) & mask, up & diagonal & mask
    return score


def test_the_distance_is_levenshteins() -> None:
    assert distance("kitten", "sitting") == 3
    assert distance("", "abc") == distance("abc", "") == 3
    assert distance("有据可查", "有据可查") == 0
    assert distance("有据", "据有") == 2
    assert distance("ab" * 40, "ba" * 40) == 2
