"""A document's way from stored bytes to a live version, in steps that a worker may overlap.

Each step takes what the one before it made; nothing is visible before `publish` commits.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ingest.chunker import chunk
from ingest.sandbox import Leash
from rag_service import failpoints
from rag_service.blobs import BlobStore
from rag_service.db.jobs import Claim
from rag_service.db.publication import Halves, Publisher
from rag_service.errors import BlobMissing, ParseFailed, WrongDimensions, YoujuError
from rag_service.ports import TokenCounter, Vectors
from rag_service.text import in_context
from rag_service.types import ChunkDraft, ParsedDocument

CHUNK_TOKENS = 480
_EMBEDDED_AT_ONCE = 32


class Parser(Protocol):
    def start(self) -> None:
        """Return once parses can begin at once. Raises OSError."""
        ...

    def parse(self, path: Path, media_type: str, leash: Leash) -> ParsedDocument:
        """Raises ParseFailed, ParseAbandoned."""
        ...


class Embedders(Protocol):
    def embed(self, embedder: str, texts: Sequence[str]) -> Vectors:
        """By the embedder of that name; see `ports.TextEmbedder`."""
        ...

    def demand(self, embedder: str) -> int:
        """Its dimensions, once it has loaded what it works with. Raises as `embed` does."""
        ...


@dataclass(frozen=True, slots=True)
class Measure:
    """How texts are cut for one embedder: what counts their tokens, and how many a chunk has at most."""

    tokens: TokenCounter
    chunk_tokens: int = CHUNK_TOKENS


@dataclass(frozen=True, slots=True)
class Prepared:
    """`embedder` is the knowledge base's. `hashes` are of the texts to embed, one a draft; `known` has the vectors that
    it made before, by hash."""

    claim: Claim
    embedder: str
    parsed: ParsedDocument
    drafts: tuple[ChunkDraft, ...]
    hashes: tuple[str, ...]
    known: Mapping[str, Halves]


@dataclass(frozen=True, slots=True)
class Embedded:
    prepared: Prepared
    vectors: Vectors


class Pipeline:
    """`measure` says of an embedder, by its name, how texts are cut for it."""

    def __init__(
        self,
        blobs: BlobStore,
        parser: Parser,
        measure: Callable[[str], Measure],
        embedders: Embedders,
        publisher: Publisher,
        chunk_seconds: float = 600.0,
    ) -> None:
        self._blobs = blobs
        self._parser = parser
        self._measure = measure
        self._embedders = embedders
        self._publisher = publisher
        self._chunk_seconds = chunk_seconds
        self._is_warm = False

    def warm_up(self, knowledge_base_id: str) -> None:
        """Return once documents can be parsed, with the embedder beginning to load. Raises OSError.

        The first document would wait for one after the other.
        """
        if not self._is_warm:
            self._is_warm = True
            load = threading.Thread(target=self._load_embedder, args=(knowledge_base_id,), name="warm-up", daemon=True)
            load.start()
        self._parser.start()

    def _load_embedder(self, knowledge_base_id: str) -> None:
        # What goes wrong comes again where the first document needs it, and is told of there.
        with suppress(YoujuError, OSError):
            self._embedders.demand(self._publisher.embedder_of(knowledge_base_id))

    def parse(self, claim: Claim, leash: Leash) -> ParsedDocument:
        """Raises ParseFailed, BlobMissing, ParseAbandoned."""
        if not self._blobs.is_intact(claim.sha256):
            raise BlobMissing("the stored bytes are damaged", sha256=claim.sha256)
        parsed = self._parser.parse(self._blobs.path(claim.sha256), claim.media_type, leash)
        failpoints.reach("ingest.parsed")
        return parsed

    def prepare(self, claim: Claim, parsed: ParsedDocument, leash: Leash) -> Prepared:
        """Chunk, and look up which chunks were embedded before. Raises ParseAbandoned, and ParseFailed where that takes
        longer than any real document of the largest size does."""
        embedder = self._publisher.embedder_of(claim.knowledge_base_id)
        measure = self._measure(embedder)
        over_at = time.monotonic() + self._chunk_seconds

        def count_or_leave(text: str) -> int:
            leash.check()
            if time.monotonic() > over_at:
                detail = "cutting the text into passages took too long"
                raise ParseFailed("parse-timeout", detail, limit_seconds=self._chunk_seconds)
            return measure.tokens.count(text)

        drafts = tuple(chunk(parsed, count_or_leave, measure.chunk_tokens))
        hashes = tuple(hashlib.sha256(_embedded_text(draft).encode()).hexdigest() for draft in drafts)
        known = self._publisher.known_vectors(list(dict.fromkeys(hashes)), embedder)
        failpoints.reach("ingest.chunked")
        return Prepared(claim, embedder, parsed, drafts, hashes, known)

    def embedding(self, prepared: Prepared) -> Embedding:
        return Embedding(prepared, self._embedders)

    def embed_together(self, embeddings: Sequence[Embedding]) -> None:
        """Embed the next texts of several documents in one call, so that `advance` finds them done: for documents of a
        text or two the calls cost more than the model. Of the first one's embedder, and of as many as go into one call;
        raises what the embedder raises, and then nothing has changed."""
        together, texts = list[tuple[Embedding, int]](), list[str]()
        for embedding in embeddings:
            piece = embedding.next_texts() if embedding.embedder == embeddings[0].embedder else []
            if len(texts) + len(piece) > _EMBEDDED_AT_ONCE:
                break
            together.append((embedding, len(piece)))
            texts += piece
        rows = self._embedders.embed(embeddings[0].embedder, texts) if texts else np.empty((0, 0), np.float32)
        for embedding, size in together:
            embedding.take(rows[:size])
            rows = rows[size:]

    def publish(self, embedded: Embedded) -> int:
        """Returns the knowledge base's new revision. Raises LeaseLost, EmbedderChanged, StorageFull."""
        made = embedded.prepared
        failpoints.reach("ingest.embedded")
        return self._publisher.publish(
            made.claim, made.parsed, made.drafts, embedded.vectors, made.embedder, made.hashes
        )


class Embedding:
    """A document on its way through the embedder, some texts at a time: a long one holds nobody up."""

    def __init__(self, prepared: Prepared, embedders: Embedders) -> None:
        self._prepared = prepared
        self._embedders = embedders
        self._vectors: dict[str, Vectors | Halves] = dict(prepared.known)
        texts = {h: _embedded_text(draft) for h, draft in zip(prepared.hashes, prepared.drafts, strict=True)}
        self._missing = [(h, text) for h, text in texts.items() if h not in prepared.known]
        self._done = 0

    @property
    def embedder(self) -> str:
        return self._prepared.embedder

    def next_texts(self) -> list[str]:
        return [text for _, text in self._missing[self._done : self._done + _EMBEDDED_AT_ONCE]]

    def take(self, rows: Vectors) -> None:
        """The vectors of the first of `next_texts`."""
        taken = self._missing[self._done : self._done + len(rows)]
        self._vectors |= {h: row for (h, _), row in zip(taken, rows, strict=True)}
        self._done += len(taken)

    def advance(self) -> Embedded | None:
        """Embed some more; the whole once nothing is missing."""
        texts = self.next_texts()
        if texts:
            self.take(self._embedders.embed(self._prepared.embedder, texts))
        if self._done < len(self._missing):
            return None
        return Embedded(self._prepared, self._in_order(self._prepared.hashes))

    def _in_order(self, hashes: Sequence[str]) -> Vectors:
        if not hashes:
            return np.empty((0, 0), dtype=np.float32)
        return stacked([self._vectors[h] for h in hashes], self._prepared.embedder)


def stacked(rows: Sequence[Vectors | Halves], embedder: str) -> Vectors:
    """float32 [len(rows), dimensions] of at least one row. Raises WrongDimensions."""
    if len({len(row) for row in rows}) > 1:
        raise WrongDimensions(f"{embedder} makes vectors of another length than it did before", embedder=embedder)
    return np.stack(rows).astype(np.float32, copy=False)


def _embedded_text(draft: ChunkDraft) -> str:
    return in_context(draft.headings, draft.text)
