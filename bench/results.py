"""Rows of the table that `make bench` prints."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Result:
    what: str
    target: str
    reached: str
    met: bool | None
    """None: there is no target, the figure is there to be known."""


def markdown(results: list[Result]) -> str:
    verdict = {True: "yes", False: "**no**", None: "–"}
    rows = [f"| {r.what} | {r.target} | {r.reached} | {verdict[r.met]} |" for r in results]
    return "\n".join(["| what | target | reached | met |", "|---|---|---|---|", *rows])
