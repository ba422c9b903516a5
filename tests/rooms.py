"""A storage with a publisher beside it, for tests of the SQL room: no parser and no model, everything else real."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rag_service import config
from rag_service.bootstrap import Storage, open_storage
from rag_service.db.jobs import Claim
from rag_service.db.passages import SqlPassageStore
from rag_service.db.publication import Publisher
from rag_service.db.registration import Upload
from rag_service.inference.use_multilingual import UseMultilingual
from rag_service.ports import Vectors
from rag_service.text import language_of
from rag_service.types import ChunkDraft, JobItem, ParsedDocument, PassageFilter, Problem
from rag_service.verify import differences

TENANT = "default"
PROBLEM = Problem("parse-failed", "The document could not be read", "it is broken", {"reason": "broken"})


@dataclass(frozen=True)
class Room:
    storage: Storage
    publisher: Publisher
    store: SqlPassageStore
    kb: str

    def upload(self, *contents: str, kb: str | None = None, tenant: str = TENANT) -> tuple[str, list[str]]:
        """(job id, document ids): bytes in the blob store, documents queued."""
        uploads = []
        for number, content in enumerate(contents):
            blob = self.storage.blobs.put(io.BytesIO(content.encode()))
            uploads.append(Upload(f"{number}.txt", "text/plain", blob.sha256, blob.bytes))
        register = self.storage.documents.register
        job_id, registered = register(tenant, kb or self.kb, uploads, self.storage.blobs.exists)
        return job_id, [entry.document_id for entry in registered]

    def claim(self, worker: str = "worker", lease_seconds: float = 60.0, limit: int = 1) -> list[Claim]:
        return self.storage.jobs.claim(worker, lease_seconds, limit)

    def claim_one(self, worker: str = "worker", lease_seconds: float = 60.0) -> Claim:
        [claim] = self.claim(worker, lease_seconds)
        return claim

    def publish(self, claim: Claim, *texts: str) -> int:
        """One chunk for each text."""
        parsed, drafts = made_of(texts or (f"text of {claim.document_id}",))
        return self.publisher.publish(
            claim, parsed, drafts, vectors_of([draft.text for draft in drafts]), UseMultilingual.name
        )

    def ready(self, *contents: str, kb: str | None = None, tenant: str = TENANT) -> list[str]:
        """Documents uploaded, claimed and published, each with one chunk that holds its content; their ids."""
        _, ids = self.upload(*contents, kb=kb, tenant=tenant)
        for content in contents:
            self.publish(self.claim_one(), content)
        return ids

    def item(self, job_id: str) -> JobItem:
        [item] = self.storage.jobs.get(TENANT, job_id).items
        return item

    def revision(self) -> int:
        return self.storage.feed.head(self.kb).revision

    def live_chunks(self, kb: str | None = None) -> dict[int, str]:
        with self.storage.feed.snapshot(kb or self.kb) as snapshot:
            return {row.chunk_id: row.text for row in snapshot.added(0)}

    def let_through(
        self, *chunk_ids: int, kb: str | None = None, tenant: str = TENANT, only: PassageFilter | None = None
    ) -> set[str]:
        """The texts the gate lets through, of all chunks ever made where none is named."""
        ids = chunk_ids or range(1, 1_000)
        return {p.text for p in self.store.passages(tenant, [kb or self.kb], ids, only or PassageFilter()).values()}

    def differences(self) -> list[str]:
        return [f"{found.where}: {found.what}" for found in differences(self.storage, deep=True)]


@contextmanager
def open_room(data: Path, database_url: str | None = None, name: str = "room") -> Iterator[Room]:
    storage = open_storage(config.load(data=data, database_url=database_url))
    kb = storage.knowledge_bases.create(TENANT, name).id

    def collect(sha256: str) -> None:
        storage.documents.collect(sha256, storage.blobs.remove)

    yield Room(storage, Publisher(storage.database, collect), SqlPassageStore(storage.database), kb)
    storage.close()


def made_of(texts: Sequence[str]) -> tuple[ParsedDocument, list[ChunkDraft]]:
    """A document of these paragraphs, one chunk for each."""
    drafts, start = [], 0
    for ordinal, text in enumerate(texts):
        end = start + len(text)
        drafts.append(ChunkDraft(ordinal, text, start, end, None, ("Title",), language_of(text), tokens=len(text)))
        start = end + 1
    return ParsedDocument("\n".join(texts), (), None, "test"), drafts


def vectors_of(texts: Sequence[str]) -> Vectors:
    """float32 [len(texts), dimensions]: unit vectors that depend on the text alone."""
    rows = np.empty((len(texts), UseMultilingual.dimensions), dtype=np.float32)
    for row, text in zip(rows, texts, strict=True):
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
        row[:] = np.random.default_rng(seed).standard_normal(len(row))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
