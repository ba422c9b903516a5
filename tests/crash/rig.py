"""The real storage, pipeline and index over a data folder, with a quick embedder: what one process of Youju does."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pysqlite3
from rooms import TENANT, vectors_of
from sqlalchemy import make_url

from ingest.compactor import clear_leftovers
from ingest.parsers.plain import PlainTextParser
from ingest.pipeline import Measure, Pipeline
from ingest.sandbox import Leash
from rag_service import bootstrap, config
from rag_service.bootstrap import Storage, open_storage
from rag_service.db import sessions
from rag_service.db.jobs import Claim
from rag_service.db.problems import of
from rag_service.db.publication import Publisher
from rag_service.db.registration import Upload
from rag_service.errors import LeaseLost, Overloaded, StorageFull, YoujuError
from rag_service.index.live_view import LiveIndex
from rag_service.index.rebuild import Rebuilder
from rag_service.inference.use_multilingual import UseMultilingual
from rag_service.intake import Incoming
from rag_service.media_types import TEXT
from rag_service.ports import Vectors
from rag_service.types import ParsedDocument

LEASE_SECONDS = 0.001
"""Over at once: whatever a dead process had claimed is the next one's."""


class QuickParser:
    """In this process: the sandbox has tests of its own."""

    def parse(self, path: Path, media_type: str, leash: Leash | None = None) -> ParsedDocument:
        return PlainTextParser().parse(path.read_bytes())


class QuickEmbedder:
    name, dimensions = UseMultilingual.name, UseMultilingual.dimensions

    def embed(self, embedder: str, texts: list[str]) -> Vectors:
        return vectors_of(texts)


class Words:
    def count(self, text: str) -> int:
        return len(text)


@dataclass
class Rig:
    storage: Storage
    pipeline: Pipeline
    rebuilder: Rebuilder
    embedder: QuickEmbedder
    kb: str

    def upload(self, *contents: bytes) -> list[str]:
        """Document ids, in order; of what is there already, the one that is there."""
        return [document for document in self.offer(*contents) if document is not None]

    def offer(self, *contents: bytes) -> list[str | None]:
        """As `upload`, and None for what was refused."""
        files = [Incoming(f"{number}.txt", None, io.BytesIO(content)) for number, content in enumerate(contents)]
        _, accepted = self.storage.intake.accept(TENANT, self.kb, files)
        return [None if entry.registered is None else entry.registered.document_id for entry in accepted]

    def present(self, document_ids: list[str], dice: random.Random) -> bytes:
        """What one of the documents has, or is about to get; one that is changing, where there is any."""
        found = [self.storage.documents.get(TENANT, document_id) for document_id in document_ids]
        document = dice.choice([document for document in found if document.etag != document.sha256] or found)
        with self.storage.blobs.open(dice.choice((document.sha256, document.etag))) as file:
            return file.read()

    def replace(self, document_id: str, content: bytes) -> None:
        storage = self.storage
        current = storage.documents.get(TENANT, document_id)
        blob = storage.blobs.put(io.BytesIO(content))
        upload = Upload(current.filename, TEXT, blob.sha256, blob.bytes)
        storage.documents.replace(TENANT, document_id, upload, None, storage.blobs.exists)

    def delete(self, document_id: str) -> None:
        self.storage.delete_document(TENANT, document_id)

    def ingest(self, most: int = 1_000) -> int:
        """Work on what waits, one after another, as a worker's three steps do; how many were claimed."""
        done = 0
        for slow in (False, True):
            while done < most and (claims := self.storage.jobs.claim("rig", LEASE_SECONDS, 1, slow=slow)):
                for claim in claims:
                    self._ingest(claim)
                done += len(claims)
        return done

    def _ingest(self, claim: Claim) -> None:
        try:
            leash = Leash()
            embedding = self.pipeline.embedding(self.pipeline.prepare(claim, self.pipeline.parse(claim, leash), leash))
            while (embedded := embedding.advance()) is None:
                pass
            self.pipeline.publish(embedded)
        except LeaseLost:
            return
        except (StorageFull, Overloaded):
            self.storage.jobs.release([claim])
            raise
        except YoujuError as error:
            self.storage.jobs.fail(claim, of(error))

    def compact(self) -> None:
        self.rebuilder.rebuild(self.kb)

    def recover(self) -> None:
        """What a worker does when it starts."""
        storage = self.storage
        clear_leftovers(storage.documents, storage.blobs, storage.feed, storage.index_root)

    def index(self) -> LiveIndex:
        return LiveIndex(self.storage.index_root, self.storage.feed, self.rebuilder.rebuild)


def share_database(schema_of: Path) -> None:
    """From now on every rig of this process and its forks uses one `Database`, whichever folder it opens.

    What takes longest in a short life is that SQLAlchemy compiles each statement; an engine remembers.
    """
    address = [str(schema_of / "youju.sqlite")]
    create = sessions.create_engine

    def connect() -> Any:
        return pysqlite3.connect(address[0], check_same_thread=False)

    sessions.create_engine = lambda url, **options: create(url, **options, creator=connect)
    database = sessions.Database(f"sqlite:///{address[0]}")

    def shared(url: str) -> sessions.Database:
        database.engine.dispose(close=False)
        address[:] = [str(make_url(url).database)]
        return database

    bootstrap.Database = shared  # type: ignore[assignment, misc]


@contextmanager
def open_rig(data: Path) -> Iterator[Rig]:
    settings = config.load(data=data)
    storage = open_storage(settings)
    embedder = QuickEmbedder()
    publisher = Publisher(storage.database, lambda sha256: storage.documents.collect(sha256, storage.blobs.remove))
    found = storage.knowledge_bases.browse(TENANT, 1, None).items
    kb = found[0].id if found else storage.knowledge_bases.create(TENANT, "crash").id
    pipeline = Pipeline(storage.blobs, QuickParser(), lambda name: Measure(Words()), embedder, publisher)
    rebuilder = Rebuilder(storage.index_root, storage.feed, storage.feed)
    yield Rig(storage, pipeline, rebuilder, embedder, kb)
    storage.close()


def content_of(number: int, dice: random.Random) -> bytes:
    """A few paragraphs unlike any other; `item<number>e` stands in each."""
    paragraphs = [
        f"item{number}e 的第 {part} 段：编号 {number * 7 + part}，存放在第 {number % 9} 号仓库。" * dice.randint(1, 5)
        for part in range(dice.randint(1, 5))
    ]
    return "\n\n".join(paragraphs).encode()
