"""Where a growing Markdown text is in code, decided by what has come so far and never by what may follow.

A fence opens at three or more backticks or tildes that begin a line and closes at as many that begin another. A run of
backticks elsewhere opens a code span, which ends at a run of the same length or, as nobody can wait for one that never
comes, at the end of its line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

_TOKEN = re.compile(r"\n|`+|~+|[^\n`~]+")
_EVENT = re.compile(r"[\n`~]")
_FENCE = 3
_LONGEST_RUN = 80
"""Longer runs count as this long."""


@dataclass(frozen=True, slots=True)
class Code:
    """What is known at one place of a text; `Code()` is the beginning. `run` may still grow: it counts when it ends."""

    fence: str = ""
    opening: bool = False
    """In the line that opened the fence."""
    span: int = 0
    run: str = ""
    fresh: bool = True
    """Only blanks so far in this line."""

    @property
    def inside(self) -> bool:
        """Whether a character put here would be code."""
        here = self._with_run_ended() if self.run else self
        return bool(here.fence or here.span)

    def after(self, text: str) -> Code:
        """Time linear in `text`, however it is cut into calls."""
        if not self.run and not self.fresh and not _EVENT.search(text):
            return self
        code = self
        for token in _TOKEN.findall(text):
            code = code._after_token(token)
        return code

    def _after_token(self, token: str) -> Code:
        if token[0] in "`~" and self.run[:1] in ("", token[0]):
            return replace(self, run=(self.run + token)[:_LONGEST_RUN])
        ended = self._with_run_ended() if self.run else self
        if token[0] in "`~":
            return replace(ended, run=token[:_LONGEST_RUN])
        if token == "\n":
            return replace(ended, span=0, fresh=True, opening=False)
        return replace(ended, fresh=ended.fresh and token.isspace())

    def _with_run_ended(self) -> Code:
        ended = replace(self, run="", fresh=False)
        if self.fresh and len(self.run) >= _FENCE:
            return ended._with_fence_line(self.run)
        if self.opening and self.run == self.fence:
            return replace(ended, fence="", opening=False)  # ```a span that looked like a fence```
        if self.fence or self.run[0] == "~":
            return ended
        return replace(ended, span=len(self.run) if not self.span else 0 if self.span == len(self.run) else self.span)

    def _with_fence_line(self, run: str) -> Code:
        if not self.fence:
            return replace(self, fence=run, opening=run[0] == "`", span=0)
        return replace(self, fence="") if run.startswith(self.fence) else self
