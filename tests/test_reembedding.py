"""Changing a knowledge base's embedder: online, resumable, at once, and back."""

from __future__ import annotations

import dataclasses
import hashlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from changing import DIMENSIONS, OLD, SMALL, TWIN, Changing, FakeEmbedders
from legs import NoTranslations, in_words
from rooms import TENANT, Room, made_of, open_room, vectors_of

from ingest.compactor import clear_leftovers
from rag_service import failpoints
from rag_service.db.reembeddings import Made
from rag_service.db.sessions import new_id
from rag_service.errors import (
    EmbedderChanged,
    EmbedderChanging,
    EmbedderUnavailable,
    InvalidInput,
    LeaseLost,
    NotFound,
    StorageFull,
    VectorsForgotten,
    WrongDimensions,
)
from rag_service.index import segments
from rag_service.index.live_view import LiveIndex
from rag_service.ports import Head, IndexQuery, Vector
from rag_service.retrieval.retriever import Retriever
from rag_service.types import PassageFilter

TEXTS = [f"passage number {n}" for n in range(70)]
STEPS = (
    "reembed.claimed", "reembed.embedding", "reembed.embedded", "reembed.batch-written", "reembed.batch-committed",
    "reembed.closing", "reembed.complete", "segment.sealed", "segment.renamed", "reembed.swap-written",
    "reembed.swapped", "reembed.segment-removed",
)  # fmt: skip


class Killed(BaseException):
    """Nothing catches it, as nothing catches a power cut."""


@pytest.fixture
def changing(room: Room) -> Changing:
    return Changing(room)


@pytest.fixture
def full(changing: Changing) -> Changing:
    """With two documents, the first of them in a base segment."""
    changing.publish(*TEXTS[:40])
    changing.compact()
    changing.publish(*TEXTS[40:])
    return changing


@pytest.fixture
def at() -> Iterator[Callable[[str, Callable[[], None]], None]]:
    """Do something the first time a failpoint is reached."""

    def arm(name: str, action: Callable[[], None]) -> None:
        done: list[str] = []

        def reached(found: str) -> None:
            if found == name and not done:
                done.append(found)
                action()

        failpoints.arm(reached)

    yield arm
    failpoints.disarm()


def kill() -> None:
    raise Killed


def answers_as_one(changing: Changing) -> None:
    for text in (TEXTS[3], TEXTS[50]):
        assert changing.closeness(text) == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("embedder", [SMALL, TWIN])
def test_the_new_embedder_answers_once_everything_is_embedded(full: Changing, embedder: str) -> None:
    answers_as_one(full)
    job_id = full.begin(embedder)
    assert (full.job(job_id).state, full.job(job_id).total) == ("queued", 70)
    assert full.work()
    job = full.job(job_id)
    assert (job.kind, job.state, job.done, job.total, job.problem) == ("reembed", "succeeded", 70, 70, None)
    assert job.finished_at is not None
    assert full.answering() == embedder
    assert full.room.storage.knowledge_bases.get(TENANT, full.room.kb).embedder == embedder
    assert full.stored() == {OLD: 70, embedder: 70}
    answers_as_one(full)
    assert full.index.status()[full.room.kb].base_chunks == 70
    assert len(full.segment_folders()) == 1
    assert full.room.differences() == []
    assert not full.work()


def test_until_then_the_old_one_answers_whatever_is_asked(full: Changing) -> None:
    asked: list[str] = []

    def ask() -> None:
        asked.append(full.answering())
        answers_as_one(full)

    full.embedders.during = ask
    full.change(TWIN)
    assert asked == [OLD] * 3
    assert full.answering() == TWIN


@pytest.mark.parametrize("step", STEPS)
def test_after_a_crash_anywhere_another_worker_goes_on_from_the_last_batch(
    room: Room, at: Callable[[str, Callable[[], None]], None], step: str
) -> None:
    first = Changing(room, lease_seconds=0.05)
    first.publish(*TEXTS[:40])
    first.compact()
    first.publish(*TEXTS[40:])
    at(step, kill)
    job_id = first.begin(SMALL)
    with pytest.raises(Killed):
        first.work()
    answers_as_one(first)
    assert room.differences() == []

    second = Changing(room)
    time.sleep(0.1)
    assert second.work() == (first.job(job_id).state != "succeeded") or first.answering() == SMALL
    assert second.job(job_id).state == "succeeded"
    assert second.answering() == SMALL
    answers_as_one(first)
    answers_as_one(second)
    assert room.differences() == []
    assert second.stored() == {OLD: 70, SMALL: 70}
    redone = [text for _, text in first.embedders.asked if (SMALL, text) in second.embedders.asked]
    assert len(redone) <= 32


def _be_killed(data: Path, step: str, batches: int) -> None:
    """In a process of its own: the change is begun, and killed the `batches`th time it comes to a step."""
    left = iter(range(batches))

    def reached(name: str) -> None:
        if name == step and next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    with open_room(data, name="another") as room:
        [kb] = [one.id for one in room.storage.knowledge_bases.browse(TENANT, 9, None).items if one.name == "room"]
        failpoints.arm(reached)
        Changing(dataclasses.replace(room, kb=kb), lease_seconds=0.05).work()


@pytest.mark.parametrize(
    ("step", "batches"),
    [("reembed.batch-committed", 1), ("segment.renamed", 0), ("reembed.swap-written", 0), ("reembed.swapped", 0)],
)
def test_a_worker_killed_at_its_worst_moment_costs_nothing_but_time(tmp_path: Path, step: str, batches: int) -> None:
    with open_room(tmp_path / "data") as room:
        changing = Changing(room)
        changing.publish(*TEXTS)
        changing.compact()
        job_id = changing.begin(SMALL)
        killed = multiprocessing.get_context("spawn").Process(
            target=_be_killed, args=(tmp_path / "data", step, batches)
        )
        killed.start()
        killed.join(100)
        assert killed.exitcode == -signal.SIGKILL
        swapped = step == "reembed.swapped"
        assert (changing.answering(), changing.job(job_id).state) == (
            (SMALL, "succeeded") if swapped else (OLD, "running")
        )
        answers_as_one(changing)
        assert room.differences() == []
        time.sleep(0.1)
        assert changing.work() is not swapped
        assert changing.answering() == SMALL
        assert changing.stored() == {OLD: 70, SMALL: 70}
        assert len(changing.embedders.asked) == {"reembed.batch-committed": 6}.get(step, 0)
        answers_as_one(changing)
        assert room.differences() == []
        old = time.time() - 3_600
        for folder in (room.storage.index_root / room.kb).iterdir():
            os.utime(folder, (old, old))
        clear_leftovers(room.storage.documents, room.storage.blobs, room.storage.feed, room.storage.index_root)
        assert len(changing.segment_folders()) == 1


def test_documents_that_come_and_go_meanwhile_are_in_the_new_generation_or_gone(
    full: Changing, at: Callable[[str, Callable[[], None]], None]
) -> None:
    room, steps = full.room, iter(range(100))
    doomed = [full.publish(f"doomed {n}") for n in range(4)]
    under_way = [full.claimed(f"late {n}") for n in range(3)]

    def come_and_go() -> None:
        number = next(steps)
        full.finish(under_way[number], f"late {number}")
        room.storage.delete_document(TENANT, doomed.pop())

    for step in ("reembed.embedded", "reembed.closing", "segment.renamed"):
        at(step, come_and_go)
    full.change(SMALL)
    assert full.answering() == SMALL
    for text in ("late 0", "late 1", "late 2", TEXTS[0], "doomed 0"):
        assert full.closeness(text) == pytest.approx(1.0, abs=2e-3)
    assert full.everything() == set(room.live_chunks())
    assert full.stored()[SMALL] == 74
    assert room.differences() == []


def test_a_document_published_just_before_the_segment_is_written_is_not_lost_to_it(
    full: Changing, at: Callable[[str, Callable[[], None]], None]
) -> None:
    claim = full.claimed("just now")
    at("reembed.complete", lambda: full.finish(claim, "just now") and None)
    full.change(SMALL)
    assert full.closeness("just now") == pytest.approx(1.0, abs=2e-3)
    assert full.everything() == set(full.room.live_chunks())
    assert full.room.differences() == []


def test_a_vector_never_outlives_the_text_it_was_made_of(
    full: Changing, at: Callable[[str, Callable[[], None]], None]
) -> None:
    [first, second] = [one.id for one in full.room.storage.documents.browse(TENANT, full.room.kb, None, 9, None).items]
    at("reembed.embedded", lambda: full.room.storage.delete_document(TENANT, first))
    stored: list[dict[str, int]] = []
    at("reembed.batch-committed", lambda: stored.append(full.stored()))
    full.change(SMALL)
    assert stored == [{OLD: 30}]
    assert full.stored() == {OLD: 30, SMALL: 30}
    full.room.storage.delete_document(TENANT, second)
    assert full.stored() == {}
    assert full.room.differences() == []


def test_a_compaction_meanwhile_brings_no_deleted_chunk_back(
    full: Changing, at: Callable[[str, Callable[[], None]], None]
) -> None:
    doomed = full.publish("doomed")

    def delete_and_compact() -> None:
        full.room.storage.delete_document(TENANT, doomed)
        full.compact()

    at("segment.renamed", delete_and_compact)
    full.change(SMALL)
    assert full.everything() == set(full.room.live_chunks())
    assert len(full.segment_folders()) == 1
    assert full.room.differences() == []


def test_a_segment_of_the_old_generation_that_comes_too_late_is_not_named(
    full: Changing, at: Callable[[str, Callable[[], None]], None]
) -> None:
    at("compact.written", lambda: full.change(TWIN) and None)
    full.compact()
    head = full.room.storage.feed.head(full.room.kb)
    assert (head.space.embedder, head.segment and head.segment.embedder) == (TWIN, TWIN)
    answers_as_one(full)
    assert full.room.differences() == []


def test_what_was_embedded_by_the_old_one_is_not_published_after_the_swap(full: Changing) -> None:
    _, [document_id] = full.room.upload("bytes")
    claim = full.room.claim_one()
    parsed, drafts = made_of(["late"])
    full.change(TWIN)
    before = full.room.revision()
    with pytest.raises(EmbedderChanged, match=f"embedded by {OLD}, while {TWIN}"):
        full.room.publisher.publish(claim, parsed, drafts, vectors_of(["late"]), OLD)
    assert full.room.revision() == before
    assert full.room.storage.documents.get(TENANT, document_id).state == "processing"
    full.room.storage.jobs.release([claim])
    assert full.room.differences() == []


def test_vectors_of_another_length_are_not_published(full: Changing) -> None:
    full.room.upload("bytes")
    claim = full.room.claim_one()
    parsed, drafts = made_of(["short"])
    with pytest.raises(WrongDimensions, match=r"made vectors of 24 dimensions, .* have 512"):
        full.room.publisher.publish(claim, parsed, drafts, np.ones((1, 24), np.float32), OLD)
    assert full.stored() == {OLD: 70}


def test_an_embedder_that_changes_its_dimensions_fails_by_name_and_mixes_nothing(full: Changing) -> None:
    def shrink() -> None:
        if len(full.embedders.asked) >= 32:
            full.embedders.made[SMALL] = 20

    full.embedders.during = shrink
    job = full.change(SMALL)
    assert (job.state, job.problem and job.problem.code) == ("failed", "wrong-dimensions")
    assert full.answering() == OLD
    answers_as_one(full)
    assert full.stored() == {OLD: 70, SMALL: 32}
    assert full.room.differences() == []


def test_an_embedder_that_makes_other_vectors_than_it_did_is_refused_before_it_embeds_anything(full: Changing) -> None:
    full.change(SMALL)
    full.change(OLD)
    full.embedders.made[SMALL] = 20
    full.embedders.asked.clear()
    job = full.change(SMALL)
    assert (job.state, job.problem and job.problem.code) == ("failed", "wrong-dimensions")
    assert full.embedders.asked == []
    full.changes.forget(TENANT, full.room.kb)
    assert full.change(SMALL).state == "succeeded"
    answers_as_one(full)


def test_a_vector_of_another_length_in_the_database_is_never_swapped_in(full: Changing) -> None:
    change = _claimed(full, SMALL)
    some = full.changes.lacking(change, 0, 100)
    vectors = np.ones((len(some), 24), np.float32)
    full.changes.store(change, [Made(one.chunk_id, "") for one in some], vectors)
    with full.room.storage.database.write() as connection:
        connection.exec_driver_sql(
            "UPDATE vectors SET vector = (SELECT v.vector FROM vectors v WHERE v.embedder = 'use-multilingual' LIMIT 1)"
            f" WHERE embedder = 'small' AND chunk_id = {some[7].chunk_id}"
        )
    full.changes.enter(change, "closing")
    segment = _segment(full, SMALL, lambda row: row.chunk_id != some[7].chunk_id)
    with pytest.raises(WrongDimensions, match=f"chunk {some[7].chunk_id} by small has not 24 dimensions"):
        full.changes.swap(change, segment)
    assert full.answering() == OLD
    assert [f"chunk {some[7].chunk_id} has a vector of small that has not its 24 dimensions" in d
            for d in full.room.differences()] == [True]  # fmt: skip


def _claimed(changing: Changing, embedder: str) -> Any:
    job_id = changing.begin(embedder)
    change = changing.changes.claim("somebody", 60.0, job_id)
    assert change is not None
    return change


def _segment(changing: Changing, embedder: str, wanted: Callable[[Any], bool]) -> Any:
    room = changing.room
    with room.storage.feed.snapshot(room.kb) as snapshot:
        coming = snapshot.as_if_answered_by(embedder)
        rows = (row for row in coming.added(0) if wanted(row))
        return segments.build(
            room.storage.index_root, room.kb, new_id(), coming.head.revision, embedder, DIMENSIONS[embedder], rows
        )


@pytest.mark.parametrize("after_batches", [0, 1, 2])
def test_a_cancelled_change_leaves_nothing(full: Changing, after_batches: int) -> None:
    job_id, batches = full.begin(SMALL), iter(range(9))

    def cancel() -> None:
        if next(batches) == after_batches:
            assert full.room.storage.jobs.cancel(TENANT, job_id).state == "cancelled"

    full.embedders.during = cancel
    assert full.work()
    assert full.job(job_id).state == "cancelled"
    assert full.stored() == {OLD: 70}
    assert full.changes.forget(TENANT, full.room.kb) == 0
    assert full.room.storage.jobs.retry(TENANT, job_id).state == "queued"
    full.room.storage.jobs.cancel(TENANT, job_id)
    answers_as_one(full)
    assert not full.work()
    assert full.room.differences() == []
    assert full.change(TWIN).state == "succeeded"


def test_a_change_cancelled_at_the_last_moment_leaves_no_segment(
    full: Changing, at: Callable[[str, Callable[[], None]], None]
) -> None:
    job_id = full.begin(SMALL)
    before = full.segment_folders()
    at("segment.renamed", lambda: full.room.storage.jobs.cancel(TENANT, job_id) and None)
    assert full.work()
    assert full.answering() == OLD
    assert full.segment_folders() == before
    assert full.stored() == {OLD: 70}


def test_cancelling_what_has_been_done_changes_nothing(full: Changing) -> None:
    job = full.change(SMALL)
    assert full.room.storage.jobs.cancel(TENANT, job.id).state == "succeeded"
    assert full.stored() == {OLD: 70, SMALL: 70}
    assert full.answering() == SMALL


def test_the_way_back_embeds_only_what_came_since(full: Changing) -> None:
    full.change(SMALL)
    full.publish("since")
    full.embedders.asked.clear()
    job = full.change(full.changes.before(TENANT, full.room.kb))
    assert job.state == "succeeded"
    assert full.embedders.asked == [(OLD, "Title\nsince")]
    assert full.answering() == OLD
    assert full.closeness("since") == pytest.approx(1.0, abs=2e-3)
    answers_as_one(full)
    assert full.changes.before(TENANT, full.room.kb) == SMALL
    assert full.room.differences() == []


def test_a_way_back_that_is_cancelled_keeps_the_old_generation(full: Changing) -> None:
    full.change(SMALL)
    full.publish("since")
    job_id = full.begin(OLD)
    full.room.storage.jobs.cancel(TENANT, job_id)
    assert full.stored() == {OLD: 70, SMALL: 71}
    assert full.changes.before(TENANT, full.room.kb) == OLD


def test_where_nothing_answered_before_there_is_no_way_back(full: Changing) -> None:
    with pytest.raises(NotFound, match="no earlier generation"):
        full.changes.before(TENANT, full.room.kb)
    full.change(SMALL)
    assert full.changes.forget(TENANT, full.room.kb) == 70
    with pytest.raises(NotFound, match="no earlier generation"):
        full.changes.before(TENANT, full.room.kb)
    assert full.stored() == {SMALL: 70}
    answers_as_one(full)
    assert full.room.differences() == []


def test_the_past_is_searched_by_the_embedder_of_then_as_long_as_its_vectors_are_kept(full: Changing) -> None:
    then = full.room.revision()
    full.change(SMALL)
    between = full.room.revision()
    full.change(TWIN)
    for revision in (then, between, full.room.revision()):
        assert full.then(revision, TEXTS[3]) == pytest.approx(1.0, abs=2e-3)
    full.changes.forget(TENANT, full.room.kb)
    assert full.then(full.room.revision(), TEXTS[3]) == pytest.approx(1.0, abs=2e-3)
    for revision, embedder in ((then, OLD), (between, SMALL)):
        with pytest.raises(VectorsForgotten, match=f"{embedder} answered at revision {revision}"):
            full.then(revision, TEXTS[3])


def test_one_change_at_a_time_and_none_to_the_embedder_there_is(full: Changing) -> None:
    with pytest.raises(InvalidInput, match="is the knowledge base's embedder"):
        full.begin(OLD)
    job_id = full.begin(SMALL)
    for other in (SMALL, TWIN, OLD):
        with pytest.raises(EmbedderChanging) as raised:
            full.begin(other)
        assert raised.value.data["job_id"] == job_id
    with pytest.raises(EmbedderChanging):
        full.changes.forget(TENANT, full.room.kb)
    full.work()
    with pytest.raises(InvalidInput):
        full.begin(SMALL)


def test_two_that_begin_at_once_do_not_both_succeed(full: Changing) -> None:
    together, begun, refused = threading.Barrier(6), [], []

    def begin() -> None:
        together.wait(10)
        try:
            begun.append(full.begin(SMALL))
        except EmbedderChanging as error:
            refused.append(error)

    threads = [threading.Thread(target=begin) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(begun), len(refused)) == (1, 5)


def test_a_foreign_knowledge_base_is_not_found(full: Changing) -> None:
    for call in (
        lambda: full.changes.begin("other", full.room.kb, SMALL),
        lambda: full.changes.before("other", full.room.kb),
        lambda: full.changes.forget("other", full.room.kb),
        lambda: full.changes.begin(TENANT, "nothing", SMALL),
    ):
        with pytest.raises(NotFound):
            call()


def test_an_embedder_that_cannot_be_opened_fails_the_job_with_a_reason_and_can_be_tried_again(full: Changing) -> None:
    del full.embedders.made[SMALL]
    job = full.change(SMALL)
    assert (job.state, job.problem and job.problem.code) == ("failed", "invalid-configuration")
    assert not full.work()
    full.embedders.made[SMALL] = 24
    assert full.room.storage.jobs.retry(TENANT, job.id).state == "queued"
    assert full.work()
    assert full.job(job.id).state == "succeeded"
    assert full.room.storage.jobs.retry(TENANT, job.id).state == "succeeded"
    assert full.answering() == SMALL


def test_a_failed_change_is_not_tried_again_beside_another(full: Changing) -> None:
    del full.embedders.made[SMALL]
    failed = full.change(SMALL)
    full.begin(TWIN)
    with pytest.raises(EmbedderChanging):
        full.room.storage.jobs.retry(TENANT, failed.id)


@pytest.mark.parametrize("error", [EmbedderUnavailable("down"), StorageFull("full"), OSError(28, "no space")])
def test_what_is_not_there_for_a_while_costs_no_attempt(
    full: Changing, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.reembedding._PAUSE_SECONDS", 0.0)
    failures = iter(range(6))

    def fail() -> None:
        if next(failures, None) is not None:
            raise error

    full.embedders.during = fail
    job_id = full.begin(SMALL)
    for _ in range(7):
        assert full.work()
    assert full.job(job_id).state == "succeeded"


def test_a_change_over_which_workers_die_without_getting_further_fails(room: Room) -> None:
    changing = Changing(room, lease_seconds=0.01)
    changing.publish(*TEXTS[:40])
    changing.embedders.during = kill
    job_id = changing.begin(SMALL)
    for _ in range(3):
        with pytest.raises(Killed):
            changing.work()
        time.sleep(0.05)
    assert not changing.work()
    job = changing.job(job_id)
    assert (job.state, job.problem and job.problem.code) == ("failed", "worker-died")
    assert changing.stored() == {OLD: 40}


def test_progress_is_told_batch_by_batch(full: Changing) -> None:
    job_id, told = full.begin(SMALL), []
    full.embedders.during = lambda: told.append((full.job(job_id).state, full.job(job_id).stage, full.job(job_id).done))
    full.work()
    assert told == [("running", "embedding", 0), ("running", "embedding", 32), ("running", "embedding", 64)]


def test_a_worker_told_to_stop_gives_the_change_back_between_two_batches(full: Changing) -> None:
    stopping = threading.Event()
    full.embedders.during = stopping.set
    job_id = full.begin(SMALL)
    assert full.reembedder.look(stopping)
    assert (full.job(job_id).state, full.stored()[SMALL]) == ("queued", 32)
    full.embedders.during = lambda: None
    assert full.work()
    assert full.job(job_id).state == "succeeded"


def test_a_worker_that_lost_its_claim_stores_nothing(full: Changing) -> None:
    job_id = full.begin(SMALL)
    change = full.changes.claim("slow", -1.0, job_id)
    assert change is not None
    again = full.changes.claim("quick", 60.0, job_id)
    assert again is not None
    some = full.changes.lacking(change, 0, 5)
    made, rows = [Made(one.chunk_id, "") for one in some], np.ones((5, 24), np.float32)
    with pytest.raises(LeaseLost):
        full.changes.store(change, made, rows)
    assert not full.changes.renew(change, 60.0)
    full.changes.store(again, made, rows)
    assert full.stored()[SMALL] == 5


def test_a_lease_outlasts_a_slow_batch(room: Room) -> None:
    changing = Changing(room, lease_seconds=0.3)
    changing.publish("text")
    job_id, stolen = changing.begin(SMALL), []

    def dawdle() -> None:
        time.sleep(1.0)
        stolen.append(changing.changes.claim("thief", 60.0, job_id))

    changing.embedders.during = dawdle
    changing.work()
    assert stolen == [None]
    assert changing.job(job_id).state == "succeeded"


def test_no_document_is_begun_while_the_change_closes_and_all_are_afterwards(
    full: Changing, at: Callable[[str, Callable[[], None]], None]
) -> None:
    job_id, _ = full.room.upload("waits")
    elsewhere = full.room.storage.knowledge_bases.create(TENANT, "elsewhere").id
    full.room.upload("goes on", kb=elsewhere)
    found: list[list[str]] = []

    def look() -> None:
        for job in (None, job_id):
            claims = full.room.storage.jobs.claim("worker", 60.0, 9, job)
            found.append([claim.knowledge_base_id for claim in claims])

    at("segment.renamed", look)
    full.change(SMALL)
    assert found == [[elsewhere], []]
    assert [claim.knowledge_base_id for claim in full.room.claim(limit=9)] == [full.room.kb]


def test_a_worker_that_dies_while_closing_holds_documents_up_no_longer_than_its_lease(room: Room) -> None:
    changing = Changing(room)
    job_id = changing.begin(SMALL)
    change = changing.changes.claim("dead", 0.2, job_id)
    assert change is not None
    changing.changes.enter(change, "closing")
    room.upload("waits")
    assert room.claim() == []
    time.sleep(0.3)
    assert len(room.claim()) == 1


def test_a_search_under_way_during_the_swap_mixes_no_two_generations(
    full: Changing, at: Callable[[str, Callable[[], None]], None]
) -> None:
    """It has looked at SQL before the swap, and reads what has changed after it."""
    feed, room = full.room.storage.feed, full.room
    doomed, swapped, seen = full.publish("doomed"), threading.Event(), threading.Event()

    class Pausing:
        snapshot = staticmethod(feed.snapshot)

        def head(self, knowledge_base_id: str) -> Head:
            head = feed.head(knowledge_base_id)
            if head.revision == wanted:
                seen.set()
                assert swapped.wait(30)
            return head

    index, wanted, found = LiveIndex(room.storage.index_root, Pausing(), full.rebuilder.rebuild), -1, []

    def asked(embedder: str) -> IndexQuery:
        return in_words(full.embedders.embed_query(embedder, TEXTS[3]), TEXTS[3])

    def ask() -> None:
        found.extend(index.search(room.kb, asked, 10_000).hits)

    asking = threading.Thread(target=ask)

    def begin_to_ask() -> None:
        nonlocal wanted
        index.search(room.kb, asked, 5)
        room.storage.delete_document(TENANT, doomed)
        wanted = room.revision()
        asking.start()
        assert seen.wait(30)

    at("segment.renamed", begin_to_ask)
    full.change(TWIN)
    swapped.set()
    asking.join()
    assert {hit.chunk_id for hit in found} == set(room.live_chunks())
    [score] = [hit.dense for hit in found if hit.lexical == max(hit.lexical for hit in found)][:1]
    assert score == pytest.approx(1.0, abs=2e-3)
    assert index.status()[room.kb].base_chunks == 71


def test_a_view_begun_before_the_swap_is_begun_anew(changing: Changing) -> None:
    """Nothing is compacted: all is in the tail, which is read after the swap."""
    changing.publish(*TEXTS)
    feed, changed = changing.room.storage.feed, []

    class Late:
        head = staticmethod(feed.head)

        def snapshot(self, knowledge_base_id: str) -> Any:
            if not changed:
                changed.append(changing.change(TWIN))
            return feed.snapshot(knowledge_base_id)

    changing.index = LiveIndex(changing.room.storage.index_root, Late(), changing.rebuilder.rebuild)
    changing.retriever = Retriever(changing.embedders, changing.index, changing.room.store, NoTranslations())
    answers_as_one(changing)
    assert changing.answering() == TWIN


def test_a_knowledge_base_that_was_searched_while_it_was_empty_finds_its_first_document(changing: Changing) -> None:
    assert changing.everything() == set()
    changing.publish("first")
    assert changing.closeness("first") == pytest.approx(1.0, abs=2e-3)


def test_an_empty_knowledge_base_changes_too(changing: Changing) -> None:
    job = changing.change(SMALL)
    assert (job.state, job.total) == ("succeeded", 0)
    changing.publish("first")
    assert changing.stored() == {SMALL: 1}
    assert changing.closeness("first") == pytest.approx(1.0, abs=2e-3)
    assert changing.room.differences() == []


def test_a_text_the_new_embedder_knows_from_elsewhere_is_not_embedded_again(full: Changing) -> None:
    full.change(SMALL)
    full.embedders.asked.clear()
    other = full.room.storage.knowledge_bases.create(TENANT, "other").id
    [claim] = _uploaded(full.room, other)
    texts = [TEXTS[0], "something new"]
    parsed, drafts = made_of(texts)
    hashes = [hashlib.sha256(f"Title\n{text}".encode()).hexdigest() for text in texts]
    full.room.publisher.publish(claim, parsed, drafts, vectors_of(texts), OLD, hashes)
    full.changes.begin(TENANT, other, SMALL)
    full.work()
    assert full.embedders.asked == [(SMALL, "Title\nsomething new")]


def _uploaded(room: Room, kb: str) -> list[Any]:
    room.upload("more bytes", kb=kb)
    return room.claim()


def test_a_deleted_knowledge_base_takes_its_change_with_it(full: Changing) -> None:
    job_id = full.begin(SMALL)
    full.embedders.during = lambda: full.room.storage.delete_knowledge_base(TENANT, full.room.kb)
    assert full.work()
    with pytest.raises(NotFound):
        full.job(job_id)
    assert full.room.differences() == []


def test_a_question_over_several_knowledge_bases_is_embedded_once_by_each_embedder(full: Changing) -> None:
    room = full.room
    others = [room.storage.knowledge_bases.create(TENANT, name).id for name in ("b", "c")]
    for number, kb in enumerate(others):
        room.upload(f"bytes {number}", kb=kb)
        room.publish(room.claim_one(), f"text of {number}")
    full.change(SMALL)
    asked: list[str] = []

    class Counting(FakeEmbedders):
        def embed_query(self, embedder: str, text: str) -> Vector:
            asked.append(embedder)
            return super().embed_query(embedder, text)

    retriever = Retriever(Counting(), full.index, room.store, NoTranslations())
    found = retriever.retrieve(TENANT, [room.kb, *others], TEXTS[3], 50, PassageFilter())
    assert sorted(asked) == [SMALL, OLD]
    assert {one.passage.knowledge_base_id for one in found.passages} == {room.kb, *others}


def test_there_and_back_under_way_everything_is_answered_by_exactly_one_generation(room: Room) -> None:
    changing = Changing(room)
    changing.publish("always there")
    changing.publish(*(f"text {n}" for n in range(50)))
    over, faults, asked = threading.Event(), [], []

    def guarded(work: Callable[[], None]) -> None:
        try:
            while not over.is_set():
                work()
        except BaseException as error:
            faults.append(error)
            raise

    def ask() -> None:
        score = changing.closeness("always there")
        assert score == pytest.approx(1.0, abs=2e-3)
        asked.append(score)

    def write() -> None:
        try:
            document_id = changing.publish(f"document of {time.monotonic()}")
        except (ValueError, EmbedderChanged):
            # Nothing to claim while it closes; or embedded by the one that answered just before.
            for claim in room.storage.jobs.claim("again", 0.0, 50):
                room.storage.jobs.release([claim])
            return
        room.storage.delete_document(TENANT, document_id)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in (ask, ask, write)]
    for thread in threads:
        thread.start()
    try:
        for embedder in (TWIN, SMALL, OLD, TWIN):
            assert changing.change(embedder).state == "succeeded"
            changing.compact()
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert faults == []
    assert len(asked) > 10
    assert changing.answering() == TWIN
    assert changing.everything() == set(room.live_chunks())
    assert [one for one in room.differences() if "job" not in one] == []
