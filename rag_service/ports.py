"""What the core asks of its adapters: Protocols with one or two methods, no defaults, no `**kwargs`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rag_service.errors import YoujuError
from rag_service.types import Finished, Hit, Passage, PassageFilter, Sampling

Vectors = NDArray[np.float32]


class Embedder(Protocol):
    """Texts to unit vectors. The same text gives the same vector whatever stands beside it in the batch."""

    name: str
    dimensions: int

    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32 [len(texts), dimensions], rows of unit length, in the order given."""
        ...


class TokenCounter(Protocol):
    def count(self, text: str) -> int:
        """Tokens of `text` alone, without special tokens."""
        ...


class Entailment(Protocol):
    """An NLI cross-encoder."""

    name: str

    def judge(self, premise: str, hypothesis: str) -> tuple[float, float]:
        """Probabilities that `premise` entails `hypothesis`, and that it contradicts it."""
        ...


Delivery = str | Finished | YoujuError


class Generation(Protocol):
    """A reply under way."""

    def cancel(self) -> None:
        """Returns at once, may be called again and from any thread. Nothing more is delivered once it has returned,
        and within a second whatever the reply occupied is free."""
        ...


class Generator(Protocol):
    """Token ids in, text out. `name` is `<kind>:<model>`, as answers carry it."""

    name: str

    def start(self, prompt: Sequence[int], sampling: Sampling, deliver: Callable[[Delivery], None]) -> Generation:
        """`deliver` is called from a thread of the generator's: pieces of text in order, none empty, then exactly one
        Finished or error; it must not block. It may be called before this returns.

        Raises Overloaded when the queue is full and GeneratorUnavailable when the engine is known to be down.
        """
        ...


class Ready(Protocol):
    def ready(self) -> str:
        """`ok`, or why not, for `/readyz`; costs nothing worth mentioning."""
        ...


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """One file of a base segment, relative to the segment's folder."""

    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Segment:
    """A base segment as named in SQL: the live chunks of a knowledge base at `revision`."""

    id: str
    knowledge_base_id: str
    revision: int
    chunks: int
    embedder: str
    files: tuple[SegmentFile, ...]


@dataclass(frozen=True, slots=True)
class IndexRow:
    """What the index needs of one chunk. `vector` is float16 [dimensions]: what SQL holds is what is searched."""

    chunk_id: int
    text: str
    vector: NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Head:
    """Where a knowledge base stands: its revision, and its newest base segment if it has one."""

    revision: int
    segment: Segment | None


class Snapshot(Protocol):
    """One consistent state of one knowledge base, read inside one transaction."""

    head: Head

    def added(self, after: int) -> Iterator[IndexRow]:
        """Chunks live now that were created at a revision > `after`, by ascending chunk id. `after=0`: all live."""
        ...

    def retired(self, after: int) -> list[int]:
        """Ids of chunks retired at a revision > `after`."""
        ...


class ChangeFeed(Protocol):
    def head(self, knowledge_base_id: str) -> Head:
        """One short statement; raises NotFound for a knowledge base that is gone."""
        ...

    def snapshot(self, knowledge_base_id: str) -> AbstractContextManager[Snapshot]: ...


@dataclass(frozen=True, slots=True)
class Candidates:
    """Hits with *both* scores each, in no order; `exhausted` when no live chunk was left out.

    `term_weights` is the inverse document frequency of every distinct query term in this knowledge base.
    `base_revision` is that of the base segment searched, 0 where there was none: a replay needs it, as the lexical
    statistics are those of base and tail.
    """

    revision: int
    hits: tuple[Hit, ...]
    exhausted: bool
    term_weights: dict[str, float]
    base_revision: int = 0


class Index(Protocol):
    def search(
        self, knowledge_base_id: str, vector: NDArray[np.float32], terms: Sequence[str], limit: int
    ) -> Candidates:
        """The best `limit` live chunks of each leg together, at a revision no older than the last commit."""
        ...


class PassageStore(Protocol):
    def passages(
        self, tenant: str, knowledge_base_ids: Sequence[str], chunk_ids: Sequence[int], only: PassageFilter
    ) -> dict[int, Passage]:
        """The one gate: those of `chunk_ids` that are live, in scope and let through by `only`."""
        ...
