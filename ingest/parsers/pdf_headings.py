"""Which paragraphs are headings, and of what level: by the outline, by size, by weight, by number."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ingest.parsers import lines as text_lines
from ingest.parsers.pdf_paragraphs import Paragraph

_HEADING_RATIO = 1.15
_HEADING_CHARACTERS = 120
_SHORT_COLUMNS = 70
_DEEPEST = 6
_NO_ENDS = frozenset("。；;，,、：:")
_CHAPTER = re.compile(r"第\s?[〇零一二三四五六七八九十百千\d]{1,5}\s?([编部篇章节])(?=[\s\u3000]|[^的，。、])")
_PARTS = re.compile(r"(\d{1,2}(?:\.\d{1,2}){1,4})\.?\s?[^\W\d_]")
_CLERICAL = re.compile(r"(?:([一二三四五六七八九十]{1,3})、|[（(]([一二三四五六七八九十]{1,3})[)）])\s?\S")
_ONE_NUMBER = re.compile(r"(?:\d{1,2}|[IVX]{1,4})[.\s、]\s?[^\W\d_]")
_LEADERS = re.compile(r"(?:\.\s?){4,}|…{2,}|·{4,}")
_RANK = {"编": 0, "部": 0, "篇": 0, "章": 1, "节": 2}

Outline = Mapping[str, int]
"""Titles without white space, to their depth from 1."""


@dataclass(frozen=True, slots=True, order=True)
class _Style:
    """What headings of one level share: smaller is further out."""

    size: int
    depth: int


@dataclass(frozen=True, slots=True)
class Headings:
    """The styles headings of a document have, in order of rank."""

    body: int
    bold_body: bool
    ranks: Mapping[_Style, int]
    outline: Outline

    @classmethod
    def of(cls, paragraphs: Sequence[Paragraph], outline: Outline) -> Headings:
        sizes: Counter[int] = Counter()
        bold = total = 0
        for line in (line for paragraph in paragraphs if not paragraph.is_note for line in paragraph.lines):
            sizes[_half_points(line.size)] += len(line.text)
            bold += len(line.text) * line.bold
            total += len(line.text)
        body = sizes.most_common(1)[0][0] if sizes else 0
        plain = cls(body, bold * 2 > total, {}, outline)
        styles = Counter(
            style for paragraph in paragraphs if (style := plain._style(paragraph, _text(paragraph))) is not None
        )
        return cls(body, plain.bold_body, _ranks(styles), outline)

    def level(self, paragraph: Paragraph, text: str) -> int | None:
        """1 to 6; None for what is no heading."""
        told = self.outline.get("".join(text.split()))
        if told is not None and not paragraph.is_note:
            return min(told, _DEEPEST)
        style = self._style(paragraph, text)
        return None if style is None else min(self.ranks.get(style, _DEEPEST), _DEEPEST)

    def _style(self, paragraph: Paragraph, text: str) -> _Style | None:
        if paragraph.is_note or len(text) > _HEADING_CHARACTERS or text[-1:] in _NO_ENDS:
            return None
        if not _has_words(text) or _LEADERS.search(text):
            return None
        size = _half_points(paragraph.first.size)
        if size > _HEADING_RATIO * self.body:
            return _Style(-size, 0)
        if size < 0.9 * self.body or len(paragraph.lines) > 2 or text_lines.columns(text) > _SHORT_COLUMNS:
            return None
        depth = self._depth(paragraph, text)
        return None if depth is None else _Style(-self.body, depth)

    def _depth(self, paragraph: Paragraph, text: str) -> int | None:
        """How deep the number of a heading at the body's size is; None where it is no heading."""
        bold = all(line.bold for line in paragraph.lines) and not self.bold_body
        if text[-1:] in ".!?！？…" and not bold:
            return None
        if match := _CHAPTER.match(text):
            return _RANK[match.group(1)]
        alone = len(paragraph.lines) == 1 and paragraph.last.right < paragraph.edge - 3 * paragraph.last.size
        if match := _PARTS.match(text):
            return 2 + match.group(1).count(".") if bold or (alone and _is_title(text)) else None
        if match := _CLERICAL.match(text):
            return (4 if match.group(1) else 5) if bold or (alone and match.group(1) and _is_title(text)) else None
        if not bold:
            return None
        return 2 if _ONE_NUMBER.match(text) else 8


def _ranks(styles: Counter[_Style]) -> dict[_Style, int]:
    """Levels of styles: one for each that recurs or is numbered; any other goes with the next that does.

    What stands above all these, as a title does, is level 1.
    """
    ranks: dict[_Style, int] = {}
    rank = 1
    is_title = False
    for style in sorted(styles):
        has_own = styles[style] > 1 or style.depth > 0
        if has_own and is_title:
            rank, is_title = rank + 1, False
        elif not has_own:
            is_title = rank == 1
        ranks[style] = rank
        rank += has_own
    return ranks


def _is_title(text: str) -> bool:
    """Without the marks that sentences have inside."""
    return text_lines.columns(text) <= 50 and not re.search(r"[，。；！？]|[.;,]\s", text[4:])


def _text(paragraph: Paragraph) -> str:
    """Enough of it to tell that it is too long for a heading."""
    return " ".join(line.text for line in paragraph.lines[:_HEADING_CHARACTERS]).strip()


def _half_points(size: float) -> int:
    return round(size * 2)


def _has_words(text: str) -> bool:
    """More than the odd symbol of a formula."""
    return sum(text_lines.columns(c) for c in text if c.isalpha()) >= 4
