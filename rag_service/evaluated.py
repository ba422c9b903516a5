"""What a run finds out of one question, and of all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from rag_service.types import Outcome

Variant = Literal["present", "withheld"]
"""With the gold passages in the knowledge base, or as if they had just been deleted."""


@dataclass(frozen=True, slots=True)
class Result:
    """`answerable`: whether an answer was to be had in this variant; in the other one a refusal is right.

    `ranks` are those of the gold passages found among the first ten, from 1, passages of equal text counted once; they
    and `evidence_recall` say nothing where nothing was to be found. `score` is the evidence score, None where there
    was no evidence. What is None was not measured: there is nothing of an answer where only retrieval was run, nothing
    of citations where the question was refused, no `contained` where the set has no answer.
    """

    question_id: str
    variant: Variant
    query: str
    direction: str
    answerable: bool
    gold: int
    ranks: tuple[int, ...]
    evidence_recall: float | None
    score: float | None
    outcome: Outcome | None
    contained: bool | None
    citation_recall: float | None
    citation_precision: float | None
    quotes_exact: bool | None
    timings_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval, over `n` questions."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds; half of the questions took at most `p50`, 95 of a hundred at most `p95`."""

    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class Direction:
    """`risk_coverage` are (share of questions answered, share of those answered wrongly), by falling evidence score."""

    questions: int
    figures: dict[str, Estimate]
    latency: dict[str, Latency] = field(default_factory=dict)
    risk_coverage: tuple[tuple[float, float], ...] = ()


Summary = dict[str, Direction]
"""By direction, `zh→en` being Chinese questions whose gold passages are English; `all` comes last."""
