"""A run as a picture: recall by direction with its intervals, and the risk–coverage curve. Needs the extra [eval]."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rag_service.errors import InvalidConfiguration, InvalidInput
from rag_service.evaluated import Summary
from rag_service.evaluation.report import directions

_SUFFIXES = (".png", ".svg", ".pdf")
_RECALLS = ("R@1", "R@5", "R@10")


def demand(path: Path) -> None:
    """Raises InvalidConfiguration where what draws is not installed, InvalidInput for a file of another kind."""
    if path.suffix.lower() not in _SUFFIXES:
        raise InvalidInput(f"a picture is one of {', '.join(_SUFFIXES)}, not {path.name!r}", suffix=path.suffix)
    if find_spec("matplotlib") is None:
        raise InvalidConfiguration("a picture needs matplotlib: install the extra, pip install 'youju[eval]'")


def draw(summary: Summary, title: str, path: Path) -> None:
    """In the format of the file's suffix. Raises as `demand` does, and OSError."""
    demand(path)
    # Heavy and optional; the object API, because pyplot keeps every figure it made and picks a window system.
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    figure.suptitle(title)
    _recalls(left, summary)
    _risk_coverage(right, summary)
    figure.savefig(path, dpi=150)


def _recalls(axes: Any, summary: Summary) -> None:
    shown = {name: one for name, one in directions(summary).items() if "R@1" in one.figures}
    width = 0.8 / len(_RECALLS)
    for number, recall in enumerate(_RECALLS):
        estimates = [one.figures[recall] for one in shown.values()]
        places = [at + (number - 1) * width for at in range(len(shown))]
        values = [estimate.value for estimate in estimates]
        errors = [[e.value - e.low for e in estimates], [e.high - e.value for e in estimates]]
        bars = axes.bar(places, values, width * 0.92, yerr=errors, capsize=3, label=recall)
        axes.bar_label(bars, fmt="%.2f", label_type="center", fontsize=8)
    axes.set_xticks(range(len(shown)), list(shown))
    axes.set_ylim(0, 1.02)
    axes.set_title("Recall by direction, 95 % intervals")
    if shown:
        axes.legend(loc="lower right")


def _risk_coverage(axes: Any, summary: Summary) -> None:
    shown = {name: one.risk_coverage for name, one in directions(summary).items() if one.risk_coverage}
    for name, curve in shown.items():
        axes.plot([coverage for coverage, _ in curve], [risk for _, risk in curve], label=name)
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("coverage: share of questions answered")
    axes.set_ylabel("risk: share of those answered wrongly")
    axes.set_title("Risk and coverage, by falling evidence score")
    if shown:
        axes.legend()
