"""A document's way from stored bytes to a live version, in steps that a worker may overlap.

Each step takes what the one before it made; nothing is visible before `publish` commits.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
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
from rag_service.errors import BlobMissing, ParseFailed
from rag_service.ports import Embedder, TokenCounter, Vectors
from rag_service.text import in_context
from rag_service.types import ChunkDraft, ParsedDocument

CHUNK_TOKENS = 320
_EMBEDDED_AT_ONCE = 32


class Parser(Protocol):
    def start(self) -> None:
        """Return once parses can begin at once. Raises OSError."""
        ...

    def parse(self, path: Path, media_type: str, leash: Leash) -> ParsedDocument:
        """Raises ParseFailed, ParseAbandoned."""
        ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """`hashes` are of the texts to embed, one a draft; `known` has the vectors that were made before, by hash."""

    claim: Claim
    parsed: ParsedDocument
    drafts: tuple[ChunkDraft, ...]
    hashes: tuple[str, ...]
    known: Mapping[str, Halves]


@dataclass(frozen=True, slots=True)
class Embedded:
    prepared: Prepared
    vectors: Vectors


class Pipeline:
    def __init__(
        self,
        blobs: BlobStore,
        parser: Parser,
        tokens: Callable[[], TokenCounter],
        embedder: Embedder,
        publisher: Publisher,
        chunk_seconds: float = 600.0,
    ) -> None:
        self._blobs = blobs
        self._parser = parser
        self._tokens = tokens
        self._embedder = embedder
        self._publisher = publisher
        self._chunk_seconds = chunk_seconds

    def warm_up(self) -> None:
        """Load what the first document would wait for. Raises OSError."""
        self._parser.start()
        self._tokens()

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
        count = self._tokens().count
        over_at = time.monotonic() + self._chunk_seconds

        def count_or_leave(text: str) -> int:
            leash.check()
            if time.monotonic() > over_at:
                detail = "cutting the text into passages took too long"
                raise ParseFailed("parse-timeout", detail, limit_seconds=self._chunk_seconds)
            return count(text)

        drafts = tuple(chunk(parsed, count_or_leave, CHUNK_TOKENS))
        hashes = tuple(hashlib.sha256(_embedded_text(draft).encode()).hexdigest() for draft in drafts)
        known = self._publisher.known_vectors(list(dict.fromkeys(hashes)))
        failpoints.reach("ingest.chunked")
        return Prepared(claim, parsed, drafts, hashes, known)

    def embedding(self, prepared: Prepared) -> Embedding:
        return Embedding(prepared, self._embedder)

    def publish(self, embedded: Embedded) -> int:
        """Returns the knowledge base's new revision. Raises LeaseLost, StorageFull."""
        made = embedded.prepared
        failpoints.reach("ingest.embedded")
        return self._publisher.publish(made.claim, made.parsed, made.drafts, embedded.vectors, made.hashes)


class Embedding:
    """A document on its way through the embedder, some texts at a time: a long one holds nobody up."""

    def __init__(self, prepared: Prepared, embedder: Embedder) -> None:
        self._prepared = prepared
        self._embedder = embedder
        self._vectors: dict[str, Vectors | Halves] = dict(prepared.known)
        texts = {h: _embedded_text(draft) for h, draft in zip(prepared.hashes, prepared.drafts, strict=True)}
        self._missing = [(h, text) for h, text in texts.items() if h not in prepared.known]
        self._done = 0

    def advance(self) -> Embedded | None:
        """Embed some more; the whole once nothing is missing."""
        piece = self._missing[self._done : self._done + _EMBEDDED_AT_ONCE]
        if piece:
            rows = self._embedder.embed([text for _, text in piece])
            self._vectors |= {h: row for (h, _), row in zip(piece, rows, strict=True)}
            self._done += len(piece)
        if self._done < len(self._missing):
            return None
        return Embedded(self._prepared, self._in_order(self._prepared.hashes))

    def _in_order(self, hashes: Sequence[str]) -> Vectors:
        if not hashes:
            return np.empty((0, self._embedder.dimensions), dtype=np.float32)
        return np.stack([self._vectors[h] for h in hashes]).astype(np.float32, copy=False)


def _embedded_text(draft: ChunkDraft) -> str:
    return in_context(draft.headings, draft.text)
