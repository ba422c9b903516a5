"""HTML, by way of Markdown: the visible text without links' addresses, images and inline styling."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from bs4 import BeautifulSoup
from bs4.element import Declaration, NavigableString, PageElement, ProcessingInstruction, Tag
from markdownify import ATX, MarkdownConverter

from ingest.parsers import decoding, lines, markdown_table
from ingest.parsers.canonical import CanonicalText, clean
from ingest.parsers.dtd import refuse_declarations
from ingest.parsers.markdown import add_markdown
from rag_service import media_types
from rag_service.errors import ParseFailed
from rag_service.types import ParsedDocument

_CHARSET = re.compile(rb"<(?:meta|\?xml)[^>]*?(?:charset|encoding)\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_INVISIBLE = ("script", "style", "template", "head", "title", "svg", "select", "noscript", "iframe", "audio", "video")
_HIDDEN_STYLE = re.compile(r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*hidden)\b", re.IGNORECASE)
_INLINE = ["a", "img", "b", "strong", "i", "em", "u", "s", "del", "ins", "sub", "sup", "kbd", "samp", "code"]
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_TITLES = ("p", "div", "center", *_HEADINGS)
"""What may say the page's title in its text."""
_PARTS = ("caption", "thead", "tbody", "tfoot", "tr", "td", "th")
_SPACES = re.compile(r"[ \t]{2,}")
_LINE = re.compile(r"(?<=\n)(?=[^\n])")
_BACKTICKS = re.compile(r"`{3,}")
_XML_DECLARATION = re.compile(r"\s*<\?xml[^>]*>")
_CDATA = "<![CDATA["
_BULLET = re.compile(r"(?:[•·●○■◆▪◦‣∙\uf0b7\uf0a7\uf0d8]\.?|[-–—*](?=\s))\s*")
_NUMBER = re.compile(r"(\d{1,9})[.)、．](?!\d)\s*", re.ASCII)
_MOST_COLUMNS = 1_000
_MOST_ROWS = 65_534
"""What browsers take `colspan` and `rowspan` for at most (HTML Standard, 4.9.11)."""
_TABLE_BYTES = 64_000_000
_CELL_BYTES = 3


class HtmlParser:
    name = "html/2"
    media_types = (media_types.HTML,)
    suffixes = (".html", ".htm", ".xhtml")

    def parse(self, data: bytes) -> ParsedDocument:
        canonical = CanonicalText()
        add_page(canonical, data)
        return canonical.document(self.name)


def charset(data: bytes) -> str | None:
    """The charset an HTML (or XHTML) file declares for itself in its first 4,096 bytes."""
    match = _CHARSET.search(data[:4096])
    return match.group(1).decode("ascii", "replace") if match else None


def add_page(canonical: CanonicalText, data: bytes) -> None:
    """Append an HTML file's blocks, in the encoding it declares."""
    markup = decoding.decode(data, charset(data))
    refuse_declarations(markup)
    add_html(canonical, markup)


def add_html(canonical: CanonicalText, markup: str, *, title: str | None = None, above: str = "") -> None:
    """Append an HTML text's blocks, read as browsers read it: what no tag or comment closes goes on to the end.

    Its own <title> becomes the first heading where the page has no <h1>; a `title` handed in stands for it, and only
    where the page has text and no heading at all. A heading `above` comes before either where the page has text. What
    the text itself begins with is not said again.
    """
    soup = _soup(markup)
    own = _title(soup) if title is None else "" if soup.find(_HEADINGS) else title
    _drop_invisible(soup)
    _rewrite(soup)
    wanted = [" ".join(heading.split()) for heading in (above, own)]
    missing = _unsaid(soup, [heading for heading in wanted if heading])
    body = _markdown(soup)
    if body.strip() or title is None:
        for heading in missing:
            canonical.add("heading", f"# {heading}", level=1)
    add_markdown(canonical, body)


def visible(markup: str) -> str:
    """All text that a browser shows, without its structure."""
    soup = _soup(markup)
    _drop_invisible(soup)
    return soup.get_text()


def _soup(markup: str) -> BeautifulSoup:
    """By libxml2, which reads any tags in linear time; Python's own parser begins anew at every one left open."""
    markup = clean(markup)
    declaration = _XML_DECLARATION.match(markup)
    first, *pieces = markup[declaration.end() if declaration else 0 :].split(_CDATA)
    return BeautifulSoup(first + "".join(map(_without_cdata, pieces)), "lxml")


def _without_cdata(piece: str) -> str:
    """What XHTML holds as CDATA is text, of which HTML knows nothing."""
    body, closing, rest = piece.partition("]]>")
    return f"{html.escape(body, quote=False)}{rest}" if closing else _CDATA + piece


def _title(soup: BeautifulSoup) -> str:
    if soup.title is None or soup.find("h1") is not None:
        return ""
    return " ".join(soup.title.get_text(" ", strip=True).split())


def _unsaid(soup: BeautifulSoup, headings: Sequence[str]) -> list[str]:
    """Those of `headings` the text does not begin with, each once; a paragraph that says one becomes a heading."""
    first = _first_block(soup)
    said = " ".join(first.get_text().split()) if first is not None else ""
    if first is not None and said in headings and first.name not in _HEADINGS:
        first.name = "h1"
    return [heading for heading in dict.fromkeys(headings) if heading != said]


def _first_block(soup: BeautifulSoup) -> Tag | None:
    """The paragraph or heading the visible text begins with."""
    first = _first_text(soup)
    return None if first is None else first.find_parent(_TITLES)


def _first_text(tag: Tag) -> NavigableString | None:
    return next((node for _, node in _walk(tag) if type(node) is NavigableString and node.strip()), None)


def _walk(tag: Tag, enter: Callable[[PageElement], bool] = lambda _: True) -> Iterator[tuple[int, PageElement]]:
    """What a tag holds, in order, each with its place in its parent; nothing within what is not to be entered."""
    walk = [enumerate(tag.contents)]
    while walk:
        place, node = next(walk[-1], (0, None))
        if node is None:
            walk.pop()
            continue
        yield place, node
        if isinstance(node, Tag) and enter(node):
            walk.append(enumerate(node.contents))


def _drop_invisible(soup: BeautifulSoup) -> None:
    # By place and from the end, as a page may hold a hundred thousand of them side by side or in each other.
    found = [(place, node) for place, node in _walk(soup, lambda node: not _is_invisible(node)) if _is_invisible(node)]
    for place, node in reversed(found):
        node.extract(_self_index=place)


def _is_invisible(node: PageElement) -> bool:
    if isinstance(node, Tag):
        return node.name in _INVISIBLE or _is_hidden(node)
    return isinstance(node, (Declaration, ProcessingInstruction))


def _is_hidden(tag: Tag) -> bool:
    hidden = tag.get("hidden")
    return (hidden is not None and hidden != "until-found") or _HIDDEN_STYLE.search(
        str(tag.get("style", ""))
    ) is not None


def _rewrite(soup: BeautifulSoup) -> None:
    """What Markdown has no form for, in a form that reads well as text."""
    for link in soup("a"):
        # A menu's links often stand apart by their style only.
        if isinstance(link.next_sibling, Tag) and link.next_sibling.name == "a":
            link.append(" ")
    for ruby in soup("ruby"):
        _put_readings_last(ruby)
    for found_list in soup(("ol", "ul")):
        _mark_items(found_list)
    for formula in soup("math"):
        source = formula.find("annotation", encoding="application/x-tex")
        if isinstance(source, Tag):
            formula.replace_with(f"${source.get_text().strip()}$")
    for found in _survey(soup):
        if found.is_layout():
            for part in (found.tag, *found.parts):
                part.name = "div"


def _put_readings_last(ruby: Tag) -> None:
    """`漢（かん）字（じ）` would break the word: `漢字（かんじ）`."""
    readings = "".join(reading.extract().get_text() for reading in ruby("rt"))
    for bracket in ruby("rp"):
        bracket.extract()
    if readings.strip():
        ruby.append(f"（{readings.strip()}）")


def _mark_items(found: Tag) -> None:
    """Number a list's items in `value`; marks that the text brings itself, as some programs write them, are dropped."""
    items = [(item, _first_text(item)) for item in found.find_all("li", recursive=False)]
    number = _whole(found, "start", 1) - 1
    own: list[tuple[NavigableString, int]] = []
    for item, text in items:
        number = _whole(item, "value", number + 1)
        item["value"] = str(number)
        if text is not None and (length := _own_mark(text, number if found.name == "ol" else None)):
            own.append((text, length))
    if len(own) == sum(text is not None for _, text in items):
        for text, length in own:
            text.replace_with(NavigableString(text.lstrip()[length:]))


def _own_mark(text: str, number: int | None) -> int:
    """How long the mark is that a text begins with, if it is the one its item has: its number, or any bullet."""
    match = (_BULLET if number is None else _NUMBER).match(text.lstrip())
    return match.end() if match is not None and number in (None, int(match[1] if match.re.groups else 0)) else 0


def _whole(tag: Tag, attribute: str, otherwise: int) -> int:
    value = str(tag.get(attribute, ""))
    return int(value) if re.fullmatch("[0-9]{1,9}", value) else otherwise


@dataclass(slots=True)
class _Table:
    """What is known of a table before it is decided whether it holds data or places blocks on a page."""

    tag: Tag
    outer: _Table | None
    parts: list[Tag] = field(default_factory=list)
    characters: int = 0
    """Of text, without that of tables inside."""
    nested: int = 0
    blocks: bool = False
    head: bool = False
    stray: bool = False
    """Whether text stands between its cells, where a table has no place for it, or a cell in no row."""

    def is_layout(self) -> bool:
        """Old pages place their blocks by tables: such a one has headings in its cells, or mostly other tables."""
        cells = sum(part.name in ("td", "th") for part in self.parts)
        if self.tag.get("role") == "presentation" or cells <= 1 or self.stray:
            return True
        return not self.head and (self.blocks or self.nested > self.characters)


def _survey(soup: BeautifulSoup) -> list[_Table]:
    """All tables, outer before inner, in one walk: pages nest them by the thousand."""
    found: list[_Table] = []
    walk: list[tuple[Iterator[PageElement], _Table | None, bool]] = [(iter(soup.contents), None, False)]
    while walk:
        nodes, table, in_cell = walk[-1]
        node = next(nodes, None)
        if node is None:
            walk.pop()
        elif isinstance(node, Tag):
            inner = table
            if node.name == "table":
                inner = _Table(node, table)
                found.append(inner)
            elif table is not None:
                _note(table, node)
                is_placed = node.parent is not None and node.parent.name == "tr"
                table.stray = table.stray or (node.name in ("td", "th") and not is_placed)
            is_cell = node.name != "table" and (in_cell or node.name in ("td", "th", "caption"))
            if table is not None and inner is not table:
                table.stray = table.stray or not in_cell
            walk.append((iter(node.contents), inner, is_cell))
        elif table is not None and type(node) is NavigableString:
            characters = len(node.strip())
            table.characters += characters
            table.stray = table.stray or (characters > 0 and not in_cell)
    for table in reversed(found):
        if table.outer is not None:
            table.outer.nested += table.characters + table.nested
    return found


def _note(table: _Table, tag: Tag) -> None:
    if tag.name in _PARTS:
        table.parts.append(tag)
    table.head = table.head or tag.name in ("th", "thead", "caption")
    table.blocks = table.blocks or tag.name in (*_HEADINGS, "form")


def _folded(text: str) -> str:
    """Line ends of the source mean nothing outside <pre>: a space, or nothing between Chinese characters."""
    text = _SPACES.sub(" ", text)
    body = text.strip()
    if "\n" not in body:
        return text
    before, after = text[:1].isspace(), text[-1:].isspace()
    flowing = lines.flow(body.split("\n"))
    return f"{' ' * before}{flowing}{' ' * after}"


def _markdown(soup: BeautifulSoup) -> str:
    """The soup as Markdown, or as bare lines of text where it nests too deeply for a recursive walk."""
    try:
        return _Markdown().convert_soup(soup)
    except RecursionError:
        return "\n\n".join(_folded(node.strip()) for _, node in _walk(soup) if type(node) is NavigableString)


class _Markdown(MarkdownConverter):
    """Block structure only. Nothing is escaped but a table's bars: the result is read by people, not rendered."""

    def __init__(self) -> None:
        super().__init__(
            heading_style=ATX,
            bullets="-",
            strip=_INLINE,
            escape_asterisks=False,
            escape_underscores=False,
            table_infer_header=True,
        )
        self._cells: dict[int, str] = {}

    def process_text(self, el: NavigableString, parent_tags: set[str] | None = None) -> str:
        if not (parent_tags or set()) & {"pre", "textarea"}:
            # What stands beside a text decides which of its ends matter.
            folded = NavigableString(_folded(el))
            folded.parent, folded.previous_sibling = el.parent, el.previous_sibling
            folded.next_sibling = el.next_sibling
            el = folded
        return str(super().process_text(el, parent_tags))  # type: ignore[misc]  # the library's stubs lack it

    def convert_td(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        """Kept until the whole table is known."""
        self._cells[id(el)] = " ".join(text.split())
        return text

    convert_th = convert_td

    def convert_tr(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        return text if el.find_parent("table") is None else ""

    def convert_table(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        caption = "\n\n".join(found.get_text(" ", strip=True) for found in el.find_all("caption"))
        grid = _Grid()
        for row in _rows(el):
            grid.add_row(self._cell(cell) for cell in _cells(row))
        if not grid.rows:
            return f"\n\n{text.strip()}\n\n"
        if parent_tags & {"td", "th"}:
            # A table within a cell, where bars are taken.
            return "\n".join(["", caption, *(", ".join(filter(None, row)) for row in grid.rows), ""])
        # A row alone heads nothing: what spans its columns is said once.
        pieces = markdown_table.grid(grid.rows, grid.spans if len(grid.rows) > 1 else ())
        return "\n\n".join(["", caption, *(_source(kind, piece) for kind, piece in pieces), ""])

    def _cell(self, tag: Tag) -> _Cell:
        columns, rows = _span(tag, "colspan", _MOST_COLUMNS), _span(tag, "rowspan", _MOST_ROWS)
        return _Cell(self._cells[id(tag)], columns, rows)

    def convert_li(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        body = text.strip()
        is_numbered = el.parent is not None and el.parent.name == "ol"
        mark = f"{el['value']}. " if is_numbered else "- "
        return f"{mark}{_LINE.sub(' ' * len(mark), body)}\n" if body else "\n"

    def convert_pre(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        """Fenced by more backticks than it holds."""
        longest = max((len(run) for run in _BACKTICKS.findall(text)), default=2)
        fence = "`" * (longest + 1)
        body = text.strip("\n")
        return f"\n\n{fence}\n{body}\n{fence}\n\n" if text else ""


def _source(kind: str, text: str) -> str:
    """A piece of a table as Markdown, the ends of its lines meant."""
    return text if kind == "table" else text.replace("\n", "  \n")


def _rows(table: Tag) -> list[Tag]:
    """A table's rows in the order they are shown: the head first, the foot last, wherever they stand."""
    order = {"thead": 0, "tfoot": 2}
    found = [row for row in table("tr") if row.find_parent("table") is table]
    return sorted(found, key=lambda row: order.get(row.parent.name if row.parent is not None else "", 1))


def _cells(row: Tag) -> list[Tag]:
    return [cell for cell in row(("td", "th")) if cell.find_parent("tr") is row]


@dataclass(frozen=True, slots=True)
class _Cell:
    text: str
    columns: int
    rows: int


class _Grid:
    """Cells in their columns; one over several columns leaves the others empty, one over several rows is in each."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = []
        self.spans: list[markdown_table.Span] = []
        self._reaching: dict[int, _Cell] = {}
        """What reaches into the next row, by its first column."""
        self._bytes = 0

    def add_row(self, cells: Iterable[_Cell]) -> None:
        """Raises ParseFailed("output-limit") where spans make a table of a few cells fill the memory."""
        self.rows.append([])
        waiting, self._reaching = self._reaching, {}
        for cell in cells:
            while (above := waiting.pop(len(self.rows[-1]), None)) is not None:
                self._place(above)
            self._place(cell)
        for column in sorted(waiting):
            if column >= len(self.rows[-1]):
                self.rows[-1] += [""] * (column - len(self.rows[-1]))
                self._place(waiting[column])

    def _place(self, cell: _Cell) -> None:
        row = self.rows[-1]
        if cell.rows > 1:
            self._reaching[len(row)] = _Cell(cell.text, cell.columns, cell.rows - 1)
        if cell.columns > 1:
            self.spans.append(markdown_table.Span(len(self.rows) - 1, len(row), len(row) + cell.columns))
        row += [cell.text, *[""] * (cell.columns - 1)]
        self._bytes += len(cell.text) + _CELL_BYTES * cell.columns
        if self._bytes > _TABLE_BYTES:
            raise ParseFailed("output-limit", "a table's cells span too much", limit_bytes=_TABLE_BYTES)


def _span(cell: Tag, attribute: str, most: int) -> int:
    return max(1, min(most, _whole(cell, attribute, 1)))
