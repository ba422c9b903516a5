"""What happens while a question is answered, in order: one Retrieved, one Packed where a model is asked, Deltas,
Cited, one Done."""

from __future__ import annotations

from dataclasses import dataclass

from rag_service.types import Answer, Citation, PackingReport, Retrieval


@dataclass(frozen=True, slots=True)
class Retrieved:
    """`answer_id` is what the answer will be stored under."""

    answer_id: str
    retrieval: Retrieval


@dataclass(frozen=True, slots=True)
class Packed:
    report: PackingReport


@dataclass(frozen=True, slots=True)
class Delta:
    """Provisional text: the answer in Done is the verified one."""

    text: str


@dataclass(frozen=True, slots=True)
class Cited:
    citation: Citation


@dataclass(frozen=True, slots=True)
class Done:
    """`cut_off`: the model's tokens were used up before it had finished."""

    answer: Answer
    cut_off: bool = False


Event = Retrieved | Packed | Delta | Cited | Done
