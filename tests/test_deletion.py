"""Deletion and compaction beside searching, with the real index over the real database."""

from __future__ import annotations

import io
import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Shelf, wait_until
from legs import NoTranslations, always, in_words
from rooms import TENANT, Room, open_room, vectors_of
from test_db_publication import in_threads

from ingest.compactor import Compactor, clear_leftovers
from rag_service.answering.events import Event, Retrieved
from rag_service.answering.question import Question
from rag_service.bootstrap import Service
from rag_service.db.feed import SqlSnapshot
from rag_service.db.jobs import Claim
from rag_service.errors import LeaseLost, NotFound, StorageFull
from rag_service.index import segments
from rag_service.index.live_view import LiveIndex
from rag_service.index.rebuild import Rebuilder
from rag_service.inference.use_multilingual import UseMultilingual
from rag_service.ports import Candidates, IndexRow, Vector
from rag_service.retrieval.retriever import Retriever
from rag_service.text import index_terms, lexical_terms
from rag_service.types import PassageFilter

DIMENSIONS = UseMultilingual.dimensions


class FakeEmbedder:
    """Vectors that depend on the text alone: nothing here is about meaning."""

    name, dimensions = UseMultilingual.name, DIMENSIONS
    embed = staticmethod(vectors_of)

    def embed_query(self, embedder: str, text: str) -> Vector:
        return vectors_of([text])[0]


@dataclass(frozen=True)
class Library:
    """A room with its index: what a service and a worker have, but for parser and model."""

    room: Room
    index: LiveIndex
    rebuilder: Rebuilder
    retriever: Retriever
    documents: dict[str, str] = field(default_factory=dict)
    """Live document id to its text."""

    @property
    def root(self) -> Path:
        return self.room.storage.index_root

    def add(self, *texts: str) -> list[str]:
        ids = self.room.ready(*texts)
        self.documents.update(zip(ids, texts, strict=True))
        return ids

    def delete(self, document_id: str) -> None:
        self.room.storage.delete_document(TENANT, document_id)
        self.documents.pop(document_id, None)

    def everything(self) -> set[str]:
        """Ids of all documents that any search could find: more asked of the index than there is, then the gate."""
        [vector] = vectors_of(["alpha"])
        ids = [hit.chunk_id for hit in self.index.search(self.room.kb, always(in_words(vector, "alpha")), 10_000).hits]
        found = self.room.store.passages(TENANT, [self.room.kb], ids, PassageFilter())
        return {passage.document_id for passage in found.values()}

    def search(self, query: str, top_k: int = 50) -> set[str]:
        """Ids of the documents retrieved."""
        found = self.retriever.retrieve(TENANT, [self.room.kb], query, top_k, PassageFilter())
        return {one.passage.document_id for one in found.passages}

    def compact(self) -> None:
        self.rebuilder.rebuild(self.room.kb)

    def compactor(self, least: int = 5) -> Compactor:
        storage = self.room.storage
        return Compactor(storage.knowledge_bases, storage.feed, self.rebuilder, least)

    def another_process(self) -> Library:
        """The same data with an index that shares nothing with this one's memory."""
        return library_over(self.room, self.documents)

    def assert_exact(self, query: str = "alpha topic 3") -> None:
        """Both legs of the index against brute force over what SQL holds."""
        wanted = self._brute_force(query)
        [vector] = vectors_of([query])
        found = self.index.search(self.room.kb, always(in_words(vector, query)), 10_000)
        assert {hit.chunk_id for hit in found.hits} == wanted.keys()
        for hit in found.hits:
            dense, words = wanted[hit.chunk_id]
            assert hit.dense == pytest.approx(max(0.0, dense), abs=1e-3)
            assert (hit.lexical > 0) == words
        assert self.room.differences() == []

    def _brute_force(self, query: str) -> dict[int, tuple[float, bool]]:
        [vector], terms = vectors_of([query]), set(lexical_terms(query))
        with self.room.storage.feed.snapshot(self.room.kb) as snapshot:
            rows = list(snapshot.added(0))
        dense = {row.chunk_id: float(row.vector.astype(np.float32) @ vector) for row in rows}
        return {row.chunk_id: (dense[row.chunk_id], bool(terms & set(index_terms(row.text)))) for row in rows}


def library_over(room: Room, documents: dict[str, str] | None = None) -> Library:
    storage = room.storage
    rebuilder = Rebuilder(storage.index_root, storage.feed, storage.feed)
    index = LiveIndex(storage.index_root, storage.feed, rebuilder.rebuild)
    return Library(
        room, index, rebuilder, Retriever(FakeEmbedder(), index, room.store, NoTranslations()), documents or {}
    )


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with open_room(tmp_path / "data") as room:
        yield library_over(room)


def text(number: int) -> str:
    return f"{random.Random(number).choice(['alpha', 'beta', 'gamma'])} topic {number % 7} number {number}."


def files(library: Library) -> list[Path]:
    return sorted(path for path in library.root.rglob("*") if path.is_file() and path.stat().st_size)


def test_a_thousand_interleaved_operations_leak_nothing(library: Library) -> None:
    """One thread adds, one deletes, one compacts, one searches; what DELETE has returned for is never found again."""
    added: list[str] = []
    going: set[str] = set()
    deleted: set[str] = set()
    done, counts = threading.Event(), {"searches": 0, "deletes": 0, "adds": 0}

    def add() -> None:
        for number in range(250):
            added.extend(library.add(text(number)))
            counts["adds"] += 1

    def delete() -> None:
        choice = random.Random(7)
        while counts["deletes"] < 200:
            left = [one for one in list(added) if one not in going]
            if len(left) < 5:
                time.sleep(0.001)
                continue
            victim = choice.choice(left)
            going.add(victim)
            library.delete(victim)
            deleted.add(victim)
            counts["deletes"] += 1

    def search() -> None:
        while not done.is_set() or counts["searches"] < 600:
            gone, there = set(deleted), set(added)
            number = counts["searches"] = counts["searches"] + 1
            assert not library.search(text(number), 8) & gone
            found = library.everything()
            assert not found & gone
            assert there - found <= going

    def compact() -> None:
        compactor = library.compactor(least=20)
        while not done.is_set():
            compactor.look_at(library.room.kb)
            time.sleep(0.05)

    def change() -> None:
        assert in_threads(add, delete) == []
        done.set()

    assert in_threads(change, search, compact) == []
    assert sum(counts.values()) >= 1_050
    assert set(library.documents) == set(added) - deleted
    library.assert_exact()


def test_a_deleted_document_is_gone_in_every_process_at_once(library: Library) -> None:
    [doomed, kept] = library.add("alpha topic 1", "alpha topic 2")
    others = [library.another_process() for _ in range(3)]
    for other in others:
        assert other.search("alpha") == {doomed, kept}
    library.delete(doomed)
    for one in (library, *others):
        assert one.search("alpha") == {kept}


def test_a_document_deleted_between_the_search_and_the_gate_is_not_let_through(library: Library) -> None:
    [doomed, kept] = library.add("alpha topic 1", "alpha topic 2")

    class LateIndex:
        def search(self, *arguments: Any) -> Candidates:
            hints = library.index.search(*arguments)
            if doomed in library.documents:
                library.delete(doomed)
            return hints

    late = Retriever(FakeEmbedder(), LateIndex(), library.room.store, NoTranslations())
    found = late.retrieve(TENANT, [library.room.kb], "alpha", 8, PassageFilter())
    assert [one.passage.document_id for one in found.passages] == [kept]


def test_a_document_deleted_between_retrieval_and_citation_is_not_cited(shelf: Shelf, service: Service) -> None:
    shelf.put({"a.txt": "The gate code of the north door is 4711.", "b.txt": "The garden opens at nine."})
    question = Question(TENANT, "What is the gate code of the north door?", (shelf.kb,))
    assert {c.filename for c in service.asker.ask(question).citations} == {"a.txt"}

    def delete(event: Event) -> None:
        if isinstance(event, Retrieved):
            shelf.storage.delete_document(TENANT, shelf.document("a.txt"))

    answer = service.asker.ask(question, delete)
    assert "a.txt" not in {c.filename for c in answer.citations}
    assert "4711" not in answer.text


def test_deletion_wins_over_an_ingestion_whatever_moment_it_comes(library: Library) -> None:
    for number in range(30):
        _, [document_id] = library.room.upload(text(number))
        claim = library.room.claim_one()
        outcome: list[str] = []

        def publish(claim: Claim = claim, outcome: list[str] = outcome) -> None:
            try:
                library.room.publish(claim, "alpha")
                outcome.append("published first")
            except LeaseLost:
                outcome.append("deleted first")

        assert in_threads(publish, lambda d=document_id: library.delete(d)) == []
        assert outcome
        assert library.search("alpha") == set()
    assert library.room.differences() == []


def test_the_real_service_forgets_a_document_with_its_deletion(shelf: Shelf, service: Service) -> None:
    shelf.put({"a.txt": "The gate code is 4711.", "b.txt": "The garden opens at nine."})
    find = service.retriever.retrieve
    before = find(TENANT, [shelf.kb], "gate code", 8, PassageFilter())
    assert before.passages[0].passage.filename == "a.txt"
    shelf.storage.delete_document(TENANT, shelf.document("a.txt"))
    after = find(TENANT, [shelf.kb], "gate code", 8, PassageFilter())
    assert {one.passage.filename for one in after.passages} == {"b.txt"}
    assert after.revision[shelf.kb] == before.revision[shelf.kb] + 1


def test_a_compacted_index_answers_like_brute_force(library: Library) -> None:
    ids = library.add(*(text(number) for number in range(60)))
    library.assert_exact()
    library.compact()
    library.assert_exact()
    for document_id in ids[::3]:
        library.delete(document_id)
    library.add(*(text(number) for number in range(100, 110)))
    library.assert_exact()
    library.compact()
    library.assert_exact()
    library.another_process().assert_exact()


def test_compaction_happens_in_the_background_when_it_pays(library: Library) -> None:
    compactor, stopping = library.compactor(least=10), threading.Event()
    running = threading.Thread(target=compactor.run, args=(stopping,))
    running.start()
    library.add(*(text(number) for number in range(12)))
    wait_until(lambda: library.room.storage.feed.head(library.room.kb).segment is not None, 10)
    library.search("alpha")
    assert library.index.status()[library.room.kb].base_chunks == 12
    stopping.set()
    running.join()
    library.add("one more")
    assert not compactor.look_at(library.room.kb)
    library.assert_exact()


def test_readers_never_wait_for_a_compaction_nor_miss_a_thing(library: Library) -> None:
    library.add(*(text(number) for number in range(100)))
    done, faults = threading.Event(), []

    def search() -> None:
        while not done.is_set():
            [vector] = vectors_of(["alpha"])
            found = library.index.search(library.room.kb, always(in_words(vector, "alpha")), 1_000)
            if len(found.hits) != 100:
                faults.append(len(found.hits))

    def compact() -> None:
        for _ in range(8):
            library.compact()
        done.set()

    assert in_threads(compact, search, search, search) == []
    assert faults == []


@pytest.mark.parametrize("harm", ["flip", "truncate", "empty", "remove", "extra"])
def test_damage_to_any_file_of_the_index_heals_itself(library: Library, harm: str) -> None:
    library.add(*(text(number) for number in range(20)))
    library.compact()
    for number in range(len(files(library))):
        before = library.room.storage.feed.head(library.room.kb).segment
        victim = files(library)[number]
        damage(victim, harm)
        assert [found for found in library.room.differences() if found.startswith("index")], victim
        fresh = library.another_process()
        fresh.search("alpha")
        after = library.room.storage.feed.head(library.room.kb).segment
        assert after is not None
        assert after != before
        fresh.assert_exact()
        library.assert_exact()


def damage(path: Path, harm: str) -> None:
    content = path.read_bytes()
    path.unlink()
    if harm == "flip":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif harm == "truncate":
        path.write_bytes(content[:-1])
    elif harm == "empty":
        path.write_bytes(b"")
    elif harm == "extra":
        path.write_bytes(content)
        path.with_name("unknown").write_bytes(content)


def test_the_loss_of_the_whole_index_costs_nothing_but_time(library: Library) -> None:
    library.add(*(text(number) for number in range(30)))
    library.compact()
    shutil.rmtree(library.root)
    fresh = library.another_process()
    fresh.search("alpha")
    fresh.assert_exact()


def test_a_reader_that_has_the_index_in_memory_does_not_miss_its_files(library: Library) -> None:
    library.add(*(text(number) for number in range(30)))
    library.compact()
    library.search("alpha")
    shutil.rmtree(library.root)
    library.add("alpha new")
    assert len(library.search("alpha new number", 50)) == 31


def test_two_compactors_at_once_leave_one_base_and_no_other_folder(library: Library) -> None:
    library.add(*(text(number) for number in range(30)))
    other = library.another_process()
    for step in range(4):
        compacted: list[bool] = []
        works: list[Callable[[], object]] = [
            lambda one=one, made=compacted: made.append(one.compactor(1).look_at(one.room.kb))
            for one in (library, other)
        ]
        assert in_threads(*works) == []
        assert compacted.count(True) >= 1
        library.add(f"alpha {step} {'x' * step}", *(text(1_000 + 40 * step + n) for n in range(39)))
    named = library.room.storage.feed.segments()
    assert len(named) == 1
    assert [folder.name for folder in segments.folders(library.root)] == [named[0].id]
    library.assert_exact()


def test_two_rebuilds_at_once_without_a_reservation_are_safe_too(library: Library) -> None:
    library.add(*(text(number) for number in range(30)))
    other = library.another_process()
    for number in range(4):
        works = [library.compact, other.compact, lambda n=number: library.add(text(500 + n))]
        assert in_threads(*works) == []
        library.assert_exact()
        other.assert_exact()
    assert len(library.room.storage.feed.segments()) == 1
    assert len(list(segments.folders(library.root))) == 1


def test_compacting_while_documents_are_deleted_brings_none_back(library: Library) -> None:
    ids = library.add(*(text(number) for number in range(120)))
    other = library.another_process()
    done = threading.Event()

    def delete() -> None:
        for document_id in ids[:90]:
            library.delete(document_id)
        done.set()

    def compact() -> None:
        while not done.is_set():
            library.compact()

    def search() -> None:
        while not done.is_set():
            gone = set(ids) - set(library.documents)
            assert not other.search("alpha topic 3") & gone

    assert in_threads(delete, compact, search) == []
    library.assert_exact()
    other.assert_exact()
    library.compact()
    other.assert_exact()
    library.another_process().assert_exact()


def test_a_reader_left_behind_by_forgotten_tombstones_starts_over(library: Library) -> None:
    """Its base still holds the deleted chunks, and SQL no longer says that they were retired."""
    ids = library.add(*(text(number) for number in range(20)))
    library.compact()
    behind = library.another_process()
    behind.search("alpha")
    for document_id in ids[:10]:
        library.delete(document_id)
    library.compact()
    with library.room.storage.feed.snapshot(library.room.kb) as snapshot:
        assert snapshot.retired(0) == []
    behind.assert_exact()


def test_a_compactor_that_died_holds_the_others_off_only_for_a_while(library: Library) -> None:
    library.add(*(text(number) for number in range(10)))
    feed, compactor = library.room.storage.feed, library.compactor()
    assert feed.reserve(library.room.kb, 0.2)
    assert not compactor.look_at(library.room.kb)
    time.sleep(0.3)
    assert compactor.look_at(library.room.kb)


def test_a_compaction_without_space_is_tried_again_and_harms_nothing(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.add(*(text(number) for number in range(10)))
    compactor, rebuild, full = library.compactor(), library.rebuilder.rebuild, [StorageFull("no space")]

    def failing(knowledge_base_id: str) -> object:
        if full:
            raise full.pop()
        return rebuild(knowledge_base_id)

    monkeypatch.setattr(library.rebuilder, "rebuild", failing)
    monkeypatch.setattr("ingest.compactor._RESERVED_SECONDS", 0.0)
    with pytest.raises(StorageFull):
        compactor.look_at(library.room.kb)
    library.assert_exact()
    assert compactor.look_at(library.room.kb)
    library.assert_exact()


def test_a_knowledge_base_deleted_while_it_is_compacted_stops_no_compactor(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = library.room.storage
    library.add(*(text(number) for number in range(10)))
    snapshot = storage.feed.snapshot

    @contextmanager
    def deleting(knowledge_base_id: str) -> Iterator[SqlSnapshot]:
        with snapshot(knowledge_base_id) as opened:
            rows = opened.added(0)
            monkeypatch.setattr(opened, "added", lambda after: then_delete(rows))
            yield opened

    def then_delete(rows: Iterator[IndexRow]) -> Iterator[IndexRow]:
        yield from rows
        storage.delete_knowledge_base(TENANT, library.room.kb)

    monkeypatch.setattr(storage.feed, "snapshot", deleting)
    with pytest.raises(NotFound):
        library.compactor().look_at(library.room.kb)
    monkeypatch.undo()
    assert storage.feed.segments() == []


def test_what_a_crash_left_is_cleared_and_nothing_else(library: Library) -> None:
    storage = library.room.storage
    [kept] = library.add("kept")
    library.compact()
    orphan = storage.blobs.put(io.BytesIO(b"nobody's")).sha256
    home = library.root / library.room.kb
    for name, age in (("old", 3_600), ("old.tmp", 3_600), ("young.tmp", 1)):
        (home / name).mkdir()
        os.utime(home / name, (time.time() - age,) * 2)
    [named] = storage.feed.segments()
    os.utime(home / named.id, (time.time() - 3_600,) * 2)
    clear_leftovers(storage.documents, storage.blobs, storage.feed, library.root)
    assert not storage.blobs.exists(orphan)
    assert {folder.name for folder in segments.folders(library.root)} == {named.id, "young.tmp"}
    assert library.search("kept") == {kept}
    library.assert_exact()
