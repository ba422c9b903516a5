"""HTML, by way of Markdown: the visible text without links' addresses, images and inline styling."""

from __future__ import annotations

import re
from functools import reduce

from bs4 import BeautifulSoup
from bs4.element import NavigableString, Tag
from markdownify import ATX, MarkdownConverter

from ingest.parsers import decoding, lines
from ingest.parsers.canonical import CanonicalText, clean
from ingest.parsers.markdown import add_markdown
from rag_service import media_types
from rag_service.types import ParsedDocument

_CHARSET = re.compile(rb"<(?:meta|\?xml)[^>]*?(?:charset|encoding)\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_INVISIBLE = ("script", "style", "template", "head", "title", "svg", "select", "noscript", "iframe", "audio", "video")
_INLINE = ["a", "img", "b", "strong", "i", "em", "u", "s", "del", "ins", "sub", "sup", "kbd", "samp", "code"]


class HtmlParser:
    name = "html/1"
    media_types = (media_types.HTML,)
    suffixes = (".html", ".htm")

    def parse(self, data: bytes) -> ParsedDocument:
        canonical = CanonicalText()
        add_html(canonical, decoding.decode(data, charset(data)))
        return canonical.document(self.name)


def charset(data: bytes) -> str | None:
    """The charset an HTML (or XHTML) file declares for itself in its first 4,096 bytes."""
    match = _CHARSET.search(data[:4096])
    return match.group(1).decode("ascii", "replace") if match else None


def add_html(canonical: CanonicalText, html: str) -> None:
    """Append an HTML text's blocks; its <title> becomes the first heading where the page has no <h1> of its own."""
    soup = BeautifulSoup(clean(html), "html.parser")
    title = soup.title.get_text(" ", strip=True) if soup.title is not None else ""
    if title and soup.find("h1") is None:
        canonical.add("heading", f"# {' '.join(title.split())}", level=1)
    for tag in soup(_INVISIBLE):
        tag.extract()
    for link in soup("a"):
        # A menu's links often stand apart by their style only.
        if isinstance(link.next_sibling, Tag) and link.next_sibling.name == "a":
            link.insert_after(" ")
    _fold_lines(soup)
    add_markdown(canonical, _markdown(soup))


def _fold_lines(soup: BeautifulSoup) -> None:
    """Line ends of the source mean nothing outside <pre>: a space, or nothing between Chinese characters."""
    for node in soup.find_all(string=lambda text: text is not None and "\n" in text.strip()):
        if type(node) is NavigableString and node.find_parent(("pre", "textarea")) is None:
            body = reduce(lines.glue, node.strip().split("\n"))
            start, end = node[:1].isspace(), node[-1:].isspace()
            node.replace_with(NavigableString(f"{' ' * start}{body}{' ' * end}"))


def _markdown(soup: BeautifulSoup) -> str:
    """The soup as Markdown, or as bare lines of text where it nests too deeply for a recursive walk."""
    try:
        return _Markdown().convert_soup(soup)
    except RecursionError:
        return soup.get_text("\n\n", strip=True)


class _Markdown(MarkdownConverter):
    """Block structure only. Nothing is escaped: the result is read by people, not rendered."""

    def __init__(self) -> None:
        super().__init__(
            heading_style=ATX,
            bullets="-",
            strip=_INLINE,
            escape_asterisks=False,
            escape_underscores=False,
            table_infer_header=True,
        )
