"""Changing the embedder of a room's knowledge base: real SQL, segments, index and job; embedders of no meaning."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from legs import NoTranslations, in_words
from rooms import TENANT, Room, made_of, vectors_of
from sqlalchemy import func, select

from ingest.compactor import Compactor
from ingest.reembedding import Reembedder
from rag_service.db.jobs import Claim
from rag_service.db.passages import PastPassageStore
from rag_service.db.tables import chunks, vectors
from rag_service.errors import InvalidConfiguration
from rag_service.index.live_view import LiveIndex
from rag_service.index.past import PastIndex
from rag_service.index.rebuild import Rebuilder
from rag_service.ports import Vector, Vectors
from rag_service.retrieval.retriever import Retriever
from rag_service.types import Job, PassageFilter

OLD = "use-multilingual"
TWIN = "a-twin"
SMALL = "small"
DIMENSIONS = {OLD: 512, TWIN: 512, SMALL: 24}
NEVER = threading.Event()


class FakeEmbedders:
    """Of one text two embedders make vectors that have nothing to do with each other. `during` is called before each
    batch, and may raise."""

    def __init__(self) -> None:
        self.made = dict(DIMENSIONS)
        self.asked: list[tuple[str, str]] = []
        self.during: Callable[[], None] = lambda: None

    def demand(self, embedder: str) -> int:
        if embedder not in self.made:
            raise InvalidConfiguration(f"there is no {embedder}")
        return self.made[embedder]

    def embed(self, embedder: str, texts: Sequence[str]) -> Vectors:
        self.during()
        self.asked += [(embedder, text) for text in texts]
        return np.stack([self._vector(embedder, text.removeprefix("Title\n")) for text in texts])

    def embed_query(self, embedder: str, text: str) -> Vector:
        return self._vector(embedder, text)

    def _vector(self, embedder: str, text: str) -> Vector:
        if embedder == OLD:
            return vectors_of([text])[0]
        seed = int.from_bytes(hashlib.sha256(f"{embedder} {text}".encode()).digest()[:8], "big")
        row = np.random.default_rng(seed).standard_normal(self.made[embedder]).astype(np.float32)
        made: Vector = row / np.linalg.norm(row)
        return made


@dataclass
class Changing:
    room: Room
    embedders: FakeEmbedders = field(default_factory=FakeEmbedders)
    lease_seconds: float = 60.0

    def __post_init__(self) -> None:
        storage = self.room.storage
        self.rebuilder = Rebuilder(storage.index_root, storage.feed, storage.feed)
        self.index = LiveIndex(storage.index_root, storage.feed, self.rebuilder.rebuild)
        self.retriever = Retriever(self.embedders, self.index, self.room.store, NoTranslations())
        self.changes = storage.reembeddings
        self.reembedder = Reembedder(
            self.changes, self.room.publisher, storage.feed, storage.index_root, self.embedders, self.lease_seconds
        )

    def begin(self, embedder: str) -> str:
        return self.changes.begin(TENANT, self.room.kb, embedder)

    def work(self, job_id: str | None = None) -> bool:
        return self.reembedder.look(NEVER, job_id)

    def change(self, embedder: str) -> Job:
        job_id = self.begin(embedder)
        assert self.work(job_id)
        return self.job(job_id)

    def job(self, job_id: str) -> Job:
        return self.room.storage.jobs.get(TENANT, job_id)

    def publish(self, *texts: str) -> str:
        """A document with one chunk a text, by whoever embeds this knowledge base now; its id."""
        return self.finish(self.claimed(*texts), *texts)

    def claimed(self, *texts: str) -> Claim:
        self.room.upload(" ".join(texts))
        return self.room.claim_one()

    def finish(self, claim: Claim, *texts: str) -> str:
        parsed, drafts = made_of(texts)
        embedder = self.room.publisher.embedder_of(self.room.kb)
        embedded = np.stack([self.embedders.embed_query(embedder, text) for text in texts])
        self.room.publisher.publish(claim, parsed, drafts, embedded, embedder)
        return claim.document_id

    def answering(self) -> str:
        return self.room.storage.feed.head(self.room.kb).space.embedder

    def closeness(self, text: str) -> float:
        """Of a question to the chunk that says the same: 1 within one generation, and anything across two."""
        found = self.retriever.retrieve(TENANT, [self.room.kb], text, 8, PassageFilter())
        [score] = [one.scores.dense for one in found.passages if one.passage.text == text]
        return score

    def then(self, revision: int, text: str) -> float:
        """`closeness` at a past revision."""
        kb, storage = self.room.kb, self.room.storage
        past = Retriever(
            self.embedders, PastIndex(storage.feed, {kb: revision}, {}),
            PastPassageStore(storage.database, {kb: revision}), NoTranslations(),
        )  # fmt: skip
        found = past.retrieve(TENANT, [kb], text, 8, PassageFilter())
        [score] = [one.scores.dense for one in found.passages if one.passage.text == text]
        return score

    def everything(self) -> set[int]:
        """Chunk ids that the index has."""

        def asked(embedder: str) -> object:
            return in_words(self.embedders.embed_query(embedder, "anything"), "anything")

        return {hit.chunk_id for hit in self.index.search(self.room.kb, asked, 10_000).hits}  # type: ignore[arg-type]

    def stored(self) -> dict[str, int]:
        """How many vectors there are of each embedder, of this knowledge base."""
        query = (
            select(vectors.c.embedder, func.count())
            .join(chunks, chunks.c.id == vectors.c.chunk_id)
            .where(chunks.c.knowledge_base_id == self.room.kb)
            .group_by(vectors.c.embedder)
        )
        with self.room.storage.database.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def compact(self) -> None:
        self.rebuilder.rebuild(self.room.kb)

    def compactor(self) -> Compactor:
        storage = self.room.storage
        return Compactor(storage.knowledge_bases, storage.feed, self.rebuilder, 1)

    def segment_folders(self) -> list[str]:
        home = self.room.storage.index_root / self.room.kb
        return sorted(folder.name for folder in home.iterdir()) if home.is_dir() else []
