"""What the core asks of its adapters: Protocols with one or two methods, no defaults, no `**kwargs`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from rag_service.errors import YoujuError
from rag_service.types import EVERYTHING, Concept, Finished, Hit, Passage, PassageFilter, Sampling, Weighed

Vector = NDArray[np.float32]
Vectors = NDArray[np.float32]


class TextEmbedder(Protocol):
    """Texts to unit vectors. The same text gives the same vector whatever stands beside it in the batch, but for
    rounding in the sixth digit.

    `name` is what the setting says and what SQL keeps beside every vector: two embedders of one name never differ.
    Raises EmbedderUnavailable, EmbedderTimeout, EmbeddingFailed and Overloaded where it is no part of this process.
    """

    @property
    def name(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32 [len(texts), dimensions], rows of unit length, in the order given: texts as documents hold them."""
        ...


class Embedder(TextEmbedder, Protocol):
    """Also questions, which many models want marked as such."""

    def embed_query(self, text: str) -> Vector:
        """float32 [dimensions] of unit length, to be compared with what `embed` makes."""
        ...


@runtime_checkable
class Bounded(Protocol):
    """An embedder that reads a text only so far."""

    @property
    def most_tokens(self) -> int | None:
        """By its own tokenizer; what comes after them is not in the vector. None: it reads all."""
        ...


class Reranker(Protocol):
    """Reads a question and a text together: dearer than comparing vectors, and better."""

    name: str

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers, in [0, 1], in the order given. Raises RerankingFailed."""
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


@runtime_checkable
class Ready(Protocol):
    def ready(self) -> str:
        """`ok`, or why not, for `/readyz`; costs nothing worth mentioning."""
        ...


@runtime_checkable
class Closing(Protocol):
    """What holds threads or connections."""

    def close(self) -> None:
        """May be called again."""
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
class Attributes:
    """What filters ask of a chunk; `created_at` is when its document was first uploaded."""

    document_id: str
    language: str
    media_type: str
    created_at: float


@dataclass(frozen=True, slots=True)
class IndexRow:
    """What the index needs of one chunk. `vector` is float16 [dimensions]: what SQL holds is what is searched."""

    chunk_id: int
    text: str
    vector: NDArray[np.float16]
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class VectorSpace:
    """What the vectors of one embedder are in, and can be compared in; `dimensions` is None while there are none."""

    embedder: str
    dimensions: int | None


@dataclass(frozen=True, slots=True)
class Head:
    """Where a knowledge base stands: its revision, whose vectors answer, and the newest base segment of these
    if there is one."""

    revision: int
    space: VectorSpace
    segment: Segment | None


class Snapshot(Protocol):
    """One consistent state of one knowledge base, read inside one transaction. Rows have their vectors in the space
    that `head` names, and no others."""

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


class Translations(Protocol):
    """A dictionary between Chinese and English."""

    def english(self, words: Sequence[str]) -> dict[str, list[tuple[str, ...]]]:
        """Those of the Chinese `words` that it has, each with its glosses as stems of English words."""
        ...

    def chinese(self, phrases: Sequence[str], most: int) -> dict[str, list[tuple[str, int]]]:
        """Those of the English `phrases` (stems with a space between) that it has, each with at most `most` words and
        the place, from 0, at which the phrase stands among the word's glosses."""
        ...


@dataclass(frozen=True, slots=True)
class IndexQuery:
    """What each leg is asked: `vector` is a unit vector [dimensions], `words` is for the lexical leg and `concepts` for
    the bilingual one. No leg finds what `only` does not let through; scores are those it would have without."""

    vector: Vector
    words: tuple[Concept, ...]
    concepts: tuple[Concept, ...] = ()
    only: PassageFilter = EVERYTHING


@dataclass(frozen=True, slots=True)
class Candidates:
    """Hits with the scores of *all* legs each, in no order; `exhausted` when no live chunk that the question's filter
    lets through was left out.

    `base_revision` is that of the base segment searched, 0 where there was none: a replay needs it, as the lexical
    statistics are those of base and tail.
    """

    revision: int
    hits: tuple[Hit, ...]
    exhausted: bool
    weighed: Weighed
    base_revision: int = 0


Asked = Callable[[str], IndexQuery]
"""A question as each leg is asked it, its vector made by the embedder of the name given: that of what is searched."""


class Index(Protocol):
    def search(self, knowledge_base_id: str, asked: Asked, limit: int) -> Candidates:
        """The best `limit` live chunks of each leg together, of those that the question's filter lets through, at a
        revision no older than the last commit."""
        ...


class Embedders(Protocol):
    def embed_query(self, embedder: str, text: str) -> Vector:
        """What the embedder of that name makes of a question. Raises InvalidConfiguration where it cannot be opened,
        and what `TextEmbedder` raises."""
        ...


class PassageStore(Protocol):
    def passages(
        self, tenant: str, knowledge_base_ids: Sequence[str], chunk_ids: Sequence[int], only: PassageFilter
    ) -> dict[int, Passage]:
        """The one gate: those of `chunk_ids` that are live, in scope and let through by `only`."""
        ...
