"""What both languages need before anything else: folding, lexical terms, sentence boundaries, language of a span.

Everything here is pure and works on Unicode code points; offsets are those of the text handed in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rag_service.text.characters import CJK_RUN
from rag_service.text.questions import EMPTY_STEMS, matter_of
from rag_service.text.sentence_ends import may_end_a_sentence, sentences
from rag_service.text.terms import TERMS_VERSION, Sought, fold, index_terms, lexical_terms, simplified, stem
from rag_service.types import Language

__all__ = [
    "EMPTY_STEMS",
    "TERMS_VERSION",
    "Sought",
    "fold",
    "in_context",
    "in_document",
    "index_terms",
    "language_of",
    "lexical_terms",
    "matter_of",
    "may_end_a_sentence",
    "sentences",
    "simplified",
    "stem",
    "storable",
]

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,5}$")
_LATIN_WORD = re.compile(r"[A-Za-z]+")


def storable(text: str) -> str:
    """`text` with U+FFFD for what no database holds as text: U+0000, and half of a surrogate pair."""
    return _UNSTORABLE.sub("\ufffd", text)


def in_context(headings: Sequence[str], text: str) -> str:
    """`text` under its heading path, as it is embedded and indexed: a section seldom repeats what it is about.

    Headings that `text` itself begins with are not said twice.
    """
    opening = text[: sum(len(heading) + 16 for heading in headings)]
    missing = [heading for heading in headings if heading not in opening]
    return "\n".join([*missing, text])


def in_document(title: str, headings: Sequence[str], text: str) -> str:
    """`text` as it is indexed by words: also under its document's title, a file name without its suffix.

    Of a long document few passages say whom it is about. (Embedded it is without: that would embed all of it anew when
    a file is renamed.)
    """
    return in_context((_SUFFIX.sub("", title), *headings), text)


def language_of(text: str) -> Language:
    """`zh` where Han characters carry at least as much as the Latin words beside them, else `en`.

    One Latin word weighs as much as two Han characters: about what each carries, and it keeps product names inside a
    Chinese sentence from turning the sentence English.
    """
    han = sum(len(run.group()) for run in CJK_RUN.finditer(text))
    words = sum(1 for _ in _LATIN_WORD.finditer(text))
    return "zh" if han > 0 and han >= 2 * words else "en"
