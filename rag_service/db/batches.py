"""Long lists in statements: a database takes only so many parameters at once (PostgreSQL 65,535)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

_MOST = 1_000
Member = TypeVar("Member")


def batches(members: Iterable[Member]) -> Iterator[list[Member]]:
    remaining = iter(members)
    while batch := list(islice(remaining, _MOST)):
        yield batch
