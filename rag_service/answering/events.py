"""What happens while a question is answered, in order: one Retrieved, Deltas, Cited, one Done."""

from __future__ import annotations

from dataclasses import dataclass

from rag_service.types import Answer, Citation, Retrieval


@dataclass(frozen=True, slots=True)
class Retrieved:
    retrieval: Retrieval


@dataclass(frozen=True, slots=True)
class Delta:
    """Provisional text: the answer in Done is the verified one."""

    text: str


@dataclass(frozen=True, slots=True)
class Cited:
    citation: Citation


@dataclass(frozen=True, slots=True)
class Done:
    answer: Answer


Event = Retrieved | Delta | Cited | Done
