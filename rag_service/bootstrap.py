"""The composition root of the service: the only place that knows concrete classes and loads what is heavy."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
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
from rag_service.db.eval_runs import EvalRuns
from rag_service.db.feed import SqlChangeFeed
from rag_service.db.feedback import Feedback
from rag_service.db.idempotency import Answered
from rag_service.db.jobs import Jobs
from rag_service.db.keys import Keys
from rag_service.db.knowledge_bases import KnowledgeBases
from rag_service.db.packing_reports import PackingReports
from rag_service.db.passages import PastPassageStore, SqlPassageStore
from rag_service.db.reembeddings import Reembeddings
from rag_service.db.sessions import Database
from rag_service.db.unanswered import Unanswered
from rag_service.db.workers import Workers
from rag_service.dictionary.bilingual import Bilingual
from rag_service.embedder_pool import QuestionEmbedders
from rag_service.embedders import open_embedder, open_reranker
from rag_service.generators import OpenGenerator, open_entailment, open_generator
from rag_service.index import segments
from rag_service.index.dense import DenseBase
from rag_service.index.gpu import Gpu
from rag_service.index.live_view import LiveIndex
from rag_service.index.past import PastIndex
from rag_service.index.rebuild import Rebuilder
from rag_service.intake import Intake
from rag_service.ports import Embedder, PassageStore
from rag_service.prompting import template, tokenizer, wording
from rag_service.prompting.packer import Packer
from rag_service.prompting.prompt_format import PromptFormat
from rag_service.retrieval.retriever import Retriever

log = logging.getLogger(__name__)


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
    reembeddings: Reembeddings
    workers: Workers
    feed: SqlChangeFeed
    intake: Intake

    @property
    def index_root(self) -> Path:
        return self.settings.data / "index"

    def delete_document(self, tenant: str, document_id: str, *, mirrored: bool = False) -> None:
        """When this returns it is gone from every answer, and from the disk unless shared.

        Raises NotFound; where it is `mirrored` that its file is gone, also ContentTaken.
        """
        for sha256 in self.documents.delete(tenant, document_id, mirrored=mirrored):
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
    eval_runs: EvalRuns
    verifier: Verifier
    embedder: Embedder
    embedders: QuestionEmbedders
    generator: OpenGenerator | None
    loaded: threading.Event

    def close(self) -> None:
        """Ends the replies under way; the storage stays open."""
        if self.generator is not None:
            self.generator.close()
        self.embedders.close()

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
        knowledge_bases=KnowledgeBases(database, settings.embedder), documents=documents, jobs=Jobs(database),
        reembeddings=Reembeddings(database),
        workers=Workers(database), feed=SqlChangeFeed(database), intake=_intake(settings, database, blobs, documents),
    )  # fmt: skip


def _intake(settings: Settings, database: Database, blobs: BlobStore, documents: Documents) -> Intake:
    limits = (settings.archive_entries, settings.archive_bytes, settings.max_upload_bytes)
    return Intake(blobs, documents, Answered(database), Archives(*limits, folder=settings.data))


def open_service(
    storage: Storage, *, generates: bool = True, gate: Callable[[PassageStore], PassageStore] = lambda store: store
) -> Service:
    """Loads every model there is, the generator only if it `generates`; `gate` puts another gate before the one there
    is, for evaluation. Raises InvalidConfiguration, and where an embedding server is not there what `open_embedder`
    raises."""
    settings, database = storage.settings, storage.database
    prompt_format = PromptFormat(tokenizer.load(settings.tokenizer), template.load(settings.template), settings.spacing)
    prompt_format.demand_tokens()
    generator = open_generator(settings, prompt_format.tokenizer) if generates else None
    embedder = open_embedder(settings.embedder, settings)
    embedders = QuestionEmbedders(partial(open_embedder, settings=settings), {settings.embedder: embedder})
    rebuilder = Rebuilder(storage.index_root, storage.feed, storage.feed)
    dense_base = Gpu().base if settings.index == "faiss-gpu" else DenseBase.deserialised
    index = LiveIndex(storage.index_root, storage.feed, rebuilder.rebuild, dense_base)
    store = SqlPassageStore(database)
    gated = gate(store)
    translations, reranker = Bilingual(), open_reranker(settings)
    retriever = Retriever(embedders, index, gated, translations, reranker)
    conversations, answers = Conversations(database), Answers(database)
    prompts = Prompts(Packer(prompt_format, wording.load()), settings.window_tokens, settings.reply_tokens)
    verifier = Verifier(embedder, open_entailment(settings))
    assembly = Assembly(verifier, settings.unsupported, prompts.refusals())
    rewriter = Rewriter(
        prompts,
        enabled=settings.rewriting != "off",
        generates=settings.rewriting == "generator" and generator is not None,
    )
    asker = Asker(
        storage.knowledge_bases, conversations, answers, retriever, gated, embedder, prompts, assembly, rewriter,
        generator, fall_back=settings.generator_fallback == "extractive",
    )  # fmt: skip

    def past_retriever(revisions: Mapping[str, int], base_revisions: Mapping[str, int]) -> Retriever:
        past = PastIndex(storage.feed, revisions, base_revisions)
        return Retriever(embedders, past, PastPassageStore(database, revisions), translations, reranker)

    return Service(
        storage=storage, conversations=conversations, answers=answers, store=store, index=index, retriever=retriever,
        asker=asker, replayer=Replayer(answers, conversations, past_retriever, embedder, prompts, generator),
        packing_reports=PackingReports(database), feedback=Feedback(database), unanswered=Unanswered(database),
        eval_runs=EvalRuns(database), verifier=verifier,
        embedder=embedder, embedders=embedders, generator=generator, loaded=threading.Event(),
    )  # fmt: skip
