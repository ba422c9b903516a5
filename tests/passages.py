"""Made-up passages for tests of pure policy."""

from __future__ import annotations

from rag_service.text import language_of
from rag_service.types import Passage, RankedPassage, Scores


def passage(text: str, chunk_id: int = 1, document_id: str = "d", char_start: int = 0) -> Passage:
    return Passage(
        chunk_id=chunk_id, knowledge_base_id="kb", document_id=document_id, document_version=1,
        filename=f"{document_id}.txt", media_type="text/plain", page=None, headings=("Title",),
        language=language_of(text), char_start=char_start, char_end=char_start + len(text), text=text,
    )  # fmt: skip


def ranked(text: str, score: float = 0.5, chunk_id: int = 1, document_id: str = "d", at: int = 0) -> RankedPassage:
    return RankedPassage(passage(text, chunk_id, document_id, at), Scores(score, score, score))
