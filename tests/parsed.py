"""What tests of parsers ask of every document, in one place."""

from __future__ import annotations

import pytest

from ingest.parsers import REASONS
from ingest.parsers.registry import parser_for
from rag_service.errors import ParseFailed
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


def failure(media_type: str, data: bytes | str) -> ParseFailed:
    with pytest.raises(ParseFailed) as caught:
        parser_for(media_type).parse(data.encode() if isinstance(data, str) else data)
    assert caught.value.reason in REASONS
    return caught.value


def squeezed(text: str) -> str:
    return "".join(text.split())
