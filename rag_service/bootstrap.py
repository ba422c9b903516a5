"""The composition root of the service: the only place that knows concrete classes and loads what is heavy."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rag_service import failpoints
from rag_service.answering.ask import Asker
from rag_service.answering.assembly import Assembly
from rag_service.answering.prompts import Prompts
from rag_service.answering.replay import Replayer
from rag_service.answering.rewriter import Rewriter
from rag_service.answering.verification.verifier import Verifier
from rag_service.archives import Archives
from rag_service.blobs import BlobStore
from rag_service.config import Settings
from rag_service.db import schema
from rag_service.db.answers import Answers
from rag_service.db.conversations import Conversations
from rag_service.db.documents import Documents
from rag_service.db.feed import SqlChangeFeed
from rag_service.db.feedback import Feedback
from rag_service.db.idempotency import Answered
from rag_service.db.jobs import Jobs
from rag_service.db.keys import Keys
from rag_service.db.knowledge_bases import KnowledgeBases
from rag_service.db.packing_reports import PackingReports
from rag_service.db.passages import PastPassageStore, SqlPassageStore
from rag_service.db.sessions import Database
from rag_service.db.unanswered import Unanswered
from rag_service.db.workers import Workers
from rag_service.generators import OpenGenerator, open_entailment, open_generator
from rag_service.index import segments
from rag_service.index.dense import DenseBase
from rag_service.index.gpu import Gpu
from rag_service.index.live_view import LiveIndex
from rag_service.index.past import PastIndex
from rag_service.index.rebuild import Rebuilder
from rag_service.inference.use_multilingual import UseMultilingual
from rag_service.intake import Intake
from rag_service.prompting import template, tokenizer, wording
from rag_service.prompting.packer import Packer
from rag_service.prompting.prompt_format import PromptFormat
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
    workers: Workers
    feed: SqlChangeFeed
    intake: Intake

    @property
    def index_root(self) -> Path:
        return self.settings.data / "index"

    def delete_document(self, tenant: str, document_id: str) -> None:
        """Raises NotFound. When this returns it is gone from every answer, and from the disk unless shared."""
        for sha256 in self.documents.delete(tenant, document_id):
            failpoints.reach("delete.committed")
            self.documents.collect(sha256, self.blobs.remove)
            failpoints.reach("delete.bytes-removed")

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
    replayer: Replayer
    packing_reports: PackingReports
    feedback: Feedback
    unanswered: Unanswered
    generator: OpenGenerator | None
    loaded: threading.Event

    def close(self) -> None:
        """Ends the replies under way; the storage stays open."""
        if self.generator is not None:
            self.generator.close()

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
        workers=Workers(database), feed=SqlChangeFeed(database), intake=_intake(settings, database, blobs, documents),
    )  # fmt: skip


def _intake(settings: Settings, database: Database, blobs: BlobStore, documents: Documents) -> Intake:
    limits = (settings.archive_entries, settings.archive_bytes, settings.max_upload_bytes)
    return Intake(blobs, documents, Answered(database), Archives(*limits, folder=settings.data))


def open_service(storage: Storage, *, generates: bool = True) -> Service:
    """Loads every model there is, the generator only if it `generates`. Raises InvalidConfiguration."""
    settings, database = storage.settings, storage.database
    prompt_format = PromptFormat(tokenizer.load(settings.tokenizer), template.load(settings.template), settings.spacing)
    prompt_format.demand_tokens()
    generator = open_generator(settings, prompt_format.tokenizer) if generates else None
    embedder = UseMultilingual()
    rebuilder = Rebuilder(storage.index_root, storage.feed, storage.feed, embedder.name, embedder.dimensions)
    dense_base = Gpu().base if settings.index == "faiss-gpu" else DenseBase.deserialised
    index = LiveIndex(storage.index_root, storage.feed, embedder.dimensions, rebuilder.rebuild, dense_base)
    store = SqlPassageStore(database)
    retriever = Retriever(embedder, index, store)
    conversations, answers = Conversations(database), Answers(database)
    prompts = Prompts(Packer(prompt_format, wording.load()), settings.window_tokens, settings.reply_tokens)
    assembly = Assembly(Verifier(embedder, open_entailment(settings)), settings.unsupported, prompts.refusals())
    rewriter = Rewriter(
        prompts,
        enabled=settings.rewriting != "off",
        generates=settings.rewriting == "generator" and generator is not None,
    )
    asker = Asker(
        storage.knowledge_bases, conversations, answers, retriever, store, embedder, prompts, assembly, rewriter,
        generator, fall_back=settings.generator_fallback == "extractive",
    )  # fmt: skip

    def past_retriever(revisions: Mapping[str, int], base_revisions: Mapping[str, int]) -> Retriever:
        past = PastIndex(storage.feed, revisions, embedder.dimensions, base_revisions)
        return Retriever(embedder, past, PastPassageStore(database, revisions))

    return Service(
        storage=storage, conversations=conversations, answers=answers, store=store, index=index, retriever=retriever,
        asker=asker, replayer=Replayer(answers, conversations, past_retriever, embedder, prompts, generator),
        packing_reports=PackingReports(database), feedback=Feedback(database), unanswered=Unanswered(database),
        generator=generator, loaded=threading.Event(),
    )  # fmt: skip
