"""A document's way from stored bytes to a live version, in three steps that a worker may overlap.

Each step takes what the one before it made; nothing is visible before `publish` commits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ingest.chunker import chunk
from rag_service.blobs import BlobStore
from rag_service.db.jobs import Claim
from rag_service.db.publication import Publisher
from rag_service.errors import BlobMissing
from rag_service.ports import Embedder, TokenCounter, Vectors
from rag_service.text import in_context
from rag_service.types import ChunkDraft, ParsedDocument

CHUNK_TOKENS = 320


class Parser(Protocol):
    def parse(self, path: Path, media_type: str) -> ParsedDocument:
        """Raises ParseFailed."""
        ...


@dataclass(frozen=True, slots=True)
class Prepared:
    claim: Claim
    parsed: ParsedDocument
    drafts: tuple[ChunkDraft, ...]


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
    ) -> None:
        self._blobs = blobs
        self._parser = parser
        self._tokens = tokens
        self._embedder = embedder
        self._publisher = publisher

    def prepare(self, claim: Claim) -> Prepared:
        """Parse and chunk. Raises ParseFailed, BlobMissing."""
        if not self._blobs.is_intact(claim.sha256):
            raise BlobMissing("the stored bytes are damaged", sha256=claim.sha256)
        parsed = self._parser.parse(self._blobs.path(claim.sha256), claim.media_type)
        return Prepared(claim, parsed, tuple(chunk(parsed, self._tokens().count, CHUNK_TOKENS)))

    def embed(self, prepared: Prepared) -> Embedded:
        texts = [in_context(draft.headings, draft.text) for draft in prepared.drafts]
        return Embedded(prepared, self._embedder.embed(texts))

    def publish(self, embedded: Embedded) -> int:
        """Returns the knowledge base's new revision. Raises LeaseLost, StorageFull."""
        made = embedded.prepared
        return self._publisher.publish(made.claim, made.parsed, made.drafts, embedded.vectors)
