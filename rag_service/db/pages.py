"""Keyset pagination: a cursor is the last id seen, so pages stay right while rows come and go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    items: tuple[Item, ...]
    next_cursor: str | None


def page(rows: Sequence[Item], limit: int, cursor_of: Callable[[Item], str]) -> Page[Item]:
    """A page from up to `limit + 1` rows: the extra row only says that there is more."""
    shown = tuple(rows[:limit])
    return Page(shown, cursor_of(shown[-1]) if len(rows) > limit else None)
