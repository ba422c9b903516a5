"""How Youju says that the documents do not answer: one exact sentence a reason and language."""

from __future__ import annotations

from rag_service.types import Language, RefusalReason

_SENTENCES: dict[tuple[RefusalReason, Language], str] = {
    ("no_evidence", "zh"): "现有文档中没有找到与这个问题有关的内容。",
    ("no_evidence", "en"): "The documents contain nothing about this question.",
    ("insufficient", "zh"): "现有文档中有相近的内容，但不足以回答这个问题。",
    ("insufficient", "en"): "The documents touch on this, but do not say enough to answer the question.",
    ("unsupported", "zh"): "生成的回答得不到文档的支持，因此不予给出。",
    ("unsupported", "en"): "The answer that was generated is not supported by the documents, so it is not given.",
}


def sentence(reason: RefusalReason, language: Language) -> str:
    return _SENTENCES[reason, language]


def is_refusal(text: str) -> bool:
    """Whether `text` is one of the sentences and nothing else."""
    return text.strip() in _SENTENCES.values()


def reason_for(evidence_score: float, floor: float) -> RefusalReason:
    """Of a question whose evidence stays below its floor."""
    return "no_evidence" if hopeless(evidence_score, floor) else "insufficient"


def hopeless(evidence_score: float, floor: float) -> bool:
    """Below half the floor, what was found is about something else: no model is asked. Above, a model that reads the
    passages can tell better than a score whether they answer, and what it says is checked."""
    return evidence_score < floor / 2
