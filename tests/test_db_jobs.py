"""The queue, on SQLite and on PostgreSQL."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import wait_until
from rooms import PROBLEM, TENANT, Room, open_room

from rag_service.db.jobs import MAX_ATTEMPTS, Claim
from rag_service.errors import LeaseLost, NotFound

SHORT = 0.05


def lapse() -> None:
    time.sleep(SHORT + 0.05)


def test_items_are_claimed_oldest_first_and_only_once(room: Room) -> None:
    _, ids = room.upload("a", "b", "c")
    first = room.claim("one", limit=2)
    second = room.claim("two", limit=2)
    assert [claim.document_id for claim in (*first, *second)] == ids
    assert room.claim("three") == []


def test_a_claim_says_what_there_is_to_do(room: Room) -> None:
    job_id, [document_id] = room.upload("bytes")
    claim = room.claim_one("me")
    document = room.storage.documents.get(TENANT, document_id)
    assert (claim.job_id, claim.document_id, claim.worker, claim.attempt) == (job_id, document_id, "me", 1)
    assert (claim.sha256, claim.bytes, claim.media_type) == (document.sha256, 5, "text/plain")
    assert (claim.knowledge_base_id, claim.filename) == (room.kb, "0.txt")
    assert document.state == "processing"


def test_claims_can_be_kept_to_one_job(room: Room) -> None:
    room.upload("a")
    job_id, [document_id] = room.upload("b")
    claims = room.storage.jobs.claim("worker", 60.0, 10, job_id)
    assert [claim.document_id for claim in claims] == [document_id]
    assert room.storage.jobs.claim("worker", 60.0, 10, job_id) == []


def test_a_lapsed_lease_goes_to_the_next_and_counts_an_attempt(room: Room) -> None:
    room.upload("a")
    # Long enough for the next look to be early on a busy machine.
    assert room.claim_one("dead", 1.0).attempt == 1
    assert room.claim("early") == []
    time.sleep(1.1)
    assert room.claim_one("next").attempt == 2


def test_a_heartbeat_keeps_the_lease(room: Room) -> None:
    room.upload("a")
    claim = room.claim_one("alive", SHORT)
    room.storage.jobs.renew([claim], 60.0)
    lapse()
    assert room.claim("other") == []


def lost(room: Room) -> tuple[str, Claim, Claim]:
    """(job, the claim whose lease was taken, the claim that took it)."""
    job_id, _ = room.upload("a")
    old = room.claim_one("old", SHORT)
    lapse()
    return job_id, old, room.claim_one("new")


def test_a_lost_lease_cannot_be_published_failed_or_released(room: Room) -> None:
    job_id, old, new = lost(room)
    before = room.storage.documents.get(TENANT, old.document_id), room.revision()
    with pytest.raises(LeaseLost):
        room.publish(old)
    with pytest.raises(LeaseLost):
        room.storage.jobs.fail(old, PROBLEM)
    room.storage.jobs.release([old])
    assert (room.storage.documents.get(TENANT, old.document_id), room.revision()) == before
    assert room.item(job_id).state == "processing"
    assert room.live_chunks() == {}
    assert room.publish(new) == 1


def test_a_lost_lease_cannot_be_renewed(room: Room) -> None:
    room.upload("a")
    old = room.claim_one("old", SHORT)
    lapse()
    room.claim_one("new", SHORT)
    room.storage.jobs.renew([old], 60.0)
    lapse()
    assert room.claim_one("third").attempt == 3


def test_what_is_finished_cannot_be_finished_again(room: Room) -> None:
    room.upload("a")
    claim = room.claim_one()
    room.publish(claim)
    with pytest.raises(LeaseLost):
        room.publish(claim)
    with pytest.raises(LeaseLost):
        room.storage.jobs.fail(claim, PROBLEM)
    assert room.revision() == 1


def test_release_gives_back_at_once_and_does_not_count(room: Room) -> None:
    job_id, [document_id] = room.upload("a")
    for worker in "abcdefgh":
        claim = room.claim_one(worker)
        assert claim.attempt == 1
        room.storage.jobs.release([claim])
        assert room.storage.jobs.get(TENANT, job_id).state == "queued"
        assert room.storage.documents.get(TENANT, document_id).state == "queued"


def test_a_released_claim_is_dead_though_its_attempt_is_counted_again(room: Room) -> None:
    room.upload("a")
    released = room.claim_one("old")
    room.storage.jobs.release([released])
    holder = room.claim_one("new")
    assert holder.attempt == released.attempt
    with pytest.raises(LeaseLost):
        room.publish(released)
    room.storage.jobs.release([released])
    assert room.publish(holder) == 1


def test_a_postponed_claim_is_dead_and_comes_again_later_uncounted(room: Room) -> None:
    room.upload("a")
    for _ in range(MAX_ATTEMPTS + 1):
        postponed = room.claim_one("old")
        assert postponed.attempt == 1
        room.storage.jobs.postpone(postponed, 0.2)
        assert room.claim("eager") == []
        assert room.storage.jobs.renew([postponed], 60.0) == []
        time.sleep(0.25)
    holder = room.claim_one("new")
    room.storage.jobs.postpone(postponed, 60.0)
    with pytest.raises(LeaseLost):
        room.publish(postponed)
    assert room.publish(holder) == 1


def test_a_document_that_took_three_workers_down_is_failed(room: Room) -> None:
    job_id, [document_id] = room.upload("poison")
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert room.claim_one(f"victim {attempt}", SHORT).attempt == attempt
        lapse()
    assert room.claim("fourth") == []
    job, document = room.storage.jobs.get(TENANT, job_id), room.storage.documents.get(TENANT, document_id)
    assert (job.state, document.state) == ("failed", "failed")
    assert job.finished_at is not None
    assert document.error is not None
    assert (document.error.code, document.error.data) == ("worker-died", {"attempts": 3})
    assert room.item(job_id).problem == document.error


def test_a_failure_is_kept_with_its_reason(room: Room) -> None:
    job_id, [document_id] = room.upload("a")
    room.storage.jobs.fail(room.claim_one(), PROBLEM)
    document = room.storage.documents.get(TENANT, document_id)
    assert (document.state, document.error, room.item(job_id).problem) == ("failed", PROBLEM, PROBLEM)
    assert room.revision() == 0


def publish(room: Room) -> None:
    room.publish(room.claim_one())


def fail(room: Room) -> None:
    room.storage.jobs.fail(room.claim_one(), PROBLEM)


def cancel(room: Room) -> None:
    room.storage.delete_document(TENANT, room.claim_one().document_id)


def begin(room: Room) -> None:
    room.claim_one()


@pytest.mark.parametrize(
    ("endings", "state", "done"),
    [
        ([], "queued", 0),
        ([begin], "running", 0),
        ([publish], "running", 1),
        ([fail], "running", 1),
        ([publish, begin], "running", 1),
        ([publish, publish], "succeeded", 2),
        ([publish, fail], "partial", 2),
        ([publish, cancel], "partial", 2),
        ([fail, fail], "failed", 2),
        ([fail, cancel], "failed", 2),
        ([cancel, cancel], "cancelled", 2),
    ],
)
def test_a_job_is_as_far_as_its_items_are(
    room: Room, endings: list[Callable[[Room], None]], state: str, done: int
) -> None:
    job_id, _ = room.upload("a", "b")
    for end in endings:
        end(room)
    job = room.storage.jobs.get(TENANT, job_id)
    assert (job.state, job.done, job.total) == (state, done, 2)
    assert (job.finished_at is not None) == (done == 2) == room.storage.jobs.is_finished(job_id)


def test_a_job_of_duplicates_is_finished_from_the_start(room: Room) -> None:
    room.upload("a")
    job_id, _ = room.upload("a")
    job = room.storage.jobs.get(TENANT, job_id)
    assert (job.state, job.total) == ("succeeded", 0)
    assert job.finished_at is not None


def test_another_tenants_job_does_not_exist(room: Room) -> None:
    job_id, _ = room.upload("a")
    with pytest.raises(NotFound):
        room.storage.jobs.get("other", job_id)


def test_a_silent_worker_is_noticed(room: Room) -> None:
    room.upload("a", "b")
    room.claim_one("alive")
    assert room.storage.jobs.seconds_since_heartbeat() is None
    room.claim_one("silent", SHORT)
    lapse()
    late = room.storage.jobs.seconds_since_heartbeat()
    assert late is not None
    assert 0 < late < 5


def _drain(room: Room, worker: str, done: Callable[[Claim], None]) -> None:
    while claims := room.claim(worker, limit=3):
        for claim in claims:
            done(claim)
            room.publish(claim)


def test_threads_that_claim_at_once_get_each_item_exactly_once(room: Room) -> None:
    job_id, ids = room.upload(*(f"document {n}" for n in range(60)))
    claimed: Counter[str] = Counter()
    threads = [
        threading.Thread(target=_drain, args=(room, f"t{n}", lambda claim: claimed.update([claim.document_id])))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert claimed == Counter(ids)
    assert room.revision() == 60
    job = room.storage.jobs.get(TENANT, job_id)
    assert (job.state, job.done) == ("succeeded", 60)
    assert job.finished_at is not None
    assert room.differences() == []


def _drain_in_a_process(url: str, data: Path, worker: str, together: Any, claimed: Any) -> None:
    with open_room(data, url, name=worker) as room:
        together.wait(60)
        _drain(room, worker, lambda claim: claimed.put(claim.document_id))


def test_processes_that_claim_at_once_get_each_item_exactly_once(room: Room, database_url: str) -> None:
    job_id, ids = room.upload(*(f"document {n}" for n in range(40)))
    room.storage.database.engine.dispose()
    # Not fork: earlier tests may have left threads here, whose locks a fork would copy in whatever state they are.
    context = multiprocessing.get_context("spawn")
    together, claimed = context.Barrier(4), context.Queue()
    data = room.storage.settings.data
    processes = [
        context.Process(target=_drain_in_a_process, args=(database_url, data, f"p{n}", together, claimed))
        for n in range(4)
    ]
    for process in processes:
        process.start()
    found = Counter(claimed.get(timeout=60) for _ in ids)
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert found == Counter(ids)
    wait_until(claimed.empty)
    assert room.storage.jobs.get(TENANT, job_id).state == "succeeded"
    assert room.storage.jobs.is_finished(job_id)
