"""Document type declarations: a plain one is an ordinary part of HTML and XHTML, one with declarations is refused."""

from __future__ import annotations

import re

from rag_service.errors import ParseFailed

_DOCTYPE = re.compile(r"<!DOCTYPE[^>\[]*(\[)?", re.IGNORECASE)
_SPACE = re.compile(r"[\s\ufeff]*")


def refuse_declarations(markup: str, part: str = "the document") -> None:
    """Raise ParseFailed("xml-dtd") where the DOCTYPE of `markup` declares entities or anything else itself.

    Nothing here ever reads an external DTD, so that a DOCTYPE that only names one does nothing.
    """
    doctype = _DOCTYPE.match(markup, _prolog_end(markup))
    if doctype is not None and doctype.group(1):
        raise ParseFailed("xml-dtd", f"{part} declares entities in its DTD", part=part)


def _prolog_end(markup: str) -> int:
    """Where the white space, comments and processing instructions at the beginning end."""
    position = 0
    while True:
        position = _SPACE.match(markup, position).end()  # type: ignore[union-attr]  # the pattern matches everywhere
        for opening, closing in (("<?", "?>"), ("<!--", "-->")):
            if markup.startswith(opening, position):
                end = markup.find(closing, position)
                position = len(markup) if end < 0 else end + len(closing)
                break
        else:
            return position
