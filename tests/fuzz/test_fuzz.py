"""Quick tier of the fuzzing; `make fuzz` runs the long one."""

from __future__ import annotations

import io
import sys
import zipfile
import zlib
from pathlib import Path
from random import Random

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from canonical_rules import broken_promises
from fuzz import Fuzzing
from mutations import LARGEST, mutated
from seeds import FORMATS, seeds

from ingest.parse_protocol import ParseLimits
from ingest.parsers.registry import parser_for
from rag_service.types import Block, ParsedDocument

FILES = 150
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")


@LINUX
@pytest.mark.timeout(600)
@pytest.mark.parametrize("format", FORMATS)
def test_a_mutated_file_is_a_whole_document_or_a_typed_failure(format: str, tmp_path: Path) -> None:
    report = Fuzzing(format, seed=1, keep=tmp_path).run(range(FILES))

    assert not report.violations, str(report)
    assert report.files == FILES
    assert report.outcomes["document"] > 0


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_mutated_is_a_document_to_begin_with(format: str) -> None:
    found = seeds(format)
    assert len(found) >= 2
    for data in found:
        assert list(broken_promises(parser_for(FORMATS[format], None).parse(data))) == []


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_number_is_the_same_file_and_others_are_others(format: str) -> None:
    mine = seeds(format)

    def made() -> list[bytes]:
        return [mutated(format, mine, Random(f"1 {file}")) for file in range(40)]

    files = made()
    # But for the clock in a container.
    assert [len(data) for data in files] == [len(data) for data in made()]
    assert len(set(files)) > 35
    assert max(map(len, files)) <= LARGEST


def test_parts_of_containers_are_mutated_where_they_are_read() -> None:
    mine, whole, changed = seeds("docx"), 0, 0
    for file in range(60):
        data = mutated("docx", mine, Random(f"2 {file}"))
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                whole += archive.testzip() is None
                changed += b"w:document" in archive.read("word/document.xml")
        except (zipfile.BadZipFile, KeyError, EOFError, ValueError, OSError, NotImplementedError, zlib.error):
            continue
    assert whole > 20
    assert changed > 15


@LINUX
def test_limits_that_are_not_kept_are_seen() -> None:
    """The checks themselves, told limits below those in force."""
    promised = ParseLimits(wall_seconds=-9, cpu_seconds=-9, memory_bytes=-100_000_000, output_bytes=10)

    found = " ".join(
        violation.what for violation in Fuzzing("html", seed=1, promised=promised).run(range(5)).violations
    )

    for fault in ("took", "characters of text", "a child had", "s of CPU"):
        assert fault in found


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("a\x07b", [Block("paragraph", 0, 3)]),
        ("a ", [Block("paragraph", 0, 2)]),
        ("a \nb", [Block("paragraph", 0, 4)]),
        ("a\n\n\nb", [Block("paragraph", 0, 5)]),
        ("\na", [Block("paragraph", 1, 2)]),
        ("ab\n\ncd", [Block("paragraph", 4, 6), Block("paragraph", 0, 2)]),
        ("ab\n\ncd", [Block("paragraph", 0, 2)]),
        ("ab\n\ncd", [Block("paragraph", 4, 6)]),
        ("ab", [Block("paragraph", 0, 3)]),
        ("ab", [Block("heading", 0, 2, level=7)]),
        ("ab", [Block("heading", 0, 2)]),
        ("ab", [Block("paragraph", 0, 2, level=1)]),
        ("ab", [Block("paragraph", 0, 2, page=3)]),
        ("ab", []),
    ],
    ids=ascii,
)
def test_a_document_that_breaks_a_promise_is_seen(text: str, blocks: list[Block]) -> None:
    assert list(broken_promises(ParsedDocument(text, tuple(blocks), 2, "test"))) != []
    assert list(broken_promises(ParsedDocument("ab", (Block("heading", 0, 2, page=1, level=1),), 2, "test"))) == []
