"""EPUB 2 and 3: container, package, and the chapters in the order of the spine, each as any XHTML."""

from __future__ import annotations

import io
import posixpath
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote, urldefrag

from lxml import etree

from ingest.parsers import decoding
from ingest.parsers.canonical import CanonicalText
from ingest.parsers.dtd import refuse_declarations
from ingest.parsers.html import add_html, charset
from ingest.parsers.xml import tree
from ingest.parsers.zip_container import ENTITY, Container, Limits
from rag_service import media_types
from rag_service.errors import ParseFailed
from rag_service.types import ParsedDocument

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_BOOK = Container(
    noun="an EPUB book",
    required=_CONTAINER,
    legacy="a Compound File named .epub; export the book as .epub",
    xml_suffixes=(".xml", ".opf", ".ncx", ".xhtml", ".html", ".htm"),
    forbidden=ENTITY,
)
_FONT_OBFUSCATION = frozenset(("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC"))
"""Algorithms that only hinder the copying of fonts (EPUB 3.3, 4.2.5.3); any other means a locked book."""
_CHAPTERS = frozenset(("application/xhtml+xml", "text/html", "text/x-oeb1-document", "application/xml", "text/xml"))


class EpubParser:
    name = "epub/1"
    media_types = (media_types.EPUB,)
    suffixes = (".epub",)

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()

    def parse(self, data: bytes) -> ParsedDocument:
        _BOOK.inspect(data, self._limits)
        canonical = CanonicalText()
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            book = _Book(archive)
            book.refuse_locks()
            package = book.package()
            for chapter in package.spine:
                # Before the first chapter that has text: covers are pictures.
                above = "" if canonical.length else package.title
                add_html(canonical, book.chapter(chapter), title=package.labels.get(chapter, ""), above=above)
        if not canonical.length:
            raise ParseFailed("no-text", "no page of the book holds text")
        return canonical.document(self.name)


@dataclass(frozen=True, slots=True)
class _Package:
    title: str
    spine: tuple[str, ...]
    """Paths of the chapters, in reading order."""
    labels: dict[str, str]
    """What the table of contents calls a chapter."""


class _Book:
    """An EPUB's parts by their path; every fault is the book's."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._names = frozenset(archive.namelist())

    def refuse_locks(self) -> None:
        if _ENCRYPTION not in self._names:
            return
        methods = self._tree(_ENCRYPTION).iter("{*}EncryptionMethod")
        if any(method.get("Algorithm") not in _FONT_OBFUSCATION for method in methods):
            raise ParseFailed("encrypted", "the book is protected by digital rights management")

    def package(self) -> _Package:
        root_file = next(self._tree(_CONTAINER).iter("{*}rootfile"), None)
        path = "" if root_file is None else root_file.get("full-path", "")
        package = self._tree(path)
        title = next(("".join(found.itertext()) for found in package.iter("{*}title")), "")
        manifest = {
            item.get("id", ""): _Item(_resolved(path, item.get("href", "")), item) for item in package.iter("{*}item")
        }
        spine = tuple(self._spine(package, manifest))
        if not spine:
            raise ParseFailed("broken", "the book's spine names no chapter", part=path)
        contents = [item.path for item in manifest.values() if item.is_contents and item.path in self._names]
        return _Package(" ".join(title.split()), spine, self._labels(contents))

    def _spine(self, package: etree._Element, manifest: dict[str, _Item]) -> Iterator[str]:
        for reference in package.iter("{*}itemref"):
            item = manifest.get(reference.get("idref", ""))
            if item is None:
                raise ParseFailed("broken", f"the spine names {reference.get('idref')!r}, which the book does not list")
            if item.media_type in _CHAPTERS:
                yield item.path

    def _labels(self, contents: list[str]) -> dict[str, str]:
        labels: dict[str, str] = {}
        for path in contents:
            # Only a label is at stake: a table of contents is read as far as it can be.
            root = etree.fromstring(self._read(path), _lenient())
            for entry in () if root is None else root.iter("{*}navPoint", "{*}a"):
                target = next((found.get("src") for found in entry.iterchildren("{*}content")), entry.get("href"))
                text = next((found for found in entry.iterchildren("{*}navLabel")), entry)
                if target:
                    labels.setdefault(_resolved(path, target), " ".join("".join(text.itertext()).split()))
        return labels

    def chapter(self, path: str) -> str:
        data = self._read(path)
        if not data.strip():
            return ""
        markup = decoding.decode(data, charset(data))
        refuse_declarations(markup, path)
        return markup

    def _tree(self, path: str) -> etree._Element:
        data = self._read(path)
        markup = decoding.decode(data, charset(data))
        refuse_declarations(markup, path)
        return tree(markup, path)

    def _read(self, path: str) -> bytes:
        if path not in self._names:
            raise ParseFailed("broken", f"the book lacks {path or 'its package'}, which it lists", part=path)
        return self._archive.read(path)


class _Item:
    """One entry of a package's manifest."""

    def __init__(self, path: str, item: etree._Element) -> None:
        self.path = path
        self.media_type = item.get("media-type", "").strip().lower()
        is_nav = "nav" in item.get("properties", "").split()
        self.is_contents = is_nav or self.media_type == "application/x-dtbncx+xml"


def _resolved(base: str, reference: str) -> str:
    """A path in the archive; one that leads out of it names nothing there."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(base), unquote(urldefrag(reference).url)))


def _lenient() -> etree.XMLParser:
    return etree.XMLParser(recover=True, resolve_entities=False, load_dtd=False, no_network=True)
