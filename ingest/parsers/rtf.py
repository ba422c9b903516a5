"""Rich Text Format 1.9.1: an own reader, as the library for it drops footnotes and text boxes and fails on bytes.

Bytes are read in the code page of their font (`\\fcharset`), else the document's (`\\ansicpg`). Headings are told by
their outline level or style, list items by the marks that Word writes before them, tables by `\\intbl`. Running heads,
comments, deleted and hidden text stay out; footnotes keep their mark and come last.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ingest.parsers import markdown_table, mojibake
from ingest.parsers.canonical import CanonicalText
from rag_service import media_types
from rag_service.errors import ParseFailed
from rag_service.types import ParsedDocument

_TOKEN = re.compile(
    rb"\\(?P<word>[a-zA-Z]{1,32})(?P<number>-?[0-9]{1,10})?[ ]?"
    rb"|(?P<hex>(?:\\'[0-9a-fA-F]{2})+)"
    rb"|\\(?P<symbol>[^a-zA-Z])"
    rb"|(?P<brace>[{}])"
    rb"|(?P<ends>[\r\n\x00]+)"
    rb"|(?P<text>[^\\{}\r\n\x00]+)",
    re.DOTALL,
)
_PICTURE = re.compile(rb"[^\\{}]+")
"""What means nothing where text is skipped: a picture is megabytes of it."""
_DEEPEST = 5_000
_CHARSETS = {
    77: "mac_roman", 128: "cp932", 129: "cp949", 130: "johab", 134: "gb18030", 136: "big5hkscs", 161: "cp1253",
    162: "cp1254", 163: "cp1258", 177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251", 222: "cp874",
    238: "cp1250", 254: "cp437", 255: "cp850",
}  # fmt: skip
_WIDE = {"936": "gb18030", "950": "big5hkscs", "932": "cp932", "949": "cp949", "54936": "gb18030", "65001": "utf-8"}
_LONE_SIGN = re.compile(rb"((?<![\x80-\xff])[\x85\x91-\x97\xa0](?![\x80-\xff]))")
"""A Western quotation mark, dash, ellipsis or space, of which a Chinese character would need two."""
_SYMBOLS = {b"~": "\xa0", b"_": "-", b"-": "", b"{": "{", b"}": "}", b"\\": "\\", b"\t": "\t"}
_CHARACTERS = {
    "tab": "\t", "line": "\n", "emdash": "—", "endash": "–", "emspace": " ", "enspace": " ", "qmspace": " ",
    "bullet": "•", "lquote": "‘", "rquote": "’", "ldblquote": "“", "rdblquote": "”",
}  # fmt: skip
_SKIPPED_NAMES = """
fonttbl colortbl stylesheet info pict objdata header headerl headerr headerf footer footerl footerr footerf fldinst
annotation atnid atnauthor atndate atnref atntime atnparent atrfstart atrfend bkmkstart bkmkend tc tcn xe themedata
colorschememapping datastore latentstyles listtable listoverridetable rsidtbl generator xmlnstbl mmathPr pgptbl
revtbl filetbl nonshppict shprslt nonesttables sp ftnsep ftnsepc ftncn aftnsep aftnsepc aftncn template passwordhash
userprops docvar falt panose factoidname fname txe rxe private datafield oldcprops oldpprops pnseclvl
"""
_SKIPPED = frozenset(_SKIPPED_NAMES.split())
_STARRED = frozenset(
    ("shpinst", "shptxt", "ud", "footnote", "listtext", "pntext", "fldrslt", "mmath", "moMath", "moMathPara")
)
"""Destinations that a reader may skip if it does not know them, but that hold text."""
_PROPERTIES = re.compile("m[a-zA-Z]+Pr$")
"""What stands before each part of a formula, whose letters alone are read."""
_OF_PARAGRAPHS = frozenset(("pard", "s", "outlinelevel", "intbl"))
_SAME_SIDE = 60
"""Twips, a twentieth of a point each."""
_MOST_COLUMNS = 200
"""Of a table (63 in Word itself). With more, rows are no table's, and a few bytes each would fill the memory."""
_HEADING = re.compile(r"(?:heading|标题|標題|titre|überschrift)\s*([1-9])$", re.IGNORECASE)


class RtfParser:
    name = "rtf/1"
    media_types = (media_types.RTF,)
    suffixes = (".rtf",)

    def parse(self, data: bytes) -> ParsedDocument:
        body = data.removeprefix(b"\xef\xbb\xbf").strip(b"\x00 \t\r\n")
        if not body:
            raise ParseFailed("empty", "the file is empty")
        if not body.startswith(b"{\\rtf"):
            raise ParseFailed("broken", "not an RTF document (it does not begin with {\\rtf)")
        reader = _Reader(body)
        reader.read()
        return _document(reader.paragraphs, self.name)


class _Edge(NamedTuple):
    """The right side of a cell, in twips, and whether the cell goes on with the one above it."""

    place: int
    goes_on: bool


@dataclass(frozen=True, slots=True)
class _Paragraph:
    text: str
    level: int | None
    is_item: bool
    cells: tuple[str, ...] | None = None
    """A row of a table, in place of a text."""
    edges: tuple[_Edge, ...] = ()
    """Of its cells, where the file tells them."""


@dataclass(frozen=True, slots=True)
class _Group:
    """What a brace opens and its partner restores."""

    skipped: bool = False
    footnote: bool = False
    mark: bool = False
    """The bullet or number before a list item, as text."""
    codec: str | None = None
    hidden: bool = False
    pair: bool = False
    """Skipped as the older half of a pair (`\\upr`), whose other half says the same in Unicode."""
    fallback: int = 1
    """How many characters stand in for one given by its code (`\\uc`)."""


@dataclass(slots=True)
class _Stream:
    """Text on its way to paragraphs: the body's, or a footnote's."""

    text: list[str] = field(default_factory=list)
    mark: list[str] = field(default_factory=list)
    cell: list[str] = field(default_factory=list)
    """Paragraphs of the present cell that are complete."""
    row: list[str] = field(default_factory=list)
    edges: list[_Edge] = field(default_factory=list)
    goes_on: bool = False
    """What is told of the cell whose right side comes next."""
    level: int | None = None
    style: int | None = None
    in_table: bool = False


class _Reader:
    """One pass over the tokens, with a stack of groups of its own: no depth of nesting is a recursion."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._fonts = _fonts(data)
        self._styles = _styles(data)
        self._page = _code_page(data)
        self._group = _Group()
        self._stack: list[_Group] = []
        self._bytes = bytearray()
        self._units: list[int] = []
        self._to_skip = 0
        self._starred = False
        self._opening = False
        self._body, self._note = _Stream(), _Stream()
        self._notes = 0
        self.paragraphs: list[_Paragraph] = []
        self._footnotes: list[_Paragraph] = []

    def read(self) -> None:
        """Raises ParseFailed("broken") for a file that ends inside a group."""
        position = 0
        while position < len(self._data):
            if self._group.skipped and (passed := _PICTURE.match(self._data, position)) is not None:
                position = passed.end()
                self._opening = False
                continue
            match = _TOKEN.match(self._data, position)
            if match is None:
                raise ParseFailed("broken", "the RTF document ends in the middle of a control word")
            position = match.end()
            if match["word"] == b"bin":
                position = self._binary(position, int(match["number"] or 0))
            elif match["ends"] is None:
                self._token(match)
            if match["brace"] == b"}" and not self._stack:
                # What follows the outermost group is not the document's: Word does not show it.
                break
        else:
            raise ParseFailed("broken", f"the RTF document is cut short: {len(self._stack)} groups are still open")
        self._flush()
        self._end_paragraph(self._body)
        self.paragraphs += self._footnotes

    def _binary(self, position: int, length: int) -> int:
        if not 0 <= length <= len(self._data) - position:
            raise ParseFailed("broken", "the RTF document has a binary part longer than itself")
        self._opening = self._starred = False
        return position + length

    def _token(self, match: re.Match[bytes]) -> None:
        opening, self._opening = self._opening, False
        if match["hex"] is not None:
            self._add_bytes(bytes.fromhex(match["hex"].replace(b"\\'", b"").decode("ascii")))
        elif match["text"] is not None:
            self._add_bytes(match["text"])
        elif match["brace"] is not None:
            self._flush()
            self._brace(match["brace"])
        elif match["symbol"] is not None:
            self._symbol(match["symbol"], opening)
        else:
            self._word(
                match["word"].decode("ascii"), None if match["number"] is None else int(match["number"]), opening
            )

    # groups

    def _brace(self, brace: bytes) -> None:
        self._to_skip = 0
        if brace == b"{":
            if len(self._stack) >= _DEEPEST:
                raise ParseFailed("broken", f"groups are nested more than {_DEEPEST} deep")
            self._stack.append(self._group)
            self._opening = True
            self._starred = False
            return
        closed, self._group = self._group, self._stack.pop() if self._stack else _Group()
        if closed.footnote and not self._group.footnote:
            self._end_footnote()

    def _destination(self, word: str) -> bool:
        """Whether the first word of a group says where its text goes."""
        if word == "footnote" and not self._group.skipped and not self._group.footnote:
            self._notes += 1
            self._body_text(f"[^{self._notes}]")
            self._note.text.append(f"[^{self._notes}]: ")
            self._group = replace(self._group, footnote=True)
        elif word in ("listtext", "pntext"):
            self._group = replace(self._group, mark=True)
        elif word == "upr":
            self._group = replace(self._group, pair=self._group.pair or not self._group.skipped, skipped=True)
        elif word == "ud":
            # In what is skipped as a whole (`\\info`) the Unicode half is skipped as well.
            self._group = replace(self._group, skipped=self._group.skipped and not self._group.pair, pair=False)
        elif word in _SKIPPED or _PROPERTIES.match(word) or (self._starred and word not in _STARRED):
            self._group = replace(self._group, skipped=True)
        else:
            return word in _STARRED
        return True

    # words

    def _word(self, word: str, number: int | None, opening: bool) -> None:
        if word == "u" and number is not None:
            self._add_unit(number & 0xFFFF)
            return
        self._flush()
        if (opening or self._starred) and self._destination(word):
            self._starred = False
            return
        self._starred = False
        if self._group.skipped:
            return
        self._format(word, number)
        if word in _CHARACTERS:
            self._add_text(_CHARACTERS[word])
        elif word in ("par", "sect", "page", "column"):
            self._end_line()
        elif word in ("cell", "nestcell", "row", "nestrow"):
            self._table(word)

    def _format(self, word: str, number: int | None) -> None:
        if self._group.mark and word in _OF_PARAGRAPHS:
            # The mark before an item resets the paragraph for itself only.
            return
        stream = self._stream()
        if word == "f" or (word == "deff" and not self._group.codec):
            self._group = replace(self._group, codec=self._fonts.get(number or 0))
        elif word == "uc":
            self._group = replace(self._group, fallback=max(0, min(number or 0, 16)))
        elif word in ("v", "deleted"):
            self._group = replace(self._group, hidden=number != 0)
        elif word == "plain":
            self._group = replace(self._group, hidden=False)
        elif word == "pard":
            stream.level, stream.style, stream.in_table = None, None, False
        elif word == "intbl":
            stream.in_table = True
        elif word in ("trowd", "clvmrg", "cellx"):
            _define_row(stream, word, number or 0)
        elif word == "outlinelevel":
            stream.level = min(number or 0, 5) + 1 if 0 <= (number or 0) < 9 else None
        elif word == "s":
            stream.style = number

    def _symbol(self, symbol: bytes, opening: bool) -> None:
        if symbol == b"*":
            self._starred = opening
            self._opening = False
            return
        self._flush()
        if symbol in b"\r\n":
            self._end_line()
        else:
            self._add_text(_SYMBOLS.get(symbol, ""))

    # text

    def _add_bytes(self, data: bytes) -> None:
        dropped = min(self._to_skip, len(data))
        self._to_skip -= dropped
        if not self._group.skipped:
            self._flush_units(dropped < len(data))
            self._bytes += data[dropped:]

    def _add_unit(self, unit: int) -> None:
        self._flush_bytes()
        self._to_skip = self._group.fallback
        if not self._group.skipped:
            self._units.append(unit)

    def _flush(self) -> None:
        self._flush_units(True)
        self._flush_bytes()

    def _flush_units(self, due: bool) -> None:
        if self._units and due:
            raw = b"".join(unit.to_bytes(2, "little") for unit in self._units)
            self._units.clear()
            self._add_text(raw.decode("utf-16-le", "replace"))

    def _flush_bytes(self) -> None:
        if self._bytes:
            raw = bytes(self._bytes)
            self._bytes.clear()
            self._add_text(_decoded(raw, self._group.codec, self._page))

    def _add_text(self, text: str) -> None:
        if self._group.skipped or self._group.hidden:
            return
        stream = self._stream()
        if self._group.mark:
            stream.mark.append(text)
        else:
            stream.text.append(text)

    def _body_text(self, text: str) -> None:
        self._body.text.append(text)

    def _stream(self) -> _Stream:
        return self._note if self._group.footnote else self._body

    # paragraphs

    def _end_line(self) -> None:
        stream = self._stream()
        if stream.in_table:
            _set_mark(stream)
            stream.text.append(" ")
            stream.cell.append("".join(stream.text))
            stream.text.clear()
        else:
            self._end_paragraph(stream)

    def _end_paragraph(self, stream: _Stream) -> None:
        left = " ".join([*stream.row, *stream.cell])
        found = f"{left} {''.join(stream.text)}".strip()
        mark = "".join(stream.mark).strip()
        stream.row.clear()
        stream.cell.clear()
        stream.text.clear()
        stream.mark.clear()
        if found:
            level = stream.level or self._styles.get(-1 if stream.style is None else stream.style)
            text = f"{_bullet(mark)} {found}" if mark else found
            target = self._footnotes if stream is self._note else self.paragraphs
            target.append(_Paragraph(text, level, bool(mark)))

    def _table(self, word: str) -> None:
        stream = self._stream()
        _set_mark(stream)
        text = " ".join("".join([*stream.cell, *stream.text]).split())
        stream.cell.clear()
        stream.text.clear()
        if word == "cell":
            stream.row.append(text)
        elif word in ("nestcell", "nestrow"):
            # A table in a cell: its cells side by side.
            stream.text.append(f"{text} " if text else "")
        elif stream.row or text:
            cells = (*stream.row, *([text] if text else []))
            stream.row.clear()
            self.paragraphs.append(_Paragraph("", None, False, cells, tuple(stream.edges)))

    def _end_footnote(self) -> None:
        self._end_paragraph(self._note)
        self._note = _Stream()


def _define_row(stream: _Stream, word: str, number: int) -> None:
    if word == "trowd":
        stream.edges.clear()
    elif word == "cellx":
        stream.edges.append(_Edge(number, stream.goes_on))
    stream.goes_on = word == "clvmrg"


def _set_mark(stream: _Stream) -> None:
    """Put a list item's mark before its text, within a cell, where items are no lines of their own."""
    mark = "".join(stream.mark).strip()
    stream.mark.clear()
    if mark:
        stream.text.insert(0, f"{_bullet(mark)} ")


# --- tables at the beginning


def _code_page(data: bytes) -> str:
    match = re.search(rb"\\ansicpg([0-9]{1,5})", data[:4096])
    if match is None:
        return "mac_roman" if re.match(rb"\{\\rtf[0-9]*\s*\\mac\b", data) else "cp1252"
    number = match[1].decode()
    name = _WIDE.get(number, f"cp{number}")
    try:
        return codecs.lookup(name).name
    except LookupError:
        return "cp1252"


def _fonts(data: bytes) -> dict[int, str]:
    """Codecs of the fonts that are of one script; those of Western text say nothing."""
    return {
        int(number): _CHARSETS[int(charset)]
        for number, charset in re.findall(
            rb"\\f([0-9]{1,6})[^;{}]{0,200}?\\fcharset([0-9]{1,3})", _table_of(data, b"fonttbl")
        )
        if int(charset) in _CHARSETS
    }


def _styles(data: bytes) -> dict[int, int]:
    """Heading levels by style number: of styles with an outline level, or named as headings."""
    levels: dict[int, int] = {}
    for entry in re.findall(rb"\{([^{}]*);\}", _table_of(data, b"stylesheet")):
        number = re.search(rb"\\s([0-9]{1,5})", entry)
        outline = re.search(rb"\\outlinelevel([0-8])\b", entry)
        text = re.sub(rb"\\[a-z]+-?[0-9]* ?", b"", re.sub(rb"\\'([0-9a-fA-F]{2})", _unhexed, entry))
        name = _decoded(text, None, _code_page(data)).strip()
        named = _HEADING.search(name)
        if number is not None and (outline or named or name.lower() in ("title", "标题", "標題")):
            level = int(outline[1]) + 1 if outline else int(named[1]) if named else 1
            levels[int(number[1])] = min(level, 6)
    return levels


def _unhexed(match: re.Match[bytes]) -> bytes:
    return bytes([int(match[1], 16)])


def _table_of(data: bytes, name: bytes) -> bytes:
    """The group of a table in the document's head, braces included."""
    start = data.find(b"{\\" + name)
    if start < 0:
        return b""
    depth = 0
    for brace in re.finditer(rb"(?<!\\)[{}]", data[start:]):
        depth += 1 if brace[0] == b"{" else -1
        if depth == 0:
            return data[start : start + brace.end()]
    return b""


# --- bytes to text, paragraphs to blocks


def _decoded(raw: bytes, font: str | None, page: str) -> str:
    """Bytes in their font's code page. A Western font in a Chinese document may hold either: pairs are Chinese."""
    if raw.isascii():
        return raw.decode("ascii")
    if font is not None or page not in _WIDE.values():
        return raw.decode(font or page, "replace")
    return "".join(_either(piece, page) for piece in _LONE_SIGN.split(raw))


def _either(piece: bytes, page: str) -> str:
    if _LONE_SIGN.fullmatch(piece):
        return piece.decode("cp1252")
    try:
        return piece.decode(page)
    except UnicodeDecodeError:
        return piece.decode("cp1252", "replace")


def _bullet(mark: str) -> str:
    """A list item's mark: its number as it is, any bullet as "-"."""
    return mark if mark != "o" and any(character.isalnum() for character in mark) else "-"


def _document(paragraphs: list[_Paragraph], parser: str) -> ParsedDocument:
    damage = mojibake.damage("\n".join(paragraph.text for paragraph in paragraphs))
    if damage > mojibake.DAMAGED:
        raise ParseFailed(
            "encoding", "the text is not readable in the code page it names", confidence=round(1 - damage, 2)
        )
    canonical = CanonicalText()
    for kind, group in _runs(paragraphs):
        if kind == "table":
            rows, spans = _grid(group)
            markdown_table.add_grid(canonical, rows, spans=spans)
        elif kind == "list":
            canonical.add("list", "\n".join(paragraph.text for paragraph in group))
        else:
            _add_single(canonical, group[0])
    return canonical.document(parser)


def _grid(rows: Sequence[_Paragraph]) -> tuple[list[list[str]], list[markdown_table.Span]]:
    """Cells at their columns, which the right sides of all rows' cells make; one merged over rows is in each."""
    places = _columns({edge.place for row in rows for edge in row.edges})
    grid: list[list[str]] = []
    spans: list[markdown_table.Span] = []
    for number, row in enumerate(rows):
        cells = row.cells or ()
        if len(row.edges) != len(cells) or not places:
            grid.append(list(cells))
            continue
        texts: list[str] = []
        for cell, edge in zip(cells, row.edges, strict=True):
            first, last = len(texts), max(places[edge.place], len(texts) + 1)
            above = grid[-1][first] if edge.goes_on and grid and first < len(grid[-1]) else ""
            texts += [cell or above, *[""] * (last - first - 1)]
            if last - first > 1:
                spans.append(markdown_table.Span(number, first, last))
        grid.append(texts)
    return grid, spans


def _columns(places: Iterable[int]) -> dict[int, int]:
    """Right sides of cells to the columns they end, counted from 1; rows of one table differ by a little."""
    columns: dict[int, int] = {}
    before, column = -_SAME_SIDE, 0
    for place in sorted(places):
        column += not columns or place - before > _SAME_SIDE
        columns[place], before = column, place
    return columns if column <= _MOST_COLUMNS else {}


def _add_single(canonical: CanonicalText, paragraph: _Paragraph) -> None:
    if paragraph.level is not None:
        canonical.add("heading", f"{'#' * paragraph.level} {' '.join(paragraph.text.split())}", level=paragraph.level)
    else:
        canonical.add("paragraph", paragraph.text)


def _runs(paragraphs: list[_Paragraph]) -> Iterator[tuple[str, list[_Paragraph]]]:
    """Rows that follow each other as one table, items as one list, anything else by itself."""
    run: list[_Paragraph] = []
    before = ""
    for paragraph in paragraphs:
        kind = "table" if paragraph.cells is not None else "list" if paragraph.is_item and not paragraph.level else ""
        if run and (kind != before or not kind):
            yield before, run
            run = []
        run.append(paragraph)
        before = kind
    if run:
        yield before, run
