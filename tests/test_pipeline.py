"""The steps over real parts: parsed in the sandbox, chunked, published; only the embedder is a fake."""

from __future__ import annotations

import hashlib
import io
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from rooms import TENANT, Room, open_room, vectors_of
from sqlalchemy import select

from ingest.bootstrap import made_once
from ingest.pipeline import Embedded, Measure, Pipeline
from ingest.sandbox import Leash, ParseAbandoned, Sandbox
from rag_service.db.registration import Upload
from rag_service.db.tables import chunks, vectors
from rag_service.errors import InvalidConfiguration, ParseFailed
from rag_service.inference.use_multilingual import UseMultilingual, UseMultilingualTokens
from rag_service.ports import Vectors

TOKENS = UseMultilingualTokens()


def measure(embedder: str) -> Measure:
    return Measure(TOKENS)


@dataclass
class NotingEmbedder:
    name: str = UseMultilingual.name
    dimensions: int = UseMultilingual.dimensions
    seen: list[str] = field(default_factory=list)
    calls: int = 0
    loaded: list[str] = field(default_factory=list)

    def demand(self, embedder: str) -> int:
        self.loaded.append(embedder)
        return self.dimensions

    def embed(self, embedder: str, texts: Sequence[str]) -> Vectors:
        self.seen += texts
        self.calls += 1
        return vectors_of(texts)


@dataclass
class Bench:
    room: Room
    pipeline: Pipeline
    embedder: NotingEmbedder

    def ingest(self) -> list[str]:
        """Everything that waits; the texts that had to be embedded for it."""
        self.embedder.seen = []
        for claim in self.room.claim(limit=9):
            leash = Leash()
            prepared = self.pipeline.prepare(claim, self.pipeline.parse(claim, leash), leash)
            embedding = self.pipeline.embedding(prepared)
            while not isinstance(embedded := embedding.advance(), Embedded):
                pass
            self.pipeline.publish(embedded)
        return self.embedder.seen

    def replace(self, document_id: str, content: str) -> None:
        blob = self.room.storage.blobs.put(io.BytesIO(content.encode()))
        upload = Upload("0.txt", "text/plain", blob.sha256, blob.bytes)
        documents = self.room.storage.documents
        documents.replace(TENANT, document_id, upload, None, self.room.storage.blobs.exists)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture
def bench(tmp_path: Path, sandbox: Sandbox) -> Iterator[Bench]:
    with open_room(tmp_path / "data") as room:
        embedder = NotingEmbedder()
        yield Bench(room, Pipeline(room.storage.blobs, sandbox, measure, embedder, room.publisher), embedder)


def test_documents_are_parsed_while_the_embedder_is_still_loading(bench: Bench, sandbox: Sandbox) -> None:
    begun, loaded = threading.Event(), threading.Event()

    class Slow(NotingEmbedder):
        def demand(self, embedder: str) -> int:
            self.loaded.append(embedder)
            begun.set()
            assert loaded.wait(60)
            return self.dimensions

    embedder = Slow()
    pipeline = Pipeline(bench.room.storage.blobs, sandbox, measure, embedder, bench.room.publisher)
    bench.room.upload("a text")
    [claim] = bench.room.claim()
    for _ in range(2):
        pipeline.warm_up(bench.room.kb)
    assert begun.wait(60)
    assert pipeline.parse(claim, Leash()).text == "a text"
    loaded.set()
    assert embedder.loaded == [UseMultilingual.name]


def test_an_embedder_that_cannot_be_loaded_is_told_of_where_it_is_needed(bench: Bench, sandbox: Sandbox) -> None:
    class Broken(NotingEmbedder):
        def demand(self, embedder: str) -> int:
            raise InvalidConfiguration("there is no such model")

        def embed(self, embedder: str, texts: Sequence[str]) -> Vectors:
            raise InvalidConfiguration("there is no such model")

    pipeline = Pipeline(bench.room.storage.blobs, sandbox, measure, Broken(), bench.room.publisher)
    pipeline.warm_up(bench.room.kb)
    bench.room.upload("a text")
    [claim] = bench.room.claim()
    prepared = pipeline.prepare(claim, pipeline.parse(claim, Leash()), Leash())
    with pytest.raises(InvalidConfiguration):
        pipeline.embedding(prepared).advance()


def handbook(changed: int | None = None) -> str:
    """Forty paragraphs of which no two fit into one chunk."""

    def paragraph(number: int) -> str:
        revised = "修订后的" if number == changed else ""
        return "".join(
            f"第{number}条第{item}款{revised}规定，申请须在{item + 2}日之内提交给负责部门。" for item in range(18)
        )

    return "\n\n".join(paragraph(number) for number in range(40))


def stored(room: Room) -> dict[str, tuple[str, bytes]]:
    """Text of every live chunk, with the hash that is stored and its vector."""
    query = (
        select(chunks.c.text, vectors.c.text_sha256, vectors.c.vector)
        .join(vectors, vectors.c.chunk_id == chunks.c.id)
        .where(chunks.c.retired_revision.is_(None))
    )
    with room.storage.database.read() as connection:
        return {row.text: (row.text_sha256, row.vector) for row in connection.execute(query)}


def test_of_a_new_version_only_the_changed_chunk_reaches_the_embedder(bench: Bench) -> None:
    _, [document_id] = bench.room.upload(handbook())
    assert len(bench.ingest()) == 40
    before = stored(bench.room)
    bench.replace(document_id, handbook(changed=17))
    [embedded] = bench.ingest()
    after = stored(bench.room)
    assert "修订后的" in embedded
    assert len(after) == 40
    assert {text: after[text] for text in after if text in before} == {
        text: before[text] for text in before if text in after
    }
    assert len(before.keys() & after.keys()) == 39


def test_another_document_with_the_same_paragraphs_costs_the_embedder_nothing(bench: Bench) -> None:
    bench.room.upload(handbook())
    bench.ingest()
    bench.room.upload(handbook() + "\n\n完。")
    assert len(bench.ingest()) <= 1
    assert len(bench.room.live_chunks()) >= 79


def test_a_text_that_stands_twice_in_a_document_is_embedded_once(bench: Bench) -> None:
    notice = "".join(f"注意第{item}项：离开之前请关闭所有门窗和电源，并在登记表上签名。" for item in range(20))
    bench.room.upload("\n\n".join([notice, *handbook().split("\n\n")[:3], notice]))
    embedded = bench.ingest()
    assert len(embedded) == len(set(embedded)) < len(bench.room.live_chunks())


def test_the_stored_hash_and_vector_are_of_the_embedded_text(bench: Bench) -> None:
    bench.room.upload(handbook())
    texts = bench.ingest()
    expected = {
        hashlib.sha256(text.encode()).hexdigest(): row.astype("<f2").tobytes()
        for text, row in zip(texts, vectors_of(texts), strict=True)
    }
    assert dict(stored(bench.room).values()) == expected


def test_a_document_is_embedded_a_piece_at_a_time_and_comes_out_in_order(bench: Bench) -> None:
    bench.room.upload(handbook())
    [claim] = bench.room.claim()
    parsed = bench.pipeline.parse(claim, Leash())
    prepared = bench.pipeline.prepare(claim, parsed, Leash())
    embedding = bench.pipeline.embedding(prepared)
    assert embedding.advance() is None
    assert 0 < len(bench.embedder.seen) < 40
    embedded = embedding.advance()
    assert embedded is not None
    assert np.array_equal(embedded.vectors, vectors_of([draft.text for draft in prepared.drafts]))


def test_documents_of_a_text_or_two_are_embedded_in_one_call(bench: Bench) -> None:
    for number in range(5):
        bench.room.upload(f"The text of document number {number}.")
    prepared = [
        bench.pipeline.prepare(claim, bench.pipeline.parse(claim, Leash()), Leash())
        for claim in bench.room.claim(limit=9)
    ]
    embeddings = [bench.pipeline.embedding(one) for one in prepared]
    bench.pipeline.embed_together(embeddings)
    finished = [embedding.advance() for embedding in embeddings]
    assert bench.embedder.calls == 1
    for one, embedded in zip(prepared, finished, strict=True):
        assert embedded is not None
        np.testing.assert_allclose(embedded.vectors, vectors_of([draft.text for draft in one.drafts]), atol=1e-5)


def test_a_long_document_among_short_ones_still_goes_a_piece_at_a_time(bench: Bench) -> None:
    bench.room.upload("A short text.")
    bench.room.upload(handbook())
    short, long = (
        bench.pipeline.embedding(bench.pipeline.prepare(claim, bench.pipeline.parse(claim, Leash()), Leash()))
        for claim in bench.room.claim(limit=9)
    )
    bench.pipeline.embed_together([short, long])
    assert short.advance() is not None
    assert long.next_texts()


def test_chunking_is_left_once_nobody_wants_the_document(bench: Bench) -> None:
    bench.room.upload(handbook())
    [claim] = bench.room.claim()
    parsed, leash = bench.pipeline.parse(claim, Leash()), Leash()
    leash.let_go()
    with pytest.raises(ParseAbandoned):
        bench.pipeline.prepare(claim, parsed, leash)


def test_a_text_that_cannot_be_cut_in_time_is_a_failure_with_a_reason(bench: Bench, sandbox: Sandbox) -> None:
    room = bench.room
    room.upload("一句话。" * 2_000)
    [claim] = room.claim()
    pipeline = Pipeline(room.storage.blobs, sandbox, measure, bench.embedder, room.publisher, chunk_seconds=0.0)
    with pytest.raises(ParseFailed) as failed:
        pipeline.prepare(claim, pipeline.parse(claim, Leash()), Leash())
    assert failed.value.data == {"reason": "parse-timeout", "limit_seconds": 0.0}


def test_parses_that_begin_at_once_share_one_tokenizer() -> None:
    made: list[str] = []

    def make(name: str) -> Measure:
        time.sleep(0.05)
        made.append(name)
        return Measure(UseMultilingualTokens())

    measure = made_once(make)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(measure, ["a", "b"] * 8))

    assert sorted(made) == ["a", "b"]
    assert len({id(one) for one in found}) == 2
