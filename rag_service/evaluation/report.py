"""A run, and what two differ in, as Markdown and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from rag_service.evaluated import Direction, Estimate, Summary
from rag_service.evaluation import metrics
from rag_service.evaluation.metrics import Compared


def markdown(summary: Summary) -> str:
    """A column for each direction, a row for every figure measured, with its 95 % interval; then latency by stage."""
    shown = directions(summary)
    names = [name for name in metrics.NAMES if any(name in one.figures for one in shown.values())]
    counts = ["questions", *(str(one.questions) for one in shown.values())]
    rows = [[name, *(_cell(one.figures.get(name)) for one in shown.values())] for name in names]
    stages = list(dict.fromkeys(stage for one in shown.values() for stage in one.latency))
    timed = [[f"{stage}, ms, p50 / p95", *(_times(one, stage) for one in shown.values())] for stage in stages]
    return _table(["", *shown], [counts, *rows, *timed]) + "\n"


def markdown_comparison(compared: Sequence[Compared]) -> str:
    """A row for each figure, real differences in bold."""
    columns = ["direction", "figure", "questions", "before", "after", "difference (95 %)", "p (Holm)", "real"]
    return _table(columns, [_compared_row(one) for one in compared]) + "\n"


def directions(summary: Summary) -> Summary:
    """Without the sum of all where there is only one."""
    single = len(summary) == 2
    return {name: one for name, one in summary.items() if not (single and name == metrics.ALL)}


def members(summary: Summary) -> dict[str, Any]:
    return {name: asdict(one) for name, one in summary.items()}


def comparison_members(compared: Iterable[Compared]) -> list[dict[str, Any]]:
    return [
        {
            "direction": one.direction, "figure": one.figure, "questions": one.questions,
            "before": one.difference.first, "after": one.difference.second, "difference": one.difference.value,
            "low": one.difference.low, "high": one.difference.high, "p": one.difference.p, "p_holm": one.p,
            "real": one.real,
        }
        for one in compared
    ]  # fmt: skip


def _compared_row(one: Compared) -> list[str]:
    apart = one.difference
    change = f"{_signed(apart.value)} ({_signed(apart.low)} to {_signed(apart.high)})"
    return [
        one.direction, one.figure, str(one.questions), _number(apart.first), _number(apart.second),
        f"**{change}**" if one.real else change, f"{one.p:.4f}", "yes" if one.real else "no",
    ]  # fmt: skip


def _cell(found: Estimate | None) -> str:
    return "–" if found is None else f"{_number(found.value)} ({_number(found.low)}–{_number(found.high)})"


def _times(one: Direction, stage: str) -> str:
    found = one.latency.get(stage)
    return "–" if found is None else f"{found.p50:.1f} / {found.p95:.1f}"


def _number(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("0.", ".", 1)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)
