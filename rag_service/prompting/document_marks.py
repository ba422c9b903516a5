"""Numbers in brackets that a document brought along. Pure."""

from __future__ import annotations

import re

# `[12]`, `［3］`, `【1, 2】`, `【1†source】` as papers and encyclopedias cite, several in a row as one.
_NUMBERS = r"\s?\d{1,3}(?:\s?[,，、;；–-]\s?\d{1,3}){0,9}\s?(?:†[^\[\]［］【】\n]{0,60})?"
_MARKS = re.compile(rf"(?:[\[［【]{_NUMBERS}[\]］】])+")
_IDENTIFIER = re.compile(r"[A-Za-z0-9_]{1,40}\Z")
_TO_ROUND = str.maketrans("[［【]］】", "((()))")


def without_document_marks(text: str) -> str:
    """Round brackets instead: the model would copy them, and what it copied would cite a passage of the prompt.

    Indexes stay where they can be told: `a[1]`, `x_2[3]`, `f()[0]`, `m[1][2]`. A word before the bracket is no sign of
    code: `water[3]` is how encyclopedias cite.
    """
    return _MARKS.sub(lambda found: found.group() if _is_index(text, found.start()) else _round(found.group()), text)


def _is_index(text: str, at: int) -> bool:
    before = text[max(at - 41, 0) : at]
    if before.endswith((")", "]")):
        return True
    word = _IDENTIFIER.search(before)
    return word is not None and ((len(word.group()) == 1 and word.group().isalpha()) or "_" in word.group())


def _round(marks: str) -> str:
    return marks.translate(_TO_ROUND)
