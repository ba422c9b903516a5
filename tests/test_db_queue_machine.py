"""The queue under any sequence of what can happen to it: a model beside it, and what holds whatever happened."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from rooms import PROBLEM, TENANT, Room
from sqlalchemy import select, update

from rag_service.db.jobs import MAX_ATTEMPTS, Claim
from rag_service.db.registration import Upload
from rag_service.db.tables import documents, job_items
from rag_service.errors import ContentTaken, LeaseLost, NotFound, VersionChanged

CONTENTS = st.sampled_from([f"content {n}" for n in range(6)])
RECENT = st.integers(0, 3)
# Mostly by who may, now and then by who has lost the right to.
LATE = st.sampled_from((False, False, False, True))


def recent(members: list[Any], pick: int) -> Any:
    """One of the last few: what happens to the same one after the other is what goes wrong."""
    return members[-1 - pick % len(members)]


class Queue(RuleBasedStateMachine):
    """Claims are kept after they are lost, and used again: whatever a late worker does must have no effect."""

    room: Room

    def __init__(self) -> None:
        super().__init__()
        # What a failed example left behind would be in the way of finding the shortest one.
        for kb in self.room.storage.knowledge_bases.all_ids():
            self.room.storage.delete_knowledge_base(TENANT, kb)
        self.kbs = [self.room.storage.knowledge_bases.create(TENANT, f"{id(self)} {n}").id for n in range(2)]
        self.jobs: list[str] = []
        self.documents: list[str] = []
        self.deleted: set[str] = set()
        self.claims: list[Claim] = []
        self.used: set[tuple[int, int]] = set()
        self.attempts: Counter[int] = Counter()
        self.answers: dict[str, str] = {}

    @rule(contents=st.lists(CONTENTS, min_size=1, max_size=4), kb=st.integers(0, 1))
    def upload(self, contents: list[str], kb: int) -> None:
        job_id, ids = self.room.upload(*contents, kb=self.kbs[kb])
        self.jobs.append(job_id)
        self.documents += [document_id for document_id in ids if document_id not in self.documents]

    @precondition(lambda self: self.documents)
    @rule(pick=RECENT, content=CONTENTS, stale=LATE)
    def replace(self, pick: int, content: str, stale: bool) -> None:
        document_id = recent(self.documents, pick)
        storage = self.room.storage
        blob = storage.blobs.put(io.BytesIO(content.encode()))
        upload = Upload("new.txt", "text/plain", blob.sha256, blob.bytes)
        try:
            made = storage.documents.replace(TENANT, document_id, upload, "0" if stale else None, storage.blobs.exists)
        except NotFound:
            assert document_id in self.deleted
        except VersionChanged:
            assert stale
        except ContentTaken:
            assert not stale
        else:
            self.jobs.append(made.job_id)
            for sha256 in made.superseded:
                storage.documents.collect(sha256, storage.blobs.remove)
            assert storage.documents.get(TENANT, document_id).etag == blob.sha256
        storage.documents.collect(blob.sha256, storage.blobs.remove)

    @rule(limit=st.integers(1, 4), slow=LATE, worker=st.sampled_from("ab"))
    def claim(self, limit: int, slow: bool, worker: str) -> None:
        claims = self.room.storage.jobs.claim(worker, 60.0, limit, slow=slow)
        assert len(claims) <= limit
        assert len(claims) == 1 or all(claim.attempt == 1 for claim in claims)
        assert all((claim.item_id, claim.token) not in self.used for claim in claims)
        self.attempts.update(claim.item_id for claim in claims)
        assert all(claim.attempt == self.attempts[claim.item_id] for claim in claims)
        self.used |= {(claim.item_id, claim.token) for claim in claims}
        self.claims += claims

    @precondition(lambda self: self.claims)
    @rule(pick=RECENT)
    def lapse(self, pick: int) -> None:
        claim = self.some_claim(pick, late=False)
        with self.room.storage.database.write() as connection:
            connection.execute(update(job_items).where(job_items.c.id == claim.item_id).values(lease_until=1.0))

    @precondition(lambda self: self.claims)
    @rule(pick=RECENT, late=LATE)
    def publish(self, pick: int, late: bool) -> None:
        claim = self.some_claim(pick, late)
        text = f"text of {claim.sha256}"
        with self.only_if_held(claim, ContentTaken) as held:
            self.room.publish(claim, text)
        if held:
            self.answers[claim.document_id] = text

    @precondition(lambda self: self.claims)
    @rule(pick=RECENT, late=LATE)
    def fail(self, pick: int, late: bool) -> None:
        claim = self.some_claim(pick, late)
        with self.only_if_held(claim):
            self.room.storage.jobs.fail(claim, PROBLEM)

    @precondition(lambda self: self.claims)
    @rule(pick=RECENT, slow=st.booleans(), late=LATE)
    def release(self, pick: int, slow: bool, late: bool) -> None:
        claim = self.some_claim(pick, late)
        self.attempts[claim.item_id] -= self.holds(claim)
        self.room.storage.jobs.release([claim], slow=slow)
        assert not self.holds(claim)

    @precondition(lambda self: self.claims)
    @rule(pick=RECENT, late=LATE)
    def postpone(self, pick: int, late: bool) -> None:
        claim = self.some_claim(pick, late)
        self.attempts[claim.item_id] -= self.holds(claim)
        self.room.storage.jobs.postpone(claim, 0.0)
        assert not self.holds(claim)

    @precondition(lambda self: self.jobs)
    @rule(pick=RECENT)
    def cancel(self, pick: int) -> None:
        job = self.room.storage.jobs.cancel(TENANT, recent(self.jobs, pick))
        assert job.finished_at is not None
        assert job.state not in ("queued", "running")

    @precondition(lambda self: self.jobs)
    @rule(pick=RECENT)
    def retry(self, pick: int) -> None:
        before = self.ended()
        job = self.room.storage.jobs.retry(TENANT, recent(self.jobs, pick))
        again = before - self.ended()
        for item_id in again:
            self.attempts[item_id] = 0
        assert (job.finished_at is None) == (job.state in ("queued", "running"))

    @precondition(lambda self: self.documents)
    @rule(pick=RECENT)
    def delete(self, pick: int) -> None:
        document_id = recent(self.documents, pick)
        if document_id in self.deleted:
            with pytest.raises(NotFound):
                self.room.storage.delete_document(TENANT, document_id)
            return
        self.room.storage.delete_document(TENANT, document_id)
        self.deleted.add(document_id)
        self.answers.pop(document_id, None)

    @invariant()
    def a_document_answers_with_what_was_last_published(self) -> None:
        found = {text for kb in self.kbs for text in self.room.let_through(kb=kb)}
        assert found == set(self.answers.values())

    @invariant()
    def attempts_are_counted_to_three(self) -> None:
        with self.room.storage.database.read() as connection:
            assert all(n <= MAX_ATTEMPTS for n in connection.scalars(select(job_items.c.attempts)))

    @invariant()
    def whoever_uploads_has_bytes_and_an_ending(self) -> None:
        with self.room.storage.database.read() as connection:
            rows = connection.execute(select(documents.c.id, documents.c.sha256, documents.c.deleted_at)).all()
        for row in rows:
            assert row.deleted_at is not None or self.room.storage.blobs.is_intact(row.sha256)

    @invariant()
    def nothing_differs(self) -> None:
        assert self.room.differences() == []

    def teardown(self) -> None:
        """Everything that is accepted and not deleted ends, once somebody works."""
        for slow in (False, True):
            self.drain(slow)
        with self.room.storage.database.read() as connection:
            query = select(documents.c.state).where(documents.c.deleted_at.is_(None))
            states = set(connection.scalars(query))
        assert states <= {"ready", "failed"}
        for kb in self.kbs:
            self.room.storage.delete_knowledge_base(TENANT, kb)
        assert list(self.room.storage.blobs.all()) == []

    def drain(self, slow: bool) -> None:
        with self.room.storage.database.write() as connection:
            connection.execute(update(job_items).where(job_items.c.state == "processing").values(lease_until=1.0))
        while claims := self.room.storage.jobs.claim("last", 60.0, 8, slow=slow):
            for claim in claims:
                try:
                    self.room.publish(claim)
                except ContentTaken:
                    self.room.storage.jobs.fail(claim, PROBLEM)

    @contextlib.contextmanager
    def only_if_held(self, claim: Claim, *may_be: type[Exception]) -> Any:
        """Yields a list that is not empty once the effect was made; a lost claim has none, and says so."""
        held, done = self.holds(claim), []
        try:
            yield done
        except LeaseLost:
            assert not held
        except may_be:
            assert held
        else:
            assert held
            assert not self.holds(claim)
            done.append(claim)

    def some_claim(self, pick: int, late: bool) -> Claim:
        held = [claim for claim in self.claims if self.holds(claim)]
        return recent(self.claims if late or not held else held, pick)

    def ended(self) -> set[int]:
        with self.room.storage.database.read() as connection:
            return set(connection.scalars(select(job_items.c.id).where(job_items.c.state.in_(("failed", "cancelled")))))

    def holds(self, claim: Claim) -> bool:
        return (self.state(claim), self.token(claim)) == ("processing", claim.token)

    def state(self, claim: Claim) -> str | None:
        return self._column(claim, job_items.c.state)

    def token(self, claim: Claim) -> int:
        return self._column(claim, job_items.c.token)

    def _column(self, claim: Claim, column: Any) -> Any:
        with self.room.storage.database.read() as connection:
            return connection.scalar(select(column).where(job_items.c.id == claim.item_id))


def play(room: Room, examples: int, steps: int) -> None:
    machine = type("QueueOfRoom", (Queue,), {"room": room})
    quiet = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(machine, settings=quiet)


def test_whatever_happens_to_the_queue_nothing_is_lost_and_nothing_differs(room: Room) -> None:
    play(room, examples=12, steps=40)
