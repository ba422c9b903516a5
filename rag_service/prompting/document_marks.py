"""Numbers in brackets that a document brought along. Pure."""

from __future__ import annotations

import re

# `[12]`, `［3］`, `【1, 2】` as papers and encyclopedias cite. Not `a[1]`, `x_2[3]` or `m[1][2]`, which are code.
_MARK = re.compile(r"(?:(?<![0-9_)\]])(?<!\b[A-Za-z])\[|[［【])\s?(\d{1,3}(?:\s?[,，、–-]\s?\d{1,3}){0,9})\s?[\]］】]")


def without_document_marks(text: str) -> str:
    """Round brackets instead: the model would copy them, and what it copied would cite a passage of the prompt."""
    return _MARK.sub(r"(\1)", text)
