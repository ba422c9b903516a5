"""Word documents, with the numbers that Word writes before headings and list items.

Headers and footers are left out, as running ones are in a PDF, and so are reviewers' comments: they speak about the
document, and may contradict it. Footnotes and endnotes stand at the end under the marks that refer to them.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ingest.parsers import charts, docx_text, markdown_table, opc
from ingest.parsers.canonical import CanonicalText
from ingest.parsers.docx_numbering import Label, Numbering
from ingest.parsers.docx_styles import Style, Styles, list_of, outline_level
from ingest.parsers.eml import add_mail
from ingest.parsers.html import add_page
from ingest.parsers.opc import child, child_value, local, value
from ingest.parsers.zip_container import Container, Limits
from rag_service import media_types
from rag_service.errors import ParseFailed
from rag_service.types import BlockKind, ParsedDocument

_WORD = Container(
    noun="a Word document",
    required="[Content_Types].xml",
    legacy="a legacy Word (.doc) file named .docx; save it as .docx",
)
_DEEPEST_HEADING = 6
_HEADING_CHARACTERS = 200
"""A longer heading is a clause that was given a heading's style for its number."""
_EMBEDDED: dict[str, Callable[[CanonicalText, bytes], None]] = {
    ".html": add_page, ".htm": add_page, ".xhtml": add_page, ".mht": add_mail, ".mhtml": add_mail,
}  # fmt: skip


class DocxParser:
    name = "docx/2"
    media_types = (media_types.DOCX,)
    suffixes = (".docx", ".docm")

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()

    def parse(self, data: bytes) -> ParsedDocument:
        if opc.STRICT in _WORD.inspect(data, self._limits, marks=(opc.STRICT,)):
            data = opc.transitional(data)
        package = opc.Package(data)
        main, root = _main_part(package)
        canonical = CanonicalText()
        document = _Document(package, main)
        for block in document.blocks(root):
            canonical.add(block.kind, block.text, level=block.level)
        return canonical.document(self.name)


def _main_part(package: opc.Package) -> tuple[str, opc.Element]:
    for part in package.related("", "officeDocument"):
        root = package.xml(part)
        if root is not None and local(root) == "document":
            return part, root
    raise ParseFailed("broken", "a ZIP archive, but not a Word document")


@dataclass(frozen=True, slots=True)
class _Block:
    kind: BlockKind
    text: str
    level: int | None = None


@dataclass(frozen=True, slots=True)
class _Item:
    """A paragraph on its way into a block: items that follow one another become one list, lines of code one block."""

    kind: BlockKind
    text: str
    level: int = 0


class _Document:
    def __init__(self, package: opc.Package, main: str) -> None:
        self._package = package
        self._main = main
        self._styles = Styles(self._part("styles"))
        self._numbering = Numbering(self._part("numbering"))
        self._notes = docx_text.Notes()
        self._held = ""
        self._depth = 0

    def blocks(self, root: opc.Element) -> Iterator[_Block]:
        body = child(root, "body")
        yield from _grouped(self._story(() if body is None else body))
        yield from _grouped(self._note_items())

    def _part(self, kind: str) -> opc.Element | None:
        return next((self._package.xml(part) for part in self._package.related(self._main, kind)), None)

    def _story(self, elements: Iterable[opc.Element]) -> Iterator[_Item | _Block]:
        """What no paragraph outside goes on with: the body, a cell, a text box, a note."""
        yield from self._items(elements)
        yield from self._rest()

    def _items(self, elements: Iterable[opc.Element]) -> Iterator[_Item | _Block]:
        for element in elements:
            name = local(element)
            if name == "p":
                yield from self._paragraph(element)
            elif name == "tbl":
                yield from self._rest()
                yield from self._table(element)
            elif name == "altChunk":
                yield from self._rest()
                yield from self._embedded(_relation(element, "id"))
            elif name == "AlternateContent":
                yield from self._items(docx_text.alternative(element))
            elif name in ("sdt", "sdtContent", "customXml", "ins", "moveTo", "txbxContent", "smartTag"):
                yield from self._items(element)

    def _paragraph(self, element: opc.Element) -> Iterator[_Item | _Block]:
        inline = docx_text.inline(element, self._notes)
        text = self._held + inline.text
        properties = child(element, "pPr")
        self._held = ""
        if _is_mark_deleted(properties):
            # The paragraph goes on in the next one.
            for floating in inline.floating:
                yield from self._floating(floating)
            self._held = text
            return
        style = self._styles.of(None if properties is None else child_value(properties, "pStyle"))
        label = self._label(properties, style)
        if text.strip():
            yield _written(text, label, style, _level(properties, style))
        for floating in inline.floating:
            yield from self._floating(floating)

    def _rest(self) -> Iterator[_Block]:
        """Text of a paragraph that should go on in the next one, where none follows."""
        text, self._held = self._held, ""
        if text.strip():
            yield _Block("paragraph", text)

    def _embedded(self, relation: str | None) -> Iterator[_Block]:
        """A web page that a program put into the document for Word to take over (ECMA-376 part 1, 17.17.2)."""
        part = None if relation is None else self._package.target(self._main, relation)
        add = _EMBEDDED.get(posixpath.splitext(part or "")[1].lower())
        if part is None or add is None or not self._package.holds(part):
            raise ParseFailed("broken", "the text embeds a file that only Word can take over; save it there", part=part)
        canonical = CanonicalText()
        with self._package.open(part) as stream:
            add(canonical, stream.read())
        if canonical.length:
            document = canonical.document("")
            yield from (_Block(one.kind, document.text[one.start : one.end], one.level) for one in document.blocks)

    def _label(self, properties: opc.Element | None, style: Style) -> Label | None:
        number, level = list_of(properties)
        own = number is not None
        number = number if own else style.list_number
        if number is None or number == "0":
            return None
        if level is None and style.list_style is not None:
            level = self._numbering.level_of_style(number, style.list_style)
        if level is None:
            level = style.list_level
        return self._numbering.next(number, level or 0)

    def _floating(self, element: opc.Element) -> Iterator[_Item | _Block]:
        """Text boxes, charts and diagrams."""
        for part in element.iter():
            name = local(part)
            if name == "txbxContent" and not _is_fallback(part, element):
                yield from self._story(part)
            elif name == "chart":
                yield from self._chart(_relation(part, "id"))
            elif name == "relIds":
                yield from self._diagram(_relation(part, "dm"))

    def _chart(self, relation: str | None) -> Iterator[_Block]:
        chart = self._related(relation)
        if chart is not None:
            yield _Block("paragraph", charts.title(chart))
            yield _Block("table", markdown_table.render(charts.rows(chart)))

    def _diagram(self, relation: str | None) -> Iterator[_Item]:
        diagram = self._related(relation)
        for point in () if diagram is None else diagram.iter():
            if local(point) == "pt":
                text = " ".join("".join(one.text or "" for one in point.iter() if local(one) == "t").split())
                if text:
                    yield _Item("list", f"- {text}")

    def _related(self, relation: str | None) -> opc.Element | None:
        part = None if relation is None else self._package.target(self._main, relation)
        return None if part is None else self._package.xml(part)

    def _table(self, element: opc.Element) -> Iterator[_Item | _Block]:
        """A table of several columns; what stands in a frame of one column is text."""
        rows = [row for row in _rows(element) if not _is_deleted(row)]
        if all(_span(cell) == 1 for row in rows for cell in _cells(row)) and all(len(_cells(row)) < 2 for row in rows):
            for row in rows:
                for cell in _cells(row):
                    yield from self._story(cell)
            return
        table, spans = self._read_table(rows)
        if self._depth:
            # A table within a cell, where bars are taken.
            yield _Block("paragraph", "\n".join(", ".join(filter(str.strip, row)) for row in table))
            return
        for kind, text in markdown_table.grid(table, spans):
            yield _Block(kind, text)

    def _read_table(self, rows: Sequence[opc.Element]) -> tuple[list[list[str]], list[markdown_table.Span]]:
        """Rows as strings, cells at their columns; one merged over several rows is repeated in each."""
        table: list[list[str]] = []
        spans: list[markdown_table.Span] = []
        for number, row in enumerate(rows):
            texts: list[str] = [""] * _before(row)
            for cell in _cells(row):
                width = _span(cell)
                above = table[-1][len(texts)] if table and len(texts) < len(table[-1]) else ""
                text = above if _goes_on(cell) else self._cell_text(cell)
                if width > 1:
                    spans.append(markdown_table.Span(number, len(texts), len(texts) + width))
                texts += [text, *[""] * (width - 1)]
            table.append(texts)
        return table, spans

    def _cell_text(self, cell: opc.Element) -> str:
        self._depth += 1
        text = "\n".join(_flat(block) for block in _grouped(self._story(cell)) if block.text.strip())
        self._depth -= 1
        return text

    def _note_items(self) -> Iterator[_Item | _Block]:
        """The notes that were referred to, in that order; notes can refer to no further ones."""
        for kind in ("footnote", "endnote"):
            root = self._part(f"{kind}s")
            notes = {value(note, "id"): note for note in (() if root is None else root)}
            for (told, name), mark in list(self._notes.marks.items()):
                if told == kind and name in notes:
                    text = "\n".join(_flat(block) for block in _grouped(self._story(notes[name])))
                    yield _Block("paragraph", f"{mark} {text.strip()}")


def _written(text: str, label: Label | None, style: Style, level: int | None) -> _Item | _Block:
    mark = "" if label is None or (label.is_bullet and level is not None) else label.text
    gap = "" if label is None else label.gap
    if level is not None and len(text) <= _HEADING_CHARACTERS:
        title = " ".join(f"{mark}{gap if mark else ''}{text.strip()}".split())
        return _Block("heading", f"{'#' * min(level, _DEEPEST_HEADING)} {title}", min(level, _DEEPEST_HEADING))
    if label is not None and mark:
        return _Item("list", f"{mark}{gap}{text.strip()}", label.level)
    if style.is_code:
        return _Item("code", text)
    return _Block("paragraph", text)


def _level(properties: opc.Element | None, style: Style) -> int | None:
    own = outline_level(properties)
    level = own if own is not None else style.level
    return level if level is not None and level < 10 else None


def _grouped(items: Iterable[_Item | _Block]) -> Iterator[_Block]:
    held: list[_Item] = []
    for item in items:
        if held and (isinstance(item, _Block) or item.kind != held[0].kind):
            yield _joined(held)
            held = []
        if isinstance(item, _Block):
            yield item
        else:
            held.append(item)
    if held:
        yield _joined(held)


def _joined(items: Sequence[_Item]) -> _Block:
    if items[0].kind == "code":
        return _Block("code", "\n".join(["```", *(item.text for item in items), "```"]))
    base = min(item.level for item in items)
    return _Block("list", "\n".join(_indented(item.text, "  " * (item.level - base)) for item in items))


def _indented(text: str, indent: str) -> str:
    return indent + text.replace("\n", f"\n{indent}  ")


def _flat(block: _Block) -> str:
    """A block within a cell or a note, without the marks of its kind."""
    if block.kind == "heading":
        return block.text.lstrip("#").strip()
    if block.kind == "code":
        return block.text.removeprefix("```\n").removesuffix("\n```")
    return block.text


def _is_mark_deleted(properties: opc.Element | None) -> bool:
    run = None if properties is None else child(properties, "rPr")
    return run is not None and (child(run, "del") is not None or child(run, "moveFrom") is not None)


def _is_fallback(part: opc.Element, root: opc.Element) -> bool:
    """Whether a text box stands in the copy for old programs, or in another one, which writes it."""
    for parent in part.iterancestors():
        if parent is root:
            return False
        if local(parent) in ("Fallback", "txbxContent"):
            return True
    return False


def _relation(element: opc.Element, name: str) -> str | None:
    return next((text for key, text in element.attrib.items() if key.endswith(f"/relationships}}{name}")), None)


def _rows(table: opc.Element) -> list[opc.Element]:
    return [row for part in table for row in _unwrapped(part, "tr")]


def _cells(row: opc.Element) -> list[opc.Element]:
    return [cell for part in row for cell in _unwrapped(part, "tc")]


def _unwrapped(element: opc.Element, name: str) -> Iterator[opc.Element]:
    """Rows and cells, content controls around them taken off."""
    if local(element) == name:
        yield element
    elif local(element) in ("sdt", "sdtContent", "customXml", "ins", "moveTo"):
        for part in element:
            yield from _unwrapped(part, name)


def _is_deleted(row: opc.Element) -> bool:
    properties = child(row, "trPr")
    return properties is not None and child(properties, "del") is not None


def _span(cell: opc.Element) -> int:
    properties = child(cell, "tcPr")
    told = None if properties is None else child_value(properties, "gridSpan")
    return min(max(int(told or 1), 1), _WIDEST)


_WIDEST = 1000
"""Columns of a Word table at most (63 in the program itself)."""


def _before(row: opc.Element) -> int:
    properties = child(row, "trPr")
    told = None if properties is None else child_value(properties, "gridBefore")
    return min(max(int(told or 0), 0), _WIDEST)


def _goes_on(cell: opc.Element) -> bool:
    """Whether the cell belongs to the one above it."""
    properties = child(cell, "tcPr")
    merge = None if properties is None else child(properties, "vMerge")
    return merge is not None and value(merge, "val") != "restart"
