"""Questions that ask for several things, and which of these an answer says nothing of. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rag_service.text import EMPTY_STEMS, index_terms, language_of, lexical_terms, matter_of

_ASKS = re.compile(
    r"什么|哪|谁|多少|几(?!乎)|怎|如何|为何|何[时地]|多[大长久高远]|是否|吗"
    r"|\b(?:what|which|who|whom|whose|when|where|why|how)\b",
    re.IGNORECASE,
)
_BETWEEN = re.compile(
    r"[?？;；。！!\n，,]+|以及|还有|并且|另外"
    r"|\b(?:and|or)\b(?=\s+(?:for |in |at |by |from |to )?(?:what|which|who|whom|whose|when|where|why|how)\b)",
    re.IGNORECASE,
)


def parts(question: str) -> tuple[str, ...]:
    """What is asked, each with what leads up to it: "In May, who pays, and how much?" asks two things. All of
    `question` where it asks for one thing or nothing."""
    found: list[str] = []
    leading = ""
    for piece in _BETWEEN.split(question):
        leading = f"{leading} {piece}".strip()
        if _ASKS.search(piece):
            found.append(leading)
            leading = ""
    return tuple(found) if len(found) > 1 else (question,)


def unsaid(question: str, shown: Iterable[str]) -> tuple[str, ...]:
    """The parts of `question` of which no text shown says a word that the other parts do not have.

    Only texts in the part's own language can tell, so a part that another language may answer is none of them.
    """
    asked = parts(question)
    if len(asked) == 1:
        return ()
    shown = list(shown)
    said = frozenset(term for text in shown for term in index_terms(text))
    terms = [frozenset(lexical_terms(matter_of(part))) - EMPTY_STEMS for part in asked]
    silent = []
    for at, part in enumerate(asked):
        own = terms[at].difference(*terms[:at], *terms[at + 1 :])
        if own and not own & said and all(language_of(text) == language_of(part) for text in shown):
            silent.append(part)
    return tuple(silent)
