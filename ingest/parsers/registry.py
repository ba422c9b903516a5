"""All parsers by media type. Importing this loads the parsing libraries: only the parsing process does."""

from __future__ import annotations

from ingest.parsers import Parser
from ingest.parsers.docx import DocxParser
from ingest.parsers.html import HtmlParser
from ingest.parsers.markdown import MarkdownParser
from ingest.parsers.pdf import PdfParser
from ingest.parsers.plain import PlainTextParser
from rag_service.errors import UnsupportedType

PARSERS: tuple[Parser, ...] = (PlainTextParser(), MarkdownParser(), HtmlParser(), PdfParser(), DocxParser())
_BY_MEDIA_TYPE: dict[str, Parser] = {kind: parser for parser in PARSERS for kind in parser.media_types}


def parser_for(media_type: str) -> Parser:
    """Raises UnsupportedType for a media type no parser takes."""
    if media_type not in _BY_MEDIA_TYPE:
        raise UnsupportedType(f"no parser takes {media_type}", media_type=media_type)
    return _BY_MEDIA_TYPE[media_type]
