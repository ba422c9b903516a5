"""Plain text: paragraphs between blank lines, hard wraps undone."""

from __future__ import annotations

from ingest.parsers import decoding, lines
from ingest.parsers.canonical import CanonicalText, clean
from rag_service import media_types
from rag_service.types import ParsedDocument


class PlainTextParser:
    name = "plain/1"
    media_types = (media_types.TEXT,)
    suffixes = (".txt", ".text", ".log", ".srt", ".vtt")

    def parse(self, data: bytes) -> ParsedDocument:
        canonical = CanonicalText()
        add_plain(canonical, clean(decoding.decode(data)))
        return canonical.document(self.name)


def add_plain(canonical: CanonicalText, text: str) -> None:
    """Append the paragraphs of a cleaned plain text."""
    paragraphs = _paragraphs(text)
    width = lines.wrap_width(paragraphs)
    for paragraph in paragraphs:
        canonical.add("paragraph", lines.unwrap(paragraph, width))


def _paragraphs(text: str) -> list[list[str]]:
    paragraphs: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line.strip():
            paragraphs[-1].append(line)
        elif paragraphs[-1]:
            paragraphs.append([])
    return [paragraph for paragraph in paragraphs if paragraph]
