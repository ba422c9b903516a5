"""XML: feeds as articles, other files as their text and values in order. No DTD is read, no entity resolved."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from lxml import etree

from ingest.parsers import decoding
from ingest.parsers.canonical import CanonicalText
from ingest.parsers.dtd import refuse_declarations
from ingest.parsers.html import add_html, charset
from rag_service import media_types
from rag_service.errors import ParseFailed
from rag_service.types import ParsedDocument

_DECLARATION = re.compile(r"\A[\s\ufeff]*<\?xml\s[^>]*\?>")
_NAMED_ENTITY = re.compile(r"&(?!(?:amp|lt|gt|quot|apos);)[A-Za-z][A-Za-z0-9]*;")
_ARTICLES = frozenset(("item", "entry"))
_HTML_BODIES = frozenset(("description", "summary", "content", "encoded", "subtitle"))


class XmlParser:
    name = "xml/1"
    media_types = (media_types.XML,)
    suffixes = (".xml",)

    def parse(self, data: bytes) -> ParsedDocument:
        markup = decoding.decode(data, charset(data))
        refuse_declarations(markup)
        root = tree(markup)
        canonical = CanonicalText()
        if _name(root) == "html":
            add_html(canonical, markup)
        elif _name(root) in ("rss", "RDF", "feed"):
            _add_feed(canonical, root)
        else:
            _add_values(canonical, root)
        return canonical.document(self.name)


def tree(markup: str, part: str = "the document") -> etree._Element:
    """The root of an XML text that is well-formed; HTML's named entities may stand in it without a DTD.

    Raises ParseFailed("broken"), also for nesting deeper than libxml2's 256.
    """
    # An encoding declared inside a text that is already decoded means nothing.
    body = _DECLARATION.sub("", markup, count=1).lstrip("\ufeff")
    body = _NAMED_ENTITY.sub(lambda entity: html.unescape(entity.group()), body)
    parser = etree.XMLParser(resolve_entities=False, load_dtd=False, no_network=True, remove_comments=True)
    try:
        return etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise ParseFailed("broken", f"{part} is not well-formed XML: {error}", error=type(error).__name__) from error


def _name(element: etree._Element) -> str:
    """The element's name without its namespace; empty for comments and processing instructions."""
    return etree.QName(element).localname if isinstance(element.tag, str) else ""


def _text(element: etree._Element) -> str:
    return " ".join("".join(element.itertext()).split())


# --- feeds


def _add_feed(canonical: CanonicalText, root: etree._Element) -> None:
    for element in root.iter():
        name = _name(element)
        parent = element.getparent()
        inside = parent is not None and any(_name(above) in _ARTICLES for above in (parent, *parent.iterancestors()))
        if name in _ARTICLES:
            _add_article(canonical, element)
        elif not inside:
            _add_feed_field(canonical, element, level=1)


def _add_article(canonical: CanonicalText, article: etree._Element) -> None:
    titles = [child for child in article if _name(child) == "title"]
    for child in (*titles, *(child for child in article if child not in titles)):
        _add_feed_field(canonical, child, level=2)
        for below in child.iterdescendants() if _name(child) not in _HTML_BODIES else ():
            _add_feed_field(canonical, below, level=3)


def _add_feed_field(canonical: CanonicalText, element: etree._Element, level: int) -> None:
    """One field of a feed or an article: its title, its body, or a value under its name."""
    name = _name(element)
    if name == "title":
        canonical.add("heading", f"{'#' * level} {_text(element)}", level=level)
    elif name in _HTML_BODIES:
        add_html(canonical, _inner_html(element))
    elif (element.text or "").strip():
        canonical.add("paragraph", f"{name}: {element.text}")


def _inner_html(element: etree._Element) -> str:
    """Feeds carry HTML as escaped text, as CDATA, or (Atom's xhtml) as elements."""
    children = "".join(etree.tostring(child, encoding="unicode") for child in element)
    return f"{element.text or ''}{children}"


# --- other files


def _add_values(canonical: CanonicalText, root: etree._Element) -> None:
    """Prose element by element; the values of a record together, each under its name."""
    record: list[str] = []
    for element in _outermost(root):
        values = [f"{etree.QName(str(key)).localname}: {value}" for key, value in element.attrib.items()]
        if _is_prose(element):
            canonical.add("paragraph", "\n".join(record))
            canonical.add("paragraph", "\n".join([*values, _text(element)]))
            record = []
        elif len(element):
            canonical.add("paragraph", "\n".join(record))
            record = values
        else:
            record += [*values, *([f"{_name(element)}: {_text(element)}"] if _text(element) else [])]
    canonical.add("paragraph", "\n".join(record))


def _outermost(element: etree._Element) -> Iterator[etree._Element]:
    """Elements in order, without those that stand inside prose."""
    yield element
    if not _is_prose(element):
        for child in element:
            if _name(child):
                yield from _outermost(child)


def _is_prose(element: etree._Element) -> bool:
    """Whether text and elements alternate in it."""
    return len(element) > 0 and any(text and text.strip() for text in (element.text, *(c.tail for c in element)))
