"""New versions of documents, and jobs cancelled and tried again, on SQLite and on PostgreSQL."""

from __future__ import annotations

import hashlib
import io
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace as replaced

import numpy as np
import pytest
from rooms import PROBLEM, TENANT, Room, made_of, vectors_of
from sqlalchemy import Connection
from test_db_publication import in_threads

from rag_service.db import items
from rag_service.db.problems import of
from rag_service.db.registration import Replacement, Upload
from rag_service.errors import ContentTaken, LeaseLost, NotFound, VersionChanged, YoujuError
from rag_service.inference.use_multilingual import UseMultilingual
from rag_service.intake import Accepted, Incoming, Receipt
from rag_service.types import Document


def sha256(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def replace(room: Room, document_id: str, content: str, etag: str | None = None, name: str = "new.md") -> Replacement:
    storage = room.storage
    blob = storage.blobs.put(io.BytesIO(content.encode()))
    upload = Upload(name, "text/markdown", blob.sha256, blob.bytes)
    made = storage.documents.replace(TENANT, document_id, upload, etag, storage.blobs.exists)
    for superseded in made.superseded:
        storage.documents.collect(superseded, storage.blobs.remove)
    return made


def get(room: Room, document_id: str) -> Document:
    return room.storage.documents.get(TENANT, document_id)


def stored(room: Room) -> set[str]:
    return set(room.storage.blobs.all())


def test_the_old_version_answers_until_the_new_one_is_ready(room: Room) -> None:
    [document_id] = room.ready("old")
    before = get(room, document_id)
    made = replace(room, document_id, "new", before.etag)
    assert made.registered.status == "queued"
    waiting = get(room, document_id)
    assert (waiting.sha256, waiting.etag, waiting.state, waiting.version) == (before.sha256, sha256("new"), "ready", 1)
    claim = room.claim_one()
    assert (claim.sha256, claim.filename, claim.media_type, claim.bytes) == (
        sha256("new"), "new.md", "text/markdown", 3,
    )  # fmt: skip
    assert room.let_through() == {"old"}
    assert stored(room) == {sha256("old"), sha256("new")}

    room.publish(claim, "new")

    after = get(room, document_id)
    assert (after.filename, after.media_type, after.bytes, after.sha256, after.etag, after.version, after.state) == (
        "new.md", "text/markdown", 3, sha256("new"), sha256("new"), 2, "ready",
    )  # fmt: skip
    assert room.let_through() == {"new"}
    assert stored(room) == {sha256("new")}
    assert room.differences() == []


def test_a_new_version_is_only_made_of_what_was_meant_to_be_replaced(room: Room) -> None:
    [document_id] = room.ready("old")
    replace(room, document_id, "newer", sha256("old"))
    with pytest.raises(VersionChanged) as raised:
        replace(room, document_id, "late", sha256("old"))
    assert raised.value.data["etag"] == sha256("newer")
    assert replace(room, document_id, "latest", sha256("newer")).registered.status == "queued"


def test_of_versions_that_wait_the_last_accepted_is_made(room: Room) -> None:
    [document_id] = room.ready("old")
    first = replace(room, document_id, "first")
    claim = room.claim_one()
    second = replace(room, document_id, "second")
    with pytest.raises(LeaseLost):
        room.publish(claim, "first")
    assert room.item(first.job_id).state == "cancelled"
    assert room.storage.jobs.is_finished(first.job_id)
    assert stored(room) == {sha256("old"), sha256("second")}
    room.publish(room.claim_one(), "second")
    assert room.item(second.job_id).state == "ready"
    assert room.let_through() == {"second"}
    assert room.differences() == []


@pytest.mark.parametrize("waiting", [False, True])
def test_the_bytes_it_has_or_is_about_to_get_are_a_duplicate(room: Room, waiting: bool) -> None:
    [document_id] = room.ready("old")
    if waiting:
        replace(room, document_id, "new")
    made = replace(room, document_id, "new" if waiting else "old")
    assert (made.registered.status, made.registered.document_id) == ("duplicate", document_id)
    assert room.storage.jobs.is_finished(made.job_id)
    assert len(room.claim(limit=9)) == int(waiting)
    assert room.differences() == []


def test_going_back_to_what_is_live_cancels_what_waits(room: Room) -> None:
    [document_id] = room.ready("old")
    replace(room, document_id, "new")
    claim = room.claim_one()
    assert replace(room, document_id, "old", sha256("new")).registered.status == "duplicate"
    assert get(room, document_id).etag == sha256("old")
    with pytest.raises(LeaseLost):
        room.publish(claim)
    assert room.let_through() == {"old"}
    assert room.differences() == []


@pytest.mark.parametrize("waiting", [False, True])
def test_bytes_that_another_document_has_or_is_about_to_get_are_refused(room: Room, waiting: bool) -> None:
    [document_id, other] = room.ready("mine", "other")
    if waiting:
        replace(room, other, "taken")
    with pytest.raises(ContentTaken) as raised:
        replace(room, document_id, "taken" if waiting else "other")
    assert raised.value.data["document_id"] == other
    assert get(room, document_id).etag == sha256("mine")
    assert room.let_through() == {"mine", "other"}


def test_a_new_version_whose_bytes_another_document_got_meanwhile_fails_and_the_old_one_stays(room: Room) -> None:
    [first, second] = room.ready("one", "two")
    failed = replace(room, first, "three")
    room.storage.jobs.fail(room.claim_one(), PROBLEM)
    replace(room, second, "three")
    room.storage.jobs.retry(TENANT, failed.job_id)
    claims = {claim.document_id: claim for claim in room.claim(limit=2)} | {
        claim.document_id: claim for claim in room.claim(limit=2)
    }
    room.publish(claims[second], "three")
    with pytest.raises(ContentTaken):
        room.publish(claims[first], "three")
    room.storage.jobs.fail(claims[first], PROBLEM)
    assert room.let_through() == {"one", "three"}
    assert get(room, first).sha256 == sha256("one")
    assert room.differences() == []


def test_a_new_version_that_fails_leaves_the_old_one_answering_and_says_why(room: Room) -> None:
    [document_id] = room.ready("old")
    made = replace(room, document_id, "broken")
    room.storage.jobs.fail(room.claim_one(), PROBLEM)
    document = get(room, document_id)
    assert (document.state, document.error, document.version) == ("ready", PROBLEM, 1)
    assert document.etag == sha256("old")
    assert room.let_through() == {"old"}
    assert room.item(made.job_id).problem == PROBLEM
    # Its bytes stay: it may be tried again.
    assert room.differences() == []
    room.storage.jobs.retry(TENANT, made.job_id)
    assert get(room, document_id).error is None
    room.publish(room.claim_one(), "mended")
    assert room.let_through() == {"mended"}
    assert stored(room) == {sha256("broken")}


@pytest.mark.parametrize("failed", [False, True])
def test_a_document_without_a_version_gets_the_new_content_at_once(room: Room, failed: bool) -> None:
    _, [document_id] = room.upload("old")
    if failed:
        room.storage.jobs.fail(room.claim_one(), PROBLEM)
    replace(room, document_id, "new", sha256("old"))
    document = get(room, document_id)
    assert (document.state, document.sha256, document.filename, document.error) == (
        "queued", sha256("new"), "new.md", None,
    )  # fmt: skip
    assert stored(room) == {sha256("new")}
    [claim] = room.claim(limit=9)
    room.publish(claim, "new")
    assert room.differences() == []


def test_deletion_wins_over_a_version_that_waits(room: Room) -> None:
    [document_id] = room.ready("old")
    made = replace(room, document_id, "new")
    claim = room.claim_one()
    room.storage.delete_document(TENANT, document_id)
    with pytest.raises(LeaseLost):
        room.publish(claim)
    with pytest.raises(NotFound):
        replace(room, document_id, "newer")
    assert room.storage.jobs.retry(TENANT, made.job_id).state == "cancelled"
    assert (room.let_through(), room.claim(limit=9)) == (set(), [])
    room.storage.documents.collect(sha256("newer"), room.storage.blobs.remove)
    assert stored(room) == set()
    assert room.differences() == []


def receive(room: Room, *contents: str, mirrored: bool = False) -> tuple[Accepted, ...]:
    files = [Incoming(f"{number}.txt", None, io.BytesIO(content.encode())) for number, content in enumerate(contents)]
    return room.storage.intake.receive(TENANT, room.kb, files, mirrored=mirrored).entries


def test_bytes_that_a_document_is_only_about_to_get_become_one_of_their_own(room: Room) -> None:
    [document_id] = room.ready("old")
    made = replace(room, document_id, "new")
    _, [first, second] = room.upload("new", "new")
    assert (first == second, first == document_id) == (True, False)
    assert get(room, first).state == "queued"

    room.storage.jobs.cancel(TENANT, made.job_id)
    room.publish(room.claim_one(), "new")

    assert room.let_through() == {"old", "new"}
    assert stored(room) == {sha256("old"), sha256("new")}
    assert room.differences() == []


def test_a_version_whose_bytes_were_uploaded_meanwhile_fails_and_both_documents_stay(room: Room) -> None:
    [document_id] = room.ready("old")
    replace(room, document_id, "new")
    _, [other] = room.upload("new")
    claims = {claim.document_id: claim for claim in room.claim(limit=9)}

    with pytest.raises(ContentTaken) as raised:
        room.publish(claims[document_id], "new")
    room.storage.jobs.fail(claims[document_id], of(raised.value))
    room.publish(claims[other], "new")

    document = get(room, document_id)
    assert document.error is not None
    assert (document.state, document.sha256, document.error.code) == ("ready", sha256("old"), "content-taken")
    assert room.let_through() == {"old", "new"}
    assert room.differences() == []


def test_bytes_that_are_just_being_replaced_are_refused_and_nothing_else_is(room: Room) -> None:
    [document_id] = room.ready("old")
    replace(room, document_id, "new")

    refused, good = receive(room, "old", "other")

    assert (refused.registered, good.problem) == (None, None)
    assert refused.problem is not None
    assert (refused.problem.code, refused.problem.data) == ("content-taken", {"document_id": document_id})
    assert len(room.claim(limit=9)) == 2
    assert room.differences() == []


@pytest.mark.parametrize("ending", ["published", "cancelled"])
def test_bytes_refused_while_they_were_being_replaced_come_in_once_that_is_over(room: Room, ending: str) -> None:
    [document_id] = room.ready("old")
    made = replace(room, document_id, "new")
    assert receive(room, "old")[0].registered is None
    if ending == "published":
        room.publish(room.claim_one(), "new")
    else:
        room.storage.jobs.cancel(TENANT, made.job_id)

    [accepted] = receive(room, "old")

    assert accepted.registered is not None
    if ending == "published":
        assert accepted.registered.status == "queued"
        room.publish(room.claim_one(), "old")
        assert room.let_through() == {"old", "new"}
    else:
        assert (accepted.registered.status, accepted.registered.document_id) == ("duplicate", document_id)
    assert room.differences() == []


def test_a_refusal_under_a_key_is_replayed(room: Room) -> None:
    [document_id] = room.ready("old")
    replace(room, document_id, "new")

    def send() -> Receipt:
        files = [Incoming(f"{content}.txt", None, io.BytesIO(content.encode())) for content in ("old", "other")]
        return room.storage.intake.receive(TENANT, room.kb, files, "key")

    first = send()
    room.publish(room.claim_one(), "new")
    assert (first.entries[0].registered, send()) == (None, replaced(first, replayed=True))


def ingest(room: Room) -> None:
    while claims := room.claim(limit=9):
        for claim in claims:
            try:
                room.publish(claim, claim.sha256)
            except ContentTaken as error:
                room.storage.jobs.fail(claim, of(error))


def test_an_upload_that_races_with_a_replacement_keeps_what_it_was_told(room: Room) -> None:
    for number in range(8):
        [document_id] = room.ready(f"old {number}")
        told: dict[str, Accepted] = {}

        def upload(content: str, told: dict[str, Accepted] = told) -> None:
            [told[content]] = receive(room, content)

        def work(number: int = number, document_id: str = document_id) -> None:
            replace(room, document_id, f"new {number}")
            ingest(room)

        assert in_threads(quietly(work), lambda n=number: upload(f"old {n}"), lambda n=number: upload(f"new {n}")) == []
        ingest(room)
        for content, accepted in told.items():
            if accepted.registered is None or (accepted.registered.status == "duplicate" and content.startswith("old")):
                # Refused, or told of the document before its replacement was asked for.
                continue
            document = get(room, accepted.registered.document_id)
            assert (document.sha256, document.state) == (sha256(content), "ready")
    assert room.differences() == []


@pytest.mark.parametrize("waits", [False, True])
def test_getting_the_bytes_that_are_live_again_clears_an_old_error(room: Room, waits: bool) -> None:
    [document_id] = room.ready("old")
    replace(room, document_id, "broken")
    room.storage.jobs.fail(room.claim_one(), PROBLEM)
    assert get(room, document_id).error == PROBLEM
    if waits:
        replace(room, document_id, "new")

    assert replace(room, document_id, "old").registered.status == "duplicate"

    assert (get(room, document_id).error, get(room, document_id).state) == (None, "ready")
    assert room.differences() == []


def test_what_failed_is_tried_again_when_it_is_uploaded_again(room: Room) -> None:
    _, [document_id] = room.upload("bytes")
    room.storage.jobs.fail(room.claim_one(), PROBLEM)
    job_id, ids = room.upload("bytes", "bytes")
    assert ids == [document_id] * 2
    assert get(room, document_id).error is None
    assert room.item(job_id).state == "queued"
    room.publish(room.claim_one(), "text")
    assert room.let_through() == {"text"}
    assert room.differences() == []


def test_a_cancelled_job_publishes_nothing_any_more(room: Room) -> None:
    job_id, [done, under_way, waiting] = room.upload("a", "b", "c")
    first, second = room.claim(limit=2)
    room.publish(first, "a")
    job = room.storage.jobs.cancel(TENANT, job_id)
    assert (job.state, job.done, job.finished_at is not None) == ("partial", 3, True)
    with pytest.raises(LeaseLost):
        room.publish(second)
    room.storage.jobs.release([second])
    assert room.claim(limit=9) == []
    assert get(room, done).state == "ready"
    for document_id in (under_way, waiting):
        document = get(room, document_id)
        assert document.error is not None
        assert (document.state, document.error.code) == ("failed", "cancelled")
    assert room.let_through() == {"a"}
    assert room.differences() == []


def test_a_cancelled_version_leaves_the_old_one_as_it_is(room: Room) -> None:
    [document_id] = room.ready("old")
    made = replace(room, document_id, "new")
    room.storage.jobs.cancel(TENANT, made.job_id)
    document = get(room, document_id)
    assert (document.state, document.error, document.etag) == ("ready", None, sha256("old"))


def test_a_job_tried_again_does_what_failed_and_what_was_cancelled(room: Room) -> None:
    job_id, [good, bad, cancelled] = room.upload("a", "b", "c")
    claims = room.claim(limit=2)
    room.publish(claims[0], "a")
    room.storage.jobs.fail(claims[1], PROBLEM)
    room.storage.jobs.cancel(TENANT, job_id)
    job = room.storage.jobs.retry(TENANT, job_id)
    assert (job.state, job.done, job.finished_at) == ("running", 1, None)
    assert [item.problem for item in job.items] == [None] * 3
    with pytest.raises(LeaseLost):
        room.publish(claims[1])
    again = room.claim(limit=9)
    assert [(claim.document_id, claim.attempt) for claim in again] == [(bad, 1), (cancelled, 1)]
    for claim in again:
        room.publish(claim, claim.filename)
    assert room.storage.jobs.get(TENANT, job_id).state == "succeeded"
    assert get(room, good).version == 1
    assert room.differences() == []


def test_a_retry_leaves_alone_what_was_deleted_or_replaced_since(room: Room) -> None:
    job_id, [deleted, replaced] = room.upload("a", "b")
    for claim in room.claim(limit=2):
        room.storage.jobs.fail(claim, PROBLEM)
    room.storage.delete_document(TENANT, deleted)
    replace(room, replaced, "new")
    job = room.storage.jobs.retry(TENANT, job_id)
    assert (job.state, job.finished_at is not None) == ("failed", True)
    assert [claim.sha256 for claim in room.claim(limit=9)] == [sha256("new")]
    assert room.differences() == []


def test_another_tenants_job_can_be_neither_cancelled_nor_tried_again(room: Room) -> None:
    job_id, _ = room.upload("a")
    for change in (room.storage.jobs.cancel, room.storage.jobs.retry):
        with pytest.raises(NotFound):
            change("other", job_id)
    assert room.item(job_id).state == "queued"


def test_vectors_are_found_again_by_the_hash_of_their_text_and_their_embedder(room: Room) -> None:
    texts = ["one", "two", "three"]
    parsed, drafts = made_of(texts)
    hashes = [sha256(text) for text in texts]
    for content in ("a", "b"):
        room.upload(content)
        room.publisher.publish(
            room.claim_one(), parsed, drafts, vectors_of(texts).astype(np.float16), UseMultilingual.name, hashes
        )
    found = room.publisher.known_vectors([*hashes[1:], sha256("never seen")], UseMultilingual.name)
    assert set(found) == set(hashes[1:])
    for text in texts[1:]:
        assert np.array_equal(found[sha256(text)], vectors_of([text])[0].astype(np.float16))
    assert room.publisher.known_vectors(hashes, "another embedder") == {}
    assert room.publisher.known_vectors([], UseMultilingual.name) == {}


def quietly(work: Callable[[], object]) -> Callable[[], object]:
    """Losing a race by name is fine."""

    def run() -> None:
        try:
            work()
        except (LeaseLost, NotFound, VersionChanged, ContentTaken):
            return

    return run


def test_an_item_made_while_a_replacement_waits_for_its_turn_is_in_its_hands_too(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, [document_id] = room.upload("first")
    room.claim_one()
    lock, of_document = items.lock_documents, items.open_of
    first_has_its_turn, first_may_go_on = threading.Event(), threading.Event()

    def lock_and_wait(connection: Connection, document_ids: Collection[str]) -> None:
        lock(connection, document_ids)
        if not first_has_its_turn.is_set():
            first_has_its_turn.set()
            first_may_go_on.wait(30)

    def open_items(connection: Connection, found: str) -> list[int]:
        # A worker comes between, in the midst of the second replacement: what it may take, it publishes.
        if first_may_go_on.is_set() and connection.dialect.name == "postgresql":
            for claim in room.claim():
                room.publish(claim, "second")
        return of_document(connection, found)

    monkeypatch.setattr(items, "lock_documents", lock_and_wait)
    monkeypatch.setattr(items, "open_of", open_items)
    with ThreadPoolExecutor(2) as threads:
        second = threads.submit(replace, room, document_id, "second")
        assert first_has_its_turn.wait(30)
        third = threads.submit(replace, room, document_id, "third")
        time.sleep(0.3)
        first_may_go_on.set()
        for replacement in (second, third):
            replacement.result()

    claim = room.claim_one()
    assert claim.sha256 == sha256("third")
    room.publish(claim, "third")
    assert (get(room, document_id).version, room.differences()) == (1, [])


def test_whoever_changes_a_document_at_once_with_others_never_deadlocks_and_loses_nothing(room: Room) -> None:
    for number in range(8):
        ids = room.ready(*(f"{number} {n}" for n in range(3)))
        job_id, _ = room.upload(*(f"{number} new {n}" for n in range(3)))
        failed = [replace(room, document_id, f"{number} failed {document_id}").job_id for document_id in ids]
        claims = [claim for _ in range(3) for claim in room.claim(limit=9)]
        for claim in claims[:2]:
            room.storage.jobs.fail(claim, PROBLEM)
        works: list[Callable[[], object]] = [
            lambda c=claims[-1]: room.publish(c, f"published {c.item_id}"),
            lambda c=claims[-2]: room.publish(c, f"published {c.item_id}"),
            lambda i=ids[0], n=number: replace(room, i, f"{n} newest"),
            lambda i=ids[1], n=number: replace(room, i, f"{n} newest"),
            lambda i=ids[2]: room.storage.delete_document(TENANT, i),
            lambda n=number: room.upload(*(f"{n} new {k}" for k in range(3)), f"{n} newest"),
            lambda j=job_id: room.storage.jobs.cancel(TENANT, j),
            lambda j=failed[0]: room.storage.jobs.retry(TENANT, j),
            lambda j=failed[1]: room.storage.jobs.retry(TENANT, j),
        ]
        raised = in_threads(*map(quietly, works))
        assert [error for error in raised if not isinstance(error, YoujuError)] == []
        assert raised == []
        ingest(room)
        room.storage.documents.collect(sha256(f"{number} newest"), room.storage.blobs.remove)
        assert [found for found in room.differences() if "belongs to no document" not in found] == []
