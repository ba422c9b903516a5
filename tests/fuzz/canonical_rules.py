"""What a parsed document promises, checked on any: see `ingest.parsers`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rag_service.types import ParsedDocument

_RULES = {
    "a control character": re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\ufeff\ufffe\uffff]"),
    "white space at a line's end": re.compile(r"[^\S\n](?:\n|\Z)"),
    "more than one blank line": re.compile(r"\n{3}"),
    "a line end at an end": re.compile(r"\A\n|\n\Z"),
}


def broken_promises(parsed: ParsedDocument) -> Iterator[str]:
    for rule, fault in _RULES.items():
        if found := fault.search(parsed.text):
            yield f"{rule} at {found.start()}"
    end = 0
    for block in parsed.blocks:
        if not end <= block.start < block.end <= len(parsed.text):
            yield f"a block {block} that is not in order"
        if parsed.text[end : block.start].strip():
            yield f"text between blocks at {end}"
        if not parsed.text[block.start : block.end].strip():
            yield f"a block {block} of white space"
        if (block.kind == "heading") != (block.level is not None and 1 <= block.level <= 6):
            yield f"a level that does not fit {block}"
        if block.page is not None and not 1 <= block.page <= (parsed.pages or 0):
            yield f"a page that is not there, {block}"
        end = block.end
    if parsed.text[end:].strip() or not parsed.blocks:
        yield "text after the last block"
