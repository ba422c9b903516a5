"""The composition root of ingestion."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial

from ingest.compactor import Compactor, clear_leftovers
from ingest.embedding import EmbeddingProcess
from ingest.pipeline import Pipeline
from ingest.sandbox import ParseLimits, Sandbox
from ingest.worker import Worker
from rag_service.blobs import BlobStore
from rag_service.config import Settings
from rag_service.db import schema
from rag_service.db.documents import Documents
from rag_service.db.feed import SqlChangeFeed
from rag_service.db.jobs import Jobs
from rag_service.db.knowledge_bases import KnowledgeBases
from rag_service.db.publication import Publisher
from rag_service.db.sessions import Database
from rag_service.db.workers import Workers
from rag_service.index.rebuild import Rebuilder
from rag_service.inference.use_multilingual import UseMultilingual, UseMultilingualTokens


@dataclass(frozen=True)
class Ingestion:
    """A worker with all it needs."""

    database: Database
    sandbox: Sandbox
    embedder: EmbeddingProcess
    worker: Worker
    compactor: Compactor

    def run(self) -> None:
        """Ingest and compact until `worker.stop()`."""
        ended = threading.Event()
        with ThreadPoolExecutor(1, thread_name_prefix="compact") as threads:
            compacting = threads.submit(self.compactor.run, ended)
            # A worker whose compactor is gone would only grow tails: it ends, and whoever keeps it starts another.
            compacting.add_done_callback(lambda done: self.worker.stop())
            try:
                self.worker.run()
            finally:
                ended.set()
        compacting.result()

    def close(self) -> None:
        self.sandbox.close()
        self.embedder.close()
        self.database.close()


def open_ingestion(settings: Settings) -> Ingestion:
    settings.data.mkdir(parents=True, exist_ok=True)
    database = Database(settings.url)
    schema.upgrade(database)
    blobs, documents, feed = BlobStore(settings.data / "blobs"), Documents(database), SqlChangeFeed(database)
    index_root = settings.data / "index"
    clear_leftovers(documents, blobs, feed, index_root)
    # Both loaded with the first document: an idle worker costs little memory.
    tokens, embedder = cache(UseMultilingualTokens), EmbeddingProcess()
    sandbox = Sandbox(
        ParseLimits(
            wall_seconds=settings.parse_seconds,
            scan_seconds=settings.scan_seconds,
            memory_bytes=settings.parse_memory_bytes,
            ocr=settings.ocr == "auto",
        )
    )
    publisher = Publisher(database, UseMultilingual.name, partial(documents.collect, remove=blobs.remove))
    pipeline = Pipeline(blobs, sandbox, tokens, embedder, publisher)
    rebuilder = Rebuilder(index_root, feed, feed, UseMultilingual.name, UseMultilingual.dimensions)
    return Ingestion(
        database=database,
        sandbox=sandbox,
        embedder=embedder,
        worker=Worker(Jobs(database), Workers(database), pipeline, settings.lease_seconds, settings.parse_at_once),
        compactor=Compactor(
            KnowledgeBases(database, UseMultilingual.name), feed, rebuilder, settings.compact_after_chunks
        ),
    )
