"""What the sandbox, its zygote and its children say to one another. Light: no parser is imported here.

A child's answer is JSON, never pickle, and is checked on arrival: the child has read a hostile file.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass
from typing import Any, get_args

from ingest.parsers import REASONS
from rag_service.errors import Data, ParseFailed
from rag_service.types import Block, BlockKind, ParsedDocument

LENGTH_BYTES = 8
"""Before an answer: its length, big-endian."""
READY, READY_WITHOUT_NETWORK = b"r", b"n"
"""What a zygote says once parses can begin; the second where it could leave the network behind."""
LOADED_OCR = b"o"
"""What a child tells the zygote once it has had to load the engine itself: the next ones had better be born with it."""

READS_PICTURE = b"p"
"""What a child tells the zygote before it reads a picture, or a scanned page: its wall time starts anew."""

_KINDS = frozenset(get_args(BlockKind))
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class ParseLimits:
    """What one parse may use. `memory_bytes` is address space beyond what the idle process has."""

    wall_seconds: float = 120.0
    slice_seconds: float = 1.0
    """After this much wall time a parse steps back behind the others: its priority is lowered once more."""
    cpu_seconds: int | None = None
    """As many as `wall_seconds` when not given: then the wall time ends a parse first."""
    scan_seconds: float = 3_600.0
    """Wall time of a parse that reads pictures, all of them together; `wall_seconds` is then for each."""
    memory_bytes: int = 2_000_000_000
    output_bytes: int = 64 * 1024 * 1024
    ocr: bool = True
    """Whether pictures may be read, where `[ocr]` is installed."""

    @property
    def cpu(self) -> int:
        """Seconds of CPU time in force."""
        return self.cpu_seconds if self.cpu_seconds is not None else math.ceil(self.wall_seconds)

    @property
    def most_cpu(self) -> int:
        """Seconds of CPU time that a parse may never pass: those of reading pictures where it may do that."""
        return max(self.cpu + 2, math.ceil(self.scan_seconds) if self.ocr else 0)

    @property
    def most_seconds(self) -> float:
        """Wall time after which a parse has ended in any case."""
        return max(self.wall_seconds, self.scan_seconds if self.ocr else 0.0)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> ParseLimits:
        return ParseLimits(**json.loads(text))


def encode_document(parsed: ParsedDocument) -> bytes:
    blocks = [[b.kind, b.start, b.end, b.page, b.level] for b in parsed.blocks]
    answer = {"text": parsed.text, "blocks": blocks, "pages": parsed.pages, "parser": parsed.parser}
    return json.dumps(answer, ensure_ascii=False).encode()


def encode_failure(reason: str, detail: str, data: Data) -> bytes:
    answer = {"reason": reason, "detail": detail[:2000], "data": data}
    return json.dumps(answer, default=str).encode()


def decode_answer(answer: bytes) -> ParsedDocument:
    """The child's document; raises the child's ParseFailed, or ParseFailed("crashed") for an answer that is none."""
    try:
        fields = json.loads(answer)
        failure = _failure(fields) if "reason" in fields else None
        parsed = None if failure is not None else _document(fields)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        detail = "the parsing process gave no valid answer"
        raise ParseFailed("crashed", detail, error=type(error).__name__) from error
    if parsed is None:
        assert failure is not None
        raise failure
    return parsed


def _failure(fields: dict[str, Any]) -> ParseFailed:
    reason, detail = fields["reason"], fields["detail"]
    if reason not in REASONS or not isinstance(detail, str):
        raise ValueError("unknown reason")
    data = {str(key): value for key, value in fields["data"].items() if key not in ("reason", "detail")}
    return ParseFailed(reason, detail, **data)


def _document(fields: dict[str, Any]) -> ParsedDocument:
    text, pages, parser = fields["text"], fields["pages"], fields["parser"]
    if not isinstance(text, str) or not isinstance(parser, str) or _SURROGATE.search(text):
        raise ValueError("text")
    blocks = tuple(Block(*block) for block in fields["blocks"])
    position = 0
    for block in blocks:
        _check(block, position, len(text))
        position = block.end
    if not _is_number(pages, optional=True) or not blocks or "\x00" in text:
        raise ValueError("pages")
    return ParsedDocument(text, blocks, pages, parser)


def _check(block: Block, position: int, length: int) -> None:
    numbers = _is_number(block.start) and _is_number(block.end)
    optional = _is_number(block.page, optional=True) and _is_number(block.level, optional=True)
    if block.kind not in _KINDS or not numbers or not optional:
        raise ValueError("block")
    if not position <= block.start < block.end <= length:
        raise ValueError("block order")


def _is_number(value: object, *, optional: bool = False) -> bool:
    return (optional and value is None) or (type(value) is int and value >= 0)
