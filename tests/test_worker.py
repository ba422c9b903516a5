"""The worker with a fake pipeline over a real queue; the last tests with the real pipeline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Shelf, wait_until
from rooms import TENANT, Room, made_of, open_room, vectors_of
from sqlalchemy import update

from ingest import worker as module
from ingest.pipeline import Embedded, Prepared
from ingest.worker import Worker
from rag_service.db.jobs import Claim, Jobs
from rag_service.db.tables import job_items
from rag_service.errors import Overloaded, ParseFailed, StorageFull

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

    def prepare(self, claim: Claim) -> Prepared:
        self._during("prepare", claim)
        parsed, drafts = made_of([f"text of {claim.document_id}"])
        return Prepared(claim, parsed, tuple(drafts))

    def embed(self, prepared: Prepared) -> Embedded:
        self._during("embed", prepared.claim)
        return Embedded(prepared, vectors_of([draft.text for draft in prepared.drafts]))

    def publish(self, embedded: Embedded) -> int:
        made = embedded.prepared
        self._during("publish", made.claim)
        return self._room.publisher.publish(made.claim, made.parsed, made.drafts, embedded.vectors)


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

    def renew(self, *arguments: Any) -> None:
        self._fault("renew")
        super().renew(*arguments)

    def release(self, *arguments: Any) -> None:
        self._fault("release")
        super().release(*arguments)

    def fail(self, *arguments: Any) -> None:
        self._fault("fail")
        super().fail(*arguments)

    def exhausted(self) -> bool:
        return not any(self._faults.values())


def worker(
    room: Room, during: Callable[[str, Claim], None] = lambda step, claim: None, lease: float = 60.0, jobs: Any = None
) -> Worker:
    return Worker(jobs or room.storage.jobs, FakePipeline(room, during), lease, idle_seconds=0.01)  # type: ignore[arg-type]


def states(room: Room, job_id: str) -> list[str]:
    return [item.state for item in room.storage.jobs.get(TENANT, job_id).items]


class Running:
    """A worker in a thread; leaving the block stops it and raises what it raised."""

    def __init__(self, one: Worker) -> None:
        self._worker = one
        self._raised: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self._worker.run()
        except Exception as error:  # noqa: BLE001 - raised again below
            self._raised.append(error)

    def __enter__(self) -> Running:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._worker.stop()
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
                taken = {"worker": "thief", "attempts": job_items.c.attempts + 1}
                connection.execute(update(job_items).where(job_items.c.id == claim.item_id).values(taken))
            thief.append(replace(claim, worker="thief", attempt=2))

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
        def release(self, *arguments: Any) -> None:
            super().release(*arguments)
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


def test_a_document_that_took_a_worker_down_is_tried_again_alone(room: Room) -> None:
    job_id, _ = room.upload(*(f"text {number}" for number in range(6)))
    room.storage.jobs.claim("died", 60, 2)
    with room.storage.database.write() as connection:
        connection.execute(update(job_items).where(job_items.c.state == "processing").values(lease_until=0))
    running: list[set[int]] = []
    busy: set[int] = set()

    def during(step: str, claim: Claim) -> None:
        if step == "prepare":
            busy.add(claim.item_id)
            running.append(set(busy))
        if step == "publish":
            time.sleep(0.02)
            busy.discard(claim.item_id)

    worker(room, during).run(job_id)

    assert room.storage.jobs.get(TENANT, job_id).state == "succeeded"
    assert [len(together) for together in running[:2]] == [1, 1]
