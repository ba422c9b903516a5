"""The text of a Word paragraph as a reader sees it: ECMA-376 part 1, 17.3 (paragraphs and runs).

Insertions are in, deletions out; hidden text is out, as on paper. A note's reference is `[1]` (an endnote's `[i]`), in
the order of reading. Text boxes, charts and diagrams stand after the paragraph that holds them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mammoth.docx.dingbats import dingbats  # type: ignore[import-untyped]

from ingest.parsers import equations, numerals, opc
from ingest.parsers.opc import child, is_on, local, value

_LEFT_OUT = frozenset((
    "del", "moveFrom", "instrText", "delText", "delInstrText", "pPr", "rPr", "sdtPr", "sdtEndPr", "rubyPr",
    "footnoteRef", "endnoteRef", "annotationRef", "commentReference", "softHyphen", "tblPr", "tblGrid", "trPr", "tcPr",
))  # fmt: skip
_SIGNS = {"tab": "\t", "ptab": "\t", "cr": "\n", "noBreakHyphen": "-"}
_FLOATING = frozenset(("drawing", "pict", "object", "txbxContent"))
NoteKind = str


@dataclass(slots=True)
class Notes:
    """References to notes in the order of reading, each with its mark."""

    marks: dict[tuple[NoteKind, str], str] = field(default_factory=dict)
    _counts: dict[NoteKind, int] = field(default_factory=dict)

    def mark(self, kind: NoteKind, note: str) -> str:
        if (kind, note) not in self.marks:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            style = "decimal" if kind == "footnote" else "lowerRoman"
            self.marks[kind, note] = f"[{numerals.counted(self._counts[kind], style)}]"
        return self.marks[kind, note]


@dataclass(slots=True)
class Inline:
    """What a paragraph comes to."""

    text: str
    floating: list[opc.Element]
    """Drawings and the like, for the caller to write after it."""


def inline(paragraph: opc.Element, notes: Notes) -> Inline:
    pieces: list[str] = []
    floating: list[opc.Element] = []
    _collect(paragraph, notes, pieces, floating)
    return Inline("".join(pieces), floating)


def _collect(element: opc.Element, notes: Notes, pieces: list[str], floating: list[opc.Element]) -> None:
    for part in element:
        name = local(part)
        if name in _LEFT_OUT:
            continue
        if name in _LEAVES:
            pieces.append(_LEAVES[name](part))
        elif name in _SIGNS:
            pieces.append(_SIGNS[name])
        elif name in ("footnoteReference", "endnoteReference"):
            pieces.append(_reference(part, name.removesuffix("Reference"), notes))
        elif name in _FLOATING:
            floating.append(part)
        elif name == "AlternateContent":
            _collect(alternative(part), notes, pieces, floating)
        elif name == "ruby":
            pieces.append(_annotated(part))
        elif not (name == "r" and _is_hidden(part)):
            _collect(part, notes, pieces, floating)


def alternative(element: opc.Element) -> opc.Element:
    """The alternative of an `AlternateContent` that holds text; the first where none does."""
    choices = list(element)
    return next((choice for choice in choices if any(local(one) in _TELLING for one in choice.iter())), element[:1])


_TELLING = frozenset(("t", "relIds", "chart"))


def _reference(element: opc.Element, kind: NoteKind, notes: Notes) -> str:
    # Where the author chose a mark of his own it follows as text.
    own = value(element, "customMarkFollows") in ("1", "true", "on")
    mark = notes.mark(kind, value(element, "id") or "")
    return "" if own else mark


def _is_hidden(run: opc.Element) -> bool:
    properties = child(run, "rPr")
    return properties is not None and is_on(properties, "vanish")


def _annotated(ruby: opc.Element) -> str:
    """Characters with the reading that stands over them."""
    base, reading = (
        "".join(one.text or "" for part in ruby if local(part) == name for one in part.iter() if local(one) == "t")
        for name in ("rubyBase", "rt")
    )
    return f"{base}({reading})" if reading else base


def _text(element: opc.Element) -> str:
    return element.text or ""


def _break(element: opc.Element) -> str:
    """A line end, also where a page or a column ends within the paragraph."""
    return "\n"


def _symbol(element: opc.Element) -> str:
    """A character of a symbol font, as the Unicode character that looks so; the code's own where none is known."""
    code = int(value(element, "char") or "0", 16)
    code = code - 0xF000 if 0xF000 <= code <= 0xF0FF else code
    return chr(dingbats.get((value(element, "font"), code), code))


def _formula(element: opc.Element) -> str:
    return equations.latex(element)


_LEAVES: dict[str, Callable[[opc.Element], str]] = {
    "t": _text,
    "br": _break,
    "sym": _symbol,
    "oMath": _formula,
}
