"""The composition root of ingestion."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import Protocol

from ingest import heap
from ingest.compactor import Compactor, clear_leftovers
from ingest.embedding import EmbeddingProcess
from ingest.pipeline import CHUNK_TOKENS, Measure, Pipeline
from ingest.reembedding import Reembedder
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
from rag_service.db.reembeddings import Reembeddings
from rag_service.db.sessions import Database
from rag_service.db.workers import Workers
from rag_service.embedder_pool import TextEmbedders
from rag_service.embedders import is_remote, open_remote
from rag_service.index.rebuild import Rebuilder
from rag_service.inference.in_process import open_tokens
from rag_service.ports import Closing, TextEmbedder


class WorkerEmbedder(TextEmbedder, Closing, Protocol):
    """Of the worker's own, ended with it."""


@dataclass(frozen=True)
class Ingestion:
    """A worker with all it needs."""

    database: Database
    sandbox: Sandbox
    embedders: TextEmbedders[WorkerEmbedder]
    worker: Worker
    compactor: Compactor
    reembedder: Reembedder

    def run(self) -> None:
        """Ingest, compact and change embedders until `worker.stop()`."""
        ended = threading.Event()
        with ThreadPoolExecutor(2, thread_name_prefix="beside") as threads:
            beside = [threads.submit(task.run, ended) for task in (self.compactor, self.reembedder)]
            for one in beside:
                # A worker whose compactor is gone would only grow tails: it ends, and whoever keeps it starts another.
                one.add_done_callback(lambda done: self.worker.stop())
            try:
                self.worker.run()
            finally:
                ended.set()
        for one in beside:
            one.result()

    def close(self) -> None:
        self.sandbox.close()
        self.embedders.close()
        self.database.close()


def open_ingestion(settings: Settings) -> Ingestion:
    """Raises InvalidConfiguration, and where an embedding server is not there what `open_embedder` raises."""
    heap.keep_large_apart()
    settings.data.mkdir(parents=True, exist_ok=True)
    database = Database(settings.url)
    schema.upgrade(database)
    blobs, documents, feed = BlobStore(settings.data / "blobs"), Documents(database), SqlChangeFeed(database)
    index_root = settings.data / "index"
    clear_leftovers(documents, blobs, feed, index_root)
    knowledge_bases = KnowledgeBases(database, settings.embedder)
    # Loaded with the first document where that is possible: an idle worker costs little memory. One that cannot be
    # opened is told now, all the same.
    opener = partial(_embedder, settings=settings)
    embedders = TextEmbedders(opener, {settings.embedder: opener(settings.embedder)})
    embedders.dimensions(settings.embedder)
    sandbox = Sandbox(
        ParseLimits(
            wall_seconds=settings.parse_seconds,
            scan_seconds=settings.scan_seconds,
            memory_bytes=settings.parse_memory_bytes,
            ocr=settings.ocr == "auto",
        )
    )
    publisher = Publisher(database, partial(documents.collect, remove=blobs.remove))
    pipeline = Pipeline(blobs, sandbox, made_once(partial(_measure, embedders)), embedders, publisher)
    changes = Reembeddings(database)
    return Ingestion(
        database=database,
        sandbox=sandbox,
        embedders=embedders,
        worker=Worker(Jobs(database), Workers(database), pipeline, settings.lease_seconds, settings.parse_at_once),
        compactor=Compactor(knowledge_bases, feed, Rebuilder(index_root, feed, feed), settings.compact_after_chunks),
        reembedder=Reembedder(changes, publisher, feed, index_root, embedders, settings.lease_seconds),
    )


def _embedder(name: str, settings: Settings) -> WorkerEmbedder:
    if is_remote(name):
        return open_remote(name, settings)
    return EmbeddingProcess(name, settings.model_folder)


def made_once(make: Callable[[str], Measure]) -> Callable[[str], Measure]:
    """Of each embedder one, however many ask at once: a tokenizer has 40 MB, and `cache` alone made one a parse."""
    made, lock = cache(make), threading.Lock()

    def measure(name: str) -> Measure:
        with lock:
            return made(name)

    return measure


def _measure(embedders: TextEmbedders[WorkerEmbedder], name: str) -> Measure:
    """A chunk is embedded under its headings: a quarter of what the model reads is theirs."""
    most = embedders.most_tokens(name)
    return Measure(open_tokens(name), CHUNK_TOKENS if most is None else min(CHUNK_TOKENS, max(1, most * 3 // 4)))
