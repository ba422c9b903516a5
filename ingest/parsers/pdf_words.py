"""Words that a line's end cut: mended, or kept with their hyphen, by what else the document says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ingest.parsers.pdf_lines import is_wide

_WORD = re.compile(r"[^\W\d_]+(?:[-\u2010][^\W\d_]+)*")
_CUT = re.compile(r"([^\W\d_]+(?:[-\u2010][^\W\d_]+)*)[-\u2010]$")
_REST = re.compile(r"[^\W\d_]+(?:[-\u2010][^\W\d_]+)*")
_LONGEST_WORD = 100
_CLOSE = re.compile(r"[\u3400-\u9fff](?=[A-Za-z0-9])|[A-Za-z0-9](?=[\u3400-\u9fff])")
_SPACED = re.compile(r"[\u3400-\u9fff] (?=[A-Za-z0-9])|[A-Za-z0-9] (?=[\u3400-\u9fff])")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The words of a document, in lower case, those with hyphens whole."""

    words: frozenset[str]
    parts_scripts: bool = True
    """Whether the document puts a space between Chinese and Latin words."""

    @classmethod
    def of(cls, texts: Iterable[str]) -> Vocabulary:
        """Without the cut words at the ends and their rests at the beginnings of lines."""
        found: set[str] = set()
        cut = False
        spaced = close = 0
        for text in texts:
            spaced += len(_SPACED.findall(text))
            close += len(_CLOSE.findall(text))
            words = _WORD.findall(text)
            ends = _CUT.search(text.rstrip()) is not None
            found.update(word.lower() for word in words[int(cut) : len(words) - int(ends)])
            cut = ends
        return cls(frozenset(found), spaced >= close)

    def join(self, lines: Sequence[str]) -> str:
        text = ""
        for line in lines:
            text = self.glue(text, line)
        return text

    def glue(self, first: str, second: str) -> str:
        """Two lines of a paragraph as one: nothing between Chinese characters, a space between words."""
        left, right = first.rstrip(), second.lstrip()
        if not left or not right:
            return left + right
        if left[-1] in "-\u2010" and right[0].islower():
            # Only the last word is searched: a text grows to thousands of characters, line by line.
            cut, rest = _CUT.search(left[-_LONGEST_WORD:]), _REST.match(right)
            if cut and rest:
                return left + right if self._keeps_hyphen(cut.group(1), rest.group()) else left[:-1] + right
        if left[-1] in "-\u2010\u2013/" and len(left) > 1 and left[-2].isalnum() and right[0].isalnum():
            return left + right
        if is_wide(left[-1]) or is_wide(right[0]):
            both = is_wide(left[-1]) and is_wide(right[0])
            is_parted = self.parts_scripts and not both and _is_word(left[-1]) and _is_word(right[0])
            return f"{left} {right}" if is_parted else left + right
        return f"{left} {right}"

    def _keeps_hyphen(self, cut: str, rest: str) -> bool:
        """`cut` stood before the hyphen at the line's end, `rest` after it."""
        first, second = cut.lower(), rest.lower()
        last = re.split("[-\u2010]", first)[-1]
        if first + second in self.words or last + re.split("[-\u2010]", second)[0] in self.words:
            return False
        return f"{first}-{second}" in self.words or "-" in first or "\u2010" in first


def _is_word(character: str) -> bool:
    """Whether a space belongs between it and a letter of the other script; punctuation stands close."""
    return character.isalnum()
