"""JSON and JSON Lines: every record a text of "path: value" lines, strings of several lines as they were written.

A record is a line of JSON Lines, an item of a top-level array, else the whole value. Nothing is left out: every key
and every string of the file is in the text, those of repeated keys too, and numbers keep their digits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from ingest.parsers import decoding, markdown_table
from ingest.parsers.canonical import CanonicalText
from rag_service import media_types
from rag_service.errors import ParseFailed
from rag_service.types import ParsedDocument

DEPTH_LIMIT = 100
"""Levels of arrays and objects; beyond it a path of keys says nothing to a reader."""

TEXT_LIMIT_BYTES = 64 << 20
"""Characters of all paths and values."""

_Record = list[tuple[str, Any]]
_Fields = Iterator[tuple[str, str]]


class JsonParser:
    name = "json/1"
    media_types = (media_types.JSON,)
    suffixes = (".json",)

    def parse(self, data: bytes) -> ParsedDocument:
        text = decoding.decode(data)
        return _document(_whole(text), self.name)


class JsonLinesParser:
    name = "jsonl/1"
    media_types = (media_types.JSONL,)
    suffixes = (".jsonl", ".ndjson")

    def parse(self, data: bytes) -> ParsedDocument:
        return _document(_lines(decoding.decode(data)), self.name)


@dataclass(frozen=True, slots=True)
class _Object:
    """An object as written: keys in order, repeated ones too."""

    pairs: tuple[tuple[str, Any], ...]


def _document(records: Iterable[_Record], parser: str) -> ParsedDocument:
    canonical = CanonicalText()
    written = 0
    for record in records:
        fields = []
        for path, value in _record_fields(record):
            written += len(path) + len(value)
            # A long key is repeated by every path under it: a small file can ask for any amount of text.
            if written > TEXT_LIMIT_BYTES:
                raise ParseFailed("output-limit", "the records hold too much text", limit_bytes=TEXT_LIMIT_BYTES)
            fields.append((path, value))
        markdown_table.add_record(canonical, fields)
    return canonical.document(parser)


def _whole(text: str) -> Iterable[_Record]:
    try:
        return _records(_loaded(text))
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            # Many programs name JSON Lines .json.
            return _lines(text)
        _broken(error.msg, error.lineno)


def _record_fields(record: _Record) -> _Fields:
    for path, value in record:
        yield from _fields(value, path, 1)


def _records(value: Any) -> Iterator[_Record]:
    """The items of a top-level array, or of arrays directly in a top-level object, are records of their own."""
    if isinstance(value, list) and _holds_records(value):
        yield from ([("", item)] for item in value)
    elif isinstance(value, _Object):
        yield from _object_records(value)
    else:
        yield [("", value)]


def _object_records(value: _Object) -> Iterator[_Record]:
    record: _Record = []
    for key, inner in value.pairs:
        if isinstance(inner, list) and len(inner) > 1 and _holds_records(inner):
            yield record
            record = []
            yield from ([(f"{key}[{number}]", item)] for number, item in enumerate(inner, 1))
        else:
            record.append((key, inner))
    yield record if value.pairs else [("", value)]


def _holds_records(items: list[Any]) -> bool:
    return bool(items) and all(isinstance(item, _Object | list) for item in items)


def _lines(text: str) -> list[_Record]:
    records: list[_Record] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                records.append([("", _loaded(line))])
            except json.JSONDecodeError as error:
                _broken(error.msg, number)
    return records


def _broken(message: str, line: int) -> NoReturn:
    raise ParseFailed("broken", f"line {line} is not JSON: {message}", line=line, error="JSONDecodeError")


def _loaded(text: str) -> Any:
    """A value with its numbers as written: as floats, or beyond 4,300 digits, they would change or fail."""
    same: Callable[[str], str] = str
    try:
        return json.loads(
            text,
            object_pairs_hook=lambda pairs: _Object(tuple(pairs)),
            parse_float=same,
            parse_int=same,
            parse_constant=same,
            strict=False,
        )
    except RecursionError as error:
        raise _too_deep() from error


def _fields(value: Any, path: str, depth: int) -> _Fields:
    if depth > DEPTH_LIMIT:
        raise _too_deep()
    if isinstance(value, _Object):
        yield from _object_fields(value, path, depth)
    elif isinstance(value, list):
        yield from _list_fields(value, path, depth)
    else:
        yield path, _scalar(value)


def _object_fields(value: _Object, path: str, depth: int) -> _Fields:
    if not value.pairs:
        yield path, "{}"
    for key, inner in value.pairs:
        yield from _fields(inner, f"{path}.{key}" if path else key, depth + 1)


def _list_fields(value: list[Any], path: str, depth: int) -> _Fields:
    """Scalars as the items of one list, other items each under its number, counted from 1."""
    if any(isinstance(item, _Object | list) for item in value):
        for number, item in enumerate(value, 1):
            yield from _fields(item, f"{path}[{number}]", depth + 1)
    else:
        yield path, "\n".join(f"- {_scalar(item)}" for item in value) if len(value) > 1 else _only(value)


def _only(value: list[Any]) -> str:
    return _scalar(value[0]) if value else "[]"


def _scalar(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) or '""'


def _too_deep() -> ParseFailed:
    return ParseFailed("broken", f"nested deeper than {DEPTH_LIMIT} levels", limit_depth=DEPTH_LIMIT)
