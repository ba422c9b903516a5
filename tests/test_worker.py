"""The worker with a fake pipeline over a real queue; the last tests with the real pipeline."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Shelf, wait_until
from rooms import TENANT, Room, made_of, open_room, vectors_of
from sqlalchemy import select, update

from ingest import worker as module
from ingest.pipeline import Embedded, Prepared
from ingest.sandbox import Leash
from ingest.worker import Worker
from rag_service.db.jobs import Claim, Jobs
from rag_service.db.tables import job_items
from rag_service.db.tables import workers as workers_table
from rag_service.db.workers import Workers
from rag_service.errors import EmbedderChanged, Overloaded, ParseFailed, StorageFull
from rag_service.inference.use_multilingual import UseMultilingual
from rag_service.types import ParsedDocument

FULL = StorageFull("no space left")


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    monkeypatch.setattr(module, "_BREATH_SECONDS", 0.02)
    with open_room(tmp_path / "data") as opened:
        yield opened


class FakePipeline:
    """Every document is one chunk that says its name. `during` is called at the beginning of each step."""

    def __init__(self, room: Room, during: Callable[[str, Claim], None] = lambda step, claim: None) -> None:
        self._room = room
        self._during = during

    def warm_up(self, knowledge_base_id: str) -> None:
        pass

    def parse(self, claim: Claim, leash: Leash) -> ParsedDocument:
        self._during("parse", claim)
        leash.check()
        return made_of([f"text of {claim.document_id}"])[0]

    def prepare(self, claim: Claim, parsed: ParsedDocument, leash: Leash) -> Prepared:
        self._during("prepare", claim)
        parsed, drafts = made_of([parsed.text])
        return Prepared(claim, UseMultilingual.name, parsed, tuple(drafts), tuple(draft.text for draft in drafts), {})

    def embedding(self, prepared: Prepared) -> FakeEmbedding:
        return FakeEmbedding(prepared, self._during)

    def embed_together(self, embeddings: Sequence[FakeEmbedding]) -> None:
        pass

    def publish(self, embedded: Embedded) -> int:
        self._during("publish", embedded.prepared.claim)
        return publish(self._room, embedded)


class FakeEmbedding:
    def __init__(self, prepared: Prepared, during: Callable[[str, Claim], None]) -> None:
        self._prepared = prepared
        self._during = during

    def advance(self) -> Embedded | None:
        self._during("embed", self._prepared.claim)
        return Embedded(self._prepared, vectors_of([draft.text for draft in self._prepared.drafts]))


class BrokenTogether(FakePipeline):
    def embed_together(self, embeddings: Sequence[FakeEmbedding]) -> None:
        raise ChildProcessError("the embedding process died twice over the same texts")


def publish(room: Room, embedded: Embedded) -> int:
    made = embedded.prepared
    hashes = [hashlib.sha256(draft.text.encode()).hexdigest() for draft in made.drafts]
    return room.publisher.publish(made.claim, made.parsed, made.drafts, embedded.vectors, made.embedder, hashes)


class FlakyJobs(Jobs):
    """Raises what is put into `faults` under a method's name, once each, before doing what it was asked."""

    def __init__(self, room: Room, **faults: list[Exception]) -> None:
        super().__init__(room.storage.database)
        self._faults = faults

    def _fault(self, name: str) -> None:
        if self._faults.get(name):
            raise self._faults[name].pop()

    def claim(self, *arguments: Any, **named: Any) -> list[Claim]:
        self._fault("claim")
        return super().claim(*arguments, **named)

    def renew(self, *arguments: Any) -> list[Claim]:
        self._fault("renew")
        return super().renew(*arguments)

    def release(self, *arguments: Any, **named: Any) -> None:
        self._fault("release")
        super().release(*arguments, **named)

    def fail(self, *arguments: Any) -> None:
        self._fault("fail")
        super().fail(*arguments)

    def exhausted(self) -> bool:
        return not any(self._faults.values())


def worker(
    room: Room,
    during: Callable[[str, Claim], None] = lambda step, claim: None,
    lease: float = 60.0,
    jobs: Jobs | None = None,
    at_once: int = 4,
) -> Worker:
    pipeline: Any = FakePipeline(room, during)
    workers = Workers(room.storage.database)
    return Worker(jobs or room.storage.jobs, workers, pipeline, lease, at_once, idle_seconds=0.01)


def states(room: Room, job_id: str) -> list[str]:
    return [item.state for item in room.storage.jobs.get(TENANT, job_id).items]


class Running:
    """A worker in a thread; leaving the block stops it and raises what it raised."""

    def __init__(self, one: Worker) -> None:
        self.worker = one
        self._raised: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.worker.run()
        except Exception as error:  # noqa: BLE001 - raised again below
            self._raised.append(error)

    def __enter__(self) -> Running:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.worker.stop()
        self._thread.join(30)
        assert not self._thread.is_alive()
        if self._raised:
            raise self._raised[0]

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()


def test_a_job_is_worked_on_until_nothing_of_it_is_left_and_others_wait(room: Room) -> None:
    other, _ = room.upload("other")
    job_id, _ = room.upload(*(f"document {n}" for n in range(30)))
    worker(room).run(job_id)
    assert states(room, job_id) == ["ready"] * 30
    assert states(room, other) == ["queued"]
    assert room.differences() == []


def test_where_texts_cannot_be_embedded_together_each_document_is_by_itself(room: Room) -> None:
    job_id, _ = room.upload(*(f"document {n}" for n in range(20)))
    pipeline: Any = BrokenTogether(room, lambda step, claim: time.sleep(0.002) if step == "embed" else None)
    Worker(room.storage.jobs, Workers(room.storage.database), pipeline, 60.0, 4, idle_seconds=0.01).run(job_id)
    assert states(room, job_id) == ["ready"] * 20


def test_a_standing_worker_takes_what_comes(room: Room) -> None:
    with Running(worker(room)):
        for number in range(3):
            job_id, _ = room.upload(f"document {number}")
            wait_until(lambda job_id=job_id: room.storage.jobs.is_finished(job_id), 10)


def test_one_documents_failure_is_recorded_and_stops_no_other(room: Room) -> None:
    job_id, ids = room.upload("a", "b", "c", "d")
    faults: dict[tuple[str, str], Exception] = {
        (ids[0], "prepare"): ParseFailed("encrypted", "it needs a password"),
        (ids[1], "embed"): ZeroDivisionError("secret detail"),
        (ids[2], "publish"): RuntimeError("secret detail"),
    }

    def fail(step: str, claim: Claim) -> None:
        if error := faults.get((claim.document_id, step)):
            raise error

    worker(room, fail).run(job_id)
    assert states(room, job_id) == ["failed", "failed", "failed", "ready"]
    problems = [item.problem for item in room.storage.jobs.get(TENANT, job_id).items[:3]]
    assert [problem.code for problem in problems if problem] == ["parse-failed", "internal", "internal"]
    assert problems[0].data["reason"] == "encrypted"  # type: ignore[union-attr]
    assert "secret" not in str(problems)


def test_a_parse_longer_than_the_lease_keeps_it(room: Room) -> None:
    job_id, _ = room.upload("slow", "waits behind it")
    stolen: list[Claim] = []

    def slow(step: str, claim: Claim) -> None:
        if step == "prepare":
            for _ in range(10):
                time.sleep(0.1)
                stolen.extend(room.claim("thief"))

    worker(room, slow, lease=0.5).run(job_id)
    assert stolen == []
    assert states(room, job_id) == ["ready", "ready"]


def test_a_worker_that_lost_its_lease_publishes_nothing_and_goes_on(room: Room) -> None:
    job_id, ids = room.upload("stolen", "mine")
    thief: list[Claim] = []

    def steal(step: str, claim: Claim) -> None:
        if step == "embed" and claim.document_id == ids[0]:
            with room.storage.database.write() as connection:
                taken = {"worker": "thief", "attempts": job_items.c.attempts + 1, "token": job_items.c.token + 1}
                connection.execute(update(job_items).where(job_items.c.id == claim.item_id).values(taken))
            thief.append(replace(claim, worker="thief", attempt=2, token=claim.token + 1))

    with Running(worker(room, steal)):
        wait_until(lambda: states(room, job_id)[1] == "ready", 10)
    assert states(room, job_id) == ["processing", "ready"]
    assert room.publish(thief[0]) == 2


def test_a_document_deleted_under_way_is_dropped(room: Room) -> None:
    job_id, ids = room.upload("doomed", "kept")

    def delete(step: str, claim: Claim) -> None:
        if step == "publish" and claim.document_id == ids[0]:
            room.storage.delete_document(TENANT, ids[0])

    worker(room, delete).run(job_id)
    assert states(room, job_id) == ["cancelled", "ready"]
    assert len(room.live_chunks()) == 1
    assert room.differences() == []


def test_stopping_finishes_what_is_under_way_and_gives_back_the_rest_uncounted(room: Room) -> None:
    job_id, _ = room.upload(*(f"document {n}" for n in range(6)))
    begun = threading.Event()

    def wait(step: str, claim: Claim) -> None:
        begun.set()
        time.sleep(0.1)

    one = worker(room, wait)
    with Running(one):
        assert begun.wait(10)
    found = states(room, job_id)
    assert found.count("ready") >= 1
    assert set(found) == {"ready", "queued"}
    assert all(claim.attempt == 1 for claim in room.claim("next", limit=9))


def test_a_full_disk_costs_a_document_no_attempt(room: Room) -> None:
    job_id, _ = room.upload("a")
    faults = [FULL] * 7

    def full(step: str, claim: Claim) -> None:
        assert claim.attempt == 1
        if step == "publish" and faults:
            raise faults.pop()

    worker(room, full).run(job_id)
    assert states(room, job_id) == ["ready"]


def test_a_document_embedded_by_who_is_no_longer_asked_is_begun_again_uncounted(room: Room) -> None:
    job_id, _ = room.upload("a")
    faults = [EmbedderChanged("another answers by now")] * 5

    def change(step: str, claim: Claim) -> None:
        assert claim.attempt == 1
        if step == "publish" and faults:
            raise faults.pop()

    worker(room, change).run(job_id)
    assert states(room, job_id) == ["ready"]


@pytest.mark.parametrize("step", ["parse", "prepare", "embed", "publish"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.ENOMEM, errno.EMFILE])
def test_a_fault_of_the_machine_costs_a_document_no_attempt(room: Room, step: str, number: int) -> None:
    job_id, _ = room.upload("a")
    faults = [OSError(number, os.strerror(number))] * 4

    def fail(at: str, claim: Claim) -> None:
        assert claim.attempt == 1
        if at == step and faults:
            raise faults.pop()

    worker(room, fail).run(job_id)
    assert (states(room, job_id), faults) == (["ready"], [])


def test_each_fault_of_the_machine_makes_a_document_wait_twice_as_long(room: Room) -> None:
    job_id, _ = room.upload("a")
    moments: list[float] = []

    def fail(at: str, claim: Claim) -> None:
        if at == "publish" and len(moments) < 5:
            moments.append(time.monotonic())
            raise OSError(errno.ENOSPC, "full")

    worker(room, fail).run(job_id)
    waits = [after - before for before, after in itertools.pairwise(moments)]
    assert all(wait >= 0.02 * 2**number for number, wait in enumerate(waits, 1))


@pytest.mark.parametrize("fault", [ChildProcessError("died"), OSError(errno.EIO, "damaged")], ids=["death", "disk"])
def test_a_document_over_which_something_dies_or_cannot_be_read_time_and_again_ends_as_failed(
    room: Room, monkeypatch: pytest.MonkeyPatch, fault: OSError
) -> None:
    monkeypatch.setattr(module, "_MOST_UNREADABLE", 2)
    job_id, _ = room.upload("a", "good")

    def fail(at: str, claim: Claim) -> None:
        if at == "embed" and claim.filename == "0.txt":
            raise fault

    worker(room, fail, lease=0.2).run(job_id)
    assert states(room, job_id) == ["failed", "ready"]


@pytest.mark.parametrize("method", ["claim", "release", "fail"])
@pytest.mark.parametrize("fault", [FULL, Overloaded("locked", retry_after_seconds=5)])
def test_a_database_that_takes_no_writes_for_a_while_stops_no_worker(room: Room, method: str, fault: Exception) -> None:
    job_id, ids = room.upload("a", "b")
    jobs = FlakyJobs(room, **{method: [fault] * 3})
    once = [FULL]

    def break_one(step: str, claim: Claim) -> None:
        if step == "publish" and claim.document_id == ids[0] and method == "fail":
            raise ZeroDivisionError
        if step == "publish" and once:
            raise once.pop()

    worker(room, break_one, jobs=jobs).run(job_id)
    assert jobs.exhausted()
    assert states(room, job_id) == ["failed" if method == "fail" else "ready", "ready"]


def test_a_heartbeat_that_could_not_be_written_is_followed_by_the_next(room: Room) -> None:
    job_id, _ = room.upload("slow")
    jobs = FlakyJobs(room, renew=[FULL])
    stolen: list[Claim] = []

    def slow(step: str, claim: Claim) -> None:
        if step == "embed":
            for _ in range(20):
                time.sleep(0.1)
                stolen.extend(room.claim("thief"))

    worker(room, slow, lease=0.9, jobs=jobs).run(job_id)
    assert jobs.exhausted()
    assert stolen == []
    assert states(room, job_id) == ["ready"]


def test_a_document_given_back_and_taken_again_by_the_same_worker_keeps_its_lease(room: Room) -> None:
    """The heartbeat must not forget the second claim when the first one's release returns late."""
    job_id, _ = room.upload("a")
    once, stolen, taken_again = [FULL], [], threading.Event()

    class SlowRelease(Jobs):
        def release(self, *arguments: Any, **named: Any) -> None:
            super().release(*arguments, **named)
            assert taken_again.wait(10)

    def during(step: str, claim: Claim) -> None:
        if step == "publish" and once:
            raise once.pop()
        if step == "prepare" and not once:
            taken_again.set()
            for _ in range(10):
                time.sleep(0.1)
                stolen.extend(room.claim("thief"))

    worker(room, during, lease=0.4, jobs=SlowRelease(room.storage.database)).run(job_id)
    assert stolen == []
    assert states(room, job_id) == ["ready"]


@pytest.mark.parametrize("method", ["claim", "renew", "fail"])
def test_a_fault_that_is_no_documents_own_ends_the_run(room: Room, method: str) -> None:
    job_id, _ = room.upload("a")
    jobs = FlakyJobs(room, **{method: [ConnectionError("the database is gone")]})

    def during(step: str, claim: Claim) -> None:
        if method == "renew":
            time.sleep(0.3)
        elif step == "embed":
            raise ZeroDivisionError

    with pytest.raises(ConnectionError, match="the database is gone"):
        worker(room, during, lease=0.3, jobs=jobs).run(job_id)


def test_many_workers_share_the_work(room: Room) -> None:
    job_id, ids = room.upload(*(f"document {n}" for n in range(40)))
    published: list[str] = []

    def note(step: str, claim: Claim) -> None:
        if step == "publish":
            published.append(claim.document_id)

    with Running(worker(room, note)), Running(worker(room, note)), Running(worker(room, note)):
        wait_until(lambda: room.storage.jobs.is_finished(job_id), 20)
    assert sorted(published) == sorted(ids)
    assert room.differences() == []


def test_bytes_damaged_at_rest_fail_instead_of_becoming_another_text(shelf: Shelf) -> None:
    job_id, [gone, damaged, fine] = shelf.accept({"gone.txt": b"one", "damaged.txt": b"two", "fine.txt": b"three"})
    blobs = shelf.storage.blobs
    blobs.remove(str(gone.sha256))
    blobs.path(str(damaged.sha256)).write_bytes(b"tow")
    shelf.ingestion.worker.run(job_id)
    job = shelf.storage.jobs.get(TENANT, job_id)
    assert [item.state for item in job.items] == ["failed", "failed", "ready"]
    assert [item.problem.code for item in job.items if item.problem] == ["blob-missing"] * 2
    assert fine.registered is not None


def test_the_real_pipeline_makes_a_document_that_verifies(shelf: Shelf) -> None:
    job = shelf.put(
        {"手册.md": "# 手册\n\n## 年假\n\n满五年的员工每年有十二天年假。\n", "notes.txt": "The gate is open."}
    )
    assert job.state == "succeeded"
    chunk = shelf.storage.documents.chunks(TENANT, shelf.document("手册.md"), 10, None).items[-1]
    assert chunk.headings[-1] == "年假"
    assert "十二天年假" in chunk.text


def test_documents_that_took_a_worker_down_go_on_alone_once_they_are_parsed(room: Room) -> None:
    job_id, _ = room.upload(*(f"text {number}" for number in range(8)))
    room.storage.jobs.claim("died", 60, 2)
    with room.storage.database.write() as connection:
        connection.execute(update(job_items).where(job_items.c.state == "processing").values(lease_until=0))
    beside: list[int] = []

    def during(step: str, claim: Claim) -> None:
        time.sleep(0.02)
        if step != "parse" and claim.attempt > 1:
            beside.append(len(one._leases))

    one = worker(room, during)
    one.run(job_id)

    assert room.storage.jobs.get(TENANT, job_id).state == "succeeded"
    assert beside == [1] * 6


class Hanging:
    """Parses of the documents of these ids go on until they are let go of, and then, claimed slow, until `released`."""

    def __init__(self, *document_ids: str) -> None:
        self._ids = set(document_ids)
        self.released = threading.Event()
        self.begun: Counter[str] = Counter()

    def parse(self, claim: Claim, leash: Leash) -> None:
        self.begun[claim.document_id] += 1
        while claim.document_id in self._ids and not self.released.wait(0.01):
            leash.check()


class HangingPipeline(FakePipeline):
    def __init__(self, room: Room, hanging: Hanging, during: Callable[[str, Claim], None]) -> None:
        super().__init__(room, during)
        self._hanging = hanging

    def parse(self, claim: Claim, leash: Leash) -> ParsedDocument:
        self._hanging.parse(claim, leash)
        return super().parse(claim, leash)


def hanging_worker(
    room: Room,
    hanging: Hanging,
    lease: float = 60.0,
    during: Callable[[str, Claim], None] = lambda step, claim: None,
) -> Worker:
    pipeline: Any = HangingPipeline(room, hanging, during)
    return Worker(room.storage.jobs, Workers(room.storage.database), pipeline, lease, 2, idle_seconds=0.01)


def is_marked_slow(room: Room, document_id: str) -> bool:
    with room.storage.database.read() as connection:
        query = select(job_items.c.slow).where(job_items.c.document_id == document_id)
        return bool(connection.scalar(query))


def test_parses_that_hang_hold_up_nobody_and_are_all_finished_in_the_end(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.lanes.SLICE_SECONDS", 0.1)
    job_id, ids = room.upload(*(f"document {n}" for n in range(40)))
    hang = ids[:6]
    hanging = Hanging(*hang)
    with Running(hanging_worker(room, hanging)):
        wait_until(lambda: states(room, job_id).count("ready") == 34, 20)
        assert states(room, job_id)[:6] != ["ready"] * 6
        assert any(is_marked_slow(room, document_id) for document_id in hang)
        hanging.released.set()
        wait_until(lambda: room.storage.jobs.is_finished(job_id), 20)
    assert states(room, job_id) == ["ready"] * 40
    assert max(hanging.begun.values()) <= 2


def test_a_cancelled_documents_parse_is_ended_at_the_next_beat(room: Room) -> None:
    job_id, [document_id] = room.upload("hangs")
    hanging = Hanging(document_id)
    with Running(hanging_worker(room, hanging, lease=0.3)) as running:
        wait_until(lambda: hanging.begun[document_id] == 1)
        room.storage.jobs.cancel(TENANT, job_id)
        other, _ = room.upload("other")
        wait_until(lambda: room.storage.jobs.is_finished(other))
        wait_until(lambda: not len(running.worker._leases), 5)
    assert hanging.begun[document_id] == 1
    assert states(room, job_id) == ["cancelled"]


def test_stopping_gives_back_a_parse_that_hangs(room: Room) -> None:
    job_id, [document_id] = room.upload("hangs")
    hanging = Hanging(document_id)
    with Running(hanging_worker(room, hanging)):
        wait_until(lambda: hanging.begun[document_id] == 1)
    assert states(room, job_id) == ["queued"]
    assert [claim.attempt for claim in room.storage.jobs.claim("next", 60, 1, slow=True)] == [1]


def test_letting_go_of_a_parse_that_has_just_ended_costs_the_document_nothing(room: Room) -> None:
    job_id, [document_id] = room.upload("a")

    def let_go(step: str, claim: Claim) -> None:
        if step == "prepare" and not is_marked_slow(room, document_id):
            assert one._leases.let_go(claim)

    one = worker(room, let_go)
    one.run(job_id)
    assert states(room, job_id) == ["ready"]
    assert not is_marked_slow(room, document_id)


def test_a_job_of_its_own_waits_for_its_slow_documents_too(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.lanes.SLICE_SECONDS", 0.05)
    job_id, ids = room.upload(*(f"document {n}" for n in range(12)))
    hanging = Hanging(*ids[:8])
    ending = threading.Timer(1.5, hanging.released.set)
    ending.start()
    hanging_worker(room, hanging).run(job_id)
    ending.join()
    assert states(room, job_id) == ["ready"] * 12


def test_a_long_document_holds_up_no_short_one_in_the_embedder(room: Room) -> None:
    job_id, ids = room.upload("long", *(f"short {n}" for n in range(5)))
    order: list[str] = []

    class Long(FakePipeline):
        def embedding(self, prepared: Prepared) -> Any:
            whole = super().embedding(prepared)
            return Pieces(whole, 200) if prepared.claim.document_id == ids[0] else whole

    def note(step: str, claim: Claim) -> None:
        if step == "publish":
            order.append(claim.document_id)

    pipeline: Any = Long(room, note)
    Worker(room.storage.jobs, Workers(room.storage.database), pipeline, 60.0, idle_seconds=0.01).run(job_id)
    assert states(room, job_id) == ["ready"] * 6
    assert order[-1] == ids[0]


def test_stopping_gives_back_a_document_that_needs_the_embedder_for_long(room: Room) -> None:
    job_id, _ = room.upload("long")
    begun = threading.Event()

    class Long(FakePipeline):
        def embedding(self, prepared: Prepared) -> Any:
            begun.set()
            return Pieces(super().embedding(prepared), 10_000)

    pipeline: Any = Long(room)
    with Running(Worker(room.storage.jobs, Workers(room.storage.database), pipeline, 60.0, idle_seconds=0.01)):
        assert begun.wait(10)
    assert states(room, job_id) == ["queued"]
    assert room.claim_one("next").attempt == 1


def test_a_parser_that_cannot_start_costs_no_document_an_attempt(room: Room) -> None:
    job_id, _ = room.upload("a")

    class Broken(FakePipeline):
        def warm_up(self, knowledge_base_id: str) -> None:
            raise ChildProcessError("no process to be had")

    pipeline: Any = Broken(room)
    one = Worker(room.storage.jobs, Workers(room.storage.database), pipeline, 60.0, idle_seconds=0.01)
    with pytest.raises(ChildProcessError):
        one.run(job_id)
    assert room.claim_one("next").attempt == 1


def test_what_was_claimed_when_it_is_told_to_stop_is_not_begun(room: Room) -> None:
    job_id, _ = room.upload("a", "b")

    class Slow(FakePipeline):
        def warm_up(self, knowledge_base_id: str) -> None:
            one.stop()

    pipeline: Any = Slow(room)
    one = Worker(room.storage.jobs, Workers(room.storage.database), pipeline, 60.0, idle_seconds=0.01)
    one.run()
    assert states(room, job_id) == ["queued", "queued"]
    assert room.claim_one("next").attempt == 1


class Pieces:
    """An embedding that takes so many turns more than another."""

    def __init__(self, whole: FakeEmbedding, turns: int) -> None:
        self._whole = whole
        self._turns = turns

    def advance(self) -> Embedded | None:
        self._turns -= 1
        time.sleep(0.005)
        return self._whole.advance() if self._turns == 0 else None


def test_a_worker_is_known_to_live_while_it_idles_and_not_missed_afterwards(room: Room) -> None:
    def names() -> list[str]:
        with room.storage.database.read() as connection:
            return list(connection.scalars(select(workers_table.c.name)))

    with Running(worker(room)) as running:
        wait_until(lambda: names() == [running.worker.name])
    assert names() == []
