"""From evidence to the text of an answer with its citations. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rag_service.answering.evidence import Evidence
from rag_service.answering.marks import marked
from rag_service.types import Citation

_CJK_ENDING = re.compile(r"[\u3000-\u9fff\uff00-\uffef][”’]?$")


@dataclass(frozen=True, slots=True)
class Composed:
    """`text` with its marks; each citation's `answer_start:answer_end` is the sentence it supports, mark included."""

    text: str
    citations: tuple[Citation, ...]


def compose(evidence: Sequence[Evidence]) -> Composed:
    """The sentences in the order given, each with its mark before its full stop: `… [1]。`.

    A mark numbers a passage; sentences from one passage share it.
    """
    markers: dict[int, int] = {}
    text = ""
    citations = []
    for one in evidence:
        marker = markers.setdefault(one.sentence.ranked.passage.chunk_id, len(markers) + 1)
        if text:
            text += "" if _CJK_ENDING.search(text) else " "
        begin = len(text)
        text += marked(one.sentence.text, (marker,))
        citations.append(_citation(one, marker, begin, len(text)))
    return Composed(text, tuple(citations))


def _citation(evidence: Evidence, marker: int, begin: int, end: int) -> Citation:
    sentence, passage = evidence.sentence, evidence.sentence.ranked.passage
    return Citation(
        marker=marker, document_id=passage.document_id, document_version=passage.document_version,
        filename=passage.filename, chunk_id=passage.chunk_id, page=passage.page, headings=passage.headings,
        char_start=passage.char_start + sentence.start, char_end=passage.char_start + sentence.end,
        quote=sentence.text, answer_start=begin, answer_end=end,
        # The sentence is the quote, letter for letter: there is nothing it could say that the passage does not.
        verdict="supported", score=round(min(evidence.score, 1.0), 4),
    )  # fmt: skip
