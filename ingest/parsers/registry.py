"""All parsers by media type. Importing this loads the parsing libraries: only the parsing process does."""

from __future__ import annotations

from ingest.parsers import Parser, ocr
from ingest.parsers.csv_table import CsvParser
from ingest.parsers.docx import DocxParser
from ingest.parsers.eml import EmlParser
from ingest.parsers.epub import EpubParser
from ingest.parsers.html import HtmlParser
from ingest.parsers.image import ImageParser
from ingest.parsers.json_records import JsonLinesParser, JsonParser
from ingest.parsers.markdown import MarkdownParser
from ingest.parsers.pdf import PdfParser
from ingest.parsers.pdf_scans import Reader
from ingest.parsers.plain import PlainTextParser
from ingest.parsers.pptx import PptxParser
from ingest.parsers.rtf import RtfParser
from ingest.parsers.xlsx import XlsxParser
from ingest.parsers.xml import XmlParser
from rag_service.errors import UnsupportedType

READER: Reader | None = ocr.read_image if ocr.is_installed() else None

_OF_TEXT: tuple[Parser, ...] = (
    PlainTextParser(),
    MarkdownParser(),
    HtmlParser(),
    DocxParser(),
    XlsxParser(),
    PptxParser(),
    CsvParser(),
    JsonParser(),
    JsonLinesParser(),
    XmlParser(),
    RtfParser(),
    EmlParser(),
    EpubParser(),
)
_OF_PICTURES = (PdfParser, ImageParser)
PARSERS: tuple[Parser, ...] = (*_OF_TEXT, *(make(READER) for make in _OF_PICTURES))
_BY_MEDIA_TYPE: dict[str, Parser] = {kind: parser for parser in _OF_TEXT for kind in parser.media_types}
_BY_PICTURED_TYPE = {kind: make for make in _OF_PICTURES for kind in make.media_types}


def parser_for(media_type: str, reader: Reader | None = READER) -> Parser:
    """`reader` reads pictures; without one they say nothing.

    Raises UnsupportedType for a media type no parser takes.
    """
    if media_type in _BY_PICTURED_TYPE:
        return _BY_PICTURED_TYPE[media_type](reader)
    if media_type not in _BY_MEDIA_TYPE:
        raise UnsupportedType(f"no parser takes {media_type}", media_type=media_type)
    return _BY_MEDIA_TYPE[media_type]
