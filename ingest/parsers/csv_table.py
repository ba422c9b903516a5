"""Delimited text (CSV, TSV) as a Markdown table, its first row the names of the columns.

Rows of different lengths are kept as they are. The delimiter is told by counting, outside quotes: `csv.Sniffer` takes
letters for delimiters where a text has few marks, as Chinese texts do.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from typing import Literal

from ingest.parsers import decoding, markdown_table
from ingest.parsers.canonical import CanonicalText, clean
from rag_service import media_types
from rag_service.errors import ParseFailed
from rag_service.types import ParsedDocument

_DELIMITERS = ",\t;|"
_SAMPLE_CHARACTERS = 65_536
_EXCEL_HINT = re.compile(r'\s*"?sep=(.)"?[ \t]*(?:\n|$)', re.IGNORECASE)
_FIELD_LIMIT = 64 << 20
_END = "\x1e"
"""A last row that canonical text cannot hold: it is found where every quoted cell was closed."""


class CsvParser:
    name = "csv/1"
    media_types = (media_types.CSV, media_types.TSV)
    suffixes = (".csv", ".tsv")

    def parse(self, data: bytes) -> ParsedDocument:
        canonical = CanonicalText()
        markdown_table.add_grid(canonical, _rows(clean(decoding.decode(data))))
        return canonical.document(self.name)


def _rows(text: str) -> list[list[str]]:
    hint = _EXCEL_HINT.match(text)
    delimiter = hint[1] if hint else delimiter_of(text)
    csv.field_size_limit(_FIELD_LIMIT)
    try:
        return _read(text[hint.end() :] if hint else text, delimiter)
    except csv.Error as error:
        raise ParseFailed("broken", f"not delimited text: {error}", error="csv.Error") from error


def _read(text: str, delimiter: str) -> list[list[str]]:
    rows = _reader(f"{text}\n{_END}", delimiter, csv.QUOTE_MINIMAL)
    if rows[-1] != [_END]:
        # A quotation mark that is never closed would take the rest of the file into one cell: it is only a mark.
        rows = _reader(f"{text}\n{_END}", delimiter, csv.QUOTE_NONE)
    return rows[:-1]


def _reader(text: str, delimiter: str, quoting: Literal[0, 3]) -> list[list[str]]:
    source = io.StringIO(text, newline="")
    return list(csv.reader(source, delimiter=delimiter, quoting=quoting, skipinitialspace=True))


def delimiter_of(text: str) -> str:
    """The mark that cuts most rows into the same number of cells, more than one; a comma where none does."""
    sample = text[:_SAMPLE_CHARACTERS]
    return max(_DELIMITERS, key=lambda mark: (_regularity(sample, mark), -_DELIMITERS.index(mark)))


def _regularity(sample: str, delimiter: str) -> float:
    """Share of rows that have the most common number of cells, and are cut at all."""
    rows = [row for row in _reader(sample, delimiter, csv.QUOTE_MINIMAL) if row]
    if len(sample) == _SAMPLE_CHARACTERS and len(rows) > 1:
        rows.pop()
    cut = Counter(len(row) for row in rows if len(row) > 1)
    if not cut:
        return 0.0
    return cut.most_common(1)[0][1] / len(rows)
