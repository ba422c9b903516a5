"""The composition root of the service: the only place that knows concrete classes and loads what is heavy."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path

from rag_service.answering.ask import Asker
from rag_service.blobs import BlobStore
from rag_service.config import Settings
from rag_service.db import schema
from rag_service.db.answers import Answers
from rag_service.db.conversations import Conversations
from rag_service.db.documents import Documents
from rag_service.db.feed import SqlChangeFeed
from rag_service.db.jobs import Jobs
from rag_service.db.keys import Keys
from rag_service.db.knowledge_bases import KnowledgeBases
from rag_service.db.passages import SqlPassageStore
from rag_service.db.sessions import Database
from rag_service.index import segments
from rag_service.index.live_view import LiveIndex
from rag_service.index.rebuild import Rebuilder
from rag_service.inference.use_multilingual import UseMultilingual
from rag_service.intake import Intake
from rag_service.prompting import tokenizer
from rag_service.retrieval.retriever import Retriever

log = logging.getLogger(__name__)
EMBEDDER = UseMultilingual.name


@dataclass(frozen=True)
class Storage:
    """What needs no model: enough to create knowledge bases and keys, accept documents, show and delete them."""

    settings: Settings
    database: Database
    blobs: BlobStore
    keys: Keys
    knowledge_bases: KnowledgeBases
    documents: Documents
    jobs: Jobs
    feed: SqlChangeFeed
    intake: Intake

    @property
    def index_root(self) -> Path:
        return self.settings.data / "index"

    def delete_document(self, tenant: str, document_id: str) -> None:
        """Raises NotFound. When this returns it is gone from every answer, and from the disk unless shared."""
        self.documents.collect(self.documents.delete(tenant, document_id), self.blobs.remove)

    def delete_knowledge_base(self, tenant: str, knowledge_base_id: str) -> None:
        """Raises NotFound."""
        for sha256 in self.knowledge_bases.delete(tenant, knowledge_base_id):
            self.documents.collect(sha256, self.blobs.remove)
        segments.remove_all(self.index_root, knowledge_base_id)

    def close(self) -> None:
        self.database.close()


@dataclass(frozen=True)
class Service:
    """Everything that answers questions."""

    storage: Storage
    conversations: Conversations
    answers: Answers
    store: SqlPassageStore
    index: LiveIndex
    retriever: Retriever
    asker: Asker
    loaded: threading.Event

    def preload(self) -> None:
        """Bring every knowledge base's index into memory; questions asked meanwhile load what they need."""
        try:
            self.index.preload(self.storage.knowledge_bases.all_ids())
        finally:
            # What could not be loaded now is loaded, or says why not, when it is asked.
            self.loaded.set()


def open_storage(settings: Settings) -> Storage:
    """Creates the data folder and brings the database to this version's schema."""
    settings.data.mkdir(parents=True, exist_ok=True)
    database = Database(settings.url)
    schema.upgrade(database)
    blobs = BlobStore(settings.data / "blobs")
    documents = Documents(database)
    return Storage(
        settings=settings, database=database, blobs=blobs, keys=Keys(database),
        knowledge_bases=KnowledgeBases(database, EMBEDDER), documents=documents, jobs=Jobs(database),
        feed=SqlChangeFeed(database), intake=Intake(blobs, documents),
    )  # fmt: skip


def open_service(storage: Storage) -> Service:
    embedder = UseMultilingual()
    rebuilder = Rebuilder(storage.index_root, storage.feed, storage.feed, embedder.name, embedder.dimensions)
    index = LiveIndex(storage.index_root, storage.feed, embedder.dimensions, rebuilder.rebuild)
    store = SqlPassageStore(storage.database)
    retriever = Retriever(embedder, index, store)
    conversations, answers = Conversations(storage.database), Answers(storage.database)
    asker = Asker(
        storage.knowledge_bases,
        conversations,
        answers,
        retriever,
        store,
        embedder,
        tokenizer.load(storage.settings.tokenizer),
    )
    return Service(storage, conversations, answers, store, index, retriever, asker, threading.Event())
