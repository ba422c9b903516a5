"""`--fail-below`: what a run has to reach. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rag_service.errors import InvalidInput
from rag_service.evaluated import Summary
from rag_service.evaluation import metrics

_FORM = re.compile(r"(?:(?P<direction>[^:=]+):)?(?P<figure>[^:=]+)=(?P<least>[0-9.]+)")


@dataclass(frozen=True, slots=True)
class Gate:
    """`direction` is one of the run's, or `all`."""

    direction: str
    figure: str
    least: float


def gates(told: Iterable[str]) -> list[Gate]:
    """From `R@1=.9` or `zh→en:R@1=.7` (also `zh-en:`). Raises InvalidInput naming every one that is none."""
    made, faults = [], []
    for text in told:
        found = _FORM.fullmatch(text.strip())
        least = _share(found["least"]) if found else None
        if found is None or least is None or found["figure"] not in metrics.NAMES:
            faults.append(text)
            continue
        direction = (found["direction"] or metrics.ALL).strip().replace("->", "→").replace("-", "→")
        made.append(Gate(direction, found["figure"], least))
    if faults:
        known = ", ".join(metrics.NAMES)
        shown = ", ".join(map(repr, faults))
        raise InvalidInput(f"no threshold: {shown}; FIGURE=0..1 with FIGURE one of {known}", thresholds=faults)
    return made


def missed(summary: Summary, demanded: Sequence[Gate]) -> list[str]:
    """Why the run does not pass, a line each; what was not measured was not reached."""
    lines = []
    for gate in demanded:
        direction = summary.get(gate.direction)
        found = direction.figures.get(gate.figure) if direction is not None else None
        if found is None:
            lines.append(f"{gate.direction}: {gate.figure} was not measured, {gate.least:g} was demanded")
        elif found.value < gate.least:
            lines.append(f"{gate.direction}: {gate.figure} is {found.value:.4f}, below {gate.least:g}")
    return lines


def _share(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0.0 <= value <= 1.0 else None
