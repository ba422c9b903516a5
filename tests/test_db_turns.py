"""Whose turn it is to be claimed, on SQLite and on PostgreSQL."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from rooms import PROBLEM, TENANT, Room
from sqlalchemy import event

from rag_service.db.jobs import Claim
from rag_service.db.registration import Upload


def shelves(room: Room, *sizes: int) -> list[str]:
    """Knowledge bases with so many waiting documents each."""
    made = [room.storage.knowledge_bases.create(TENANT, f"shelf {n}").id for n in range(len(sizes))]
    for kb, size in zip(made, sizes, strict=True):
        room.upload(*(f"{kb} {n}" for n in range(size)), kb=kb)
    return made


def served(claims: Sequence[Claim]) -> Counter[str]:
    return Counter(claim.knowledge_base_id for claim in claims)


def lapse() -> None:
    time.sleep(0.1)


def test_one_document_does_not_wait_for_the_many_of_another_knowledge_base(room: Room) -> None:
    many, one = shelves(room, 60, 1)
    assert served(room.claim(limit=8)) == {many: 4, one: 1}
    assert served(room.claim(limit=8)) == {many: 8}


def test_a_late_comer_is_served_in_the_next_round(room: Room) -> None:
    [many] = shelves(room, 30)
    room.claim(limit=8)
    late = room.storage.knowledge_bases.create(TENANT, "late").id
    room.upload("late", kb=late)
    assert served(room.claim(limit=2)) == {many: 1, late: 1}


def test_where_there_are_more_knowledge_bases_than_a_claim_has_items_they_take_turns(room: Room) -> None:
    kbs = shelves(room, 3, 3, 3, 3, 3)
    claims = [claim for _ in range(5) for claim in room.claim(limit=2)]
    assert served(claims) == dict.fromkeys(kbs, 2)
    # Whichever five follow each other: nobody twice before everybody once.
    assert {claim.knowledge_base_id for claim in claims[:5]} == set(kbs)
    assert served([claim for _ in range(3) for claim in room.claim(limit=2)]) == dict.fromkeys(kbs, 1)


def test_one_at_a_time_goes_around_too(room: Room) -> None:
    kbs = shelves(room, 4, 4, 4)
    assert served([room.claim_one() for _ in range(6)]) == dict.fromkeys(kbs, 2)


def test_of_one_knowledge_base_the_oldest_come_first(room: Room) -> None:
    kbs = shelves(room, 5, 5)
    claims = room.claim(limit=10)
    for kb in kbs:
        ids = [claim.item_id for claim in claims if claim.knowledge_base_id == kb]
        assert ids == sorted(ids)


def test_documents_that_lost_their_workers_are_claimed_alone_and_starve_nobody(room: Room) -> None:
    _, other = shelves(room, 6, 0)
    room.claim("dead", 0.01, limit=6)
    lapse()
    room.upload("fresh", kb=other)
    claimed = [room.claim("next", limit=6) for _ in range(7)]
    assert [len(claims) for claims in claimed] == [1] * 7
    assert other in {claims[0].knowledge_base_id for claims in claimed[:2]}
    assert sorted(claims[0].attempt for claims in claimed) == [1, *[2] * 6]


def test_a_document_marked_slow_is_only_given_to_who_asks_for_slow_ones(room: Room) -> None:
    shelves(room, 2)
    slow, quick = room.claim(limit=2)
    room.storage.jobs.release([slow], slow=True)
    room.storage.jobs.release([quick])
    assert [claim.item_id for claim in room.claim(limit=9)] == [quick.item_id]
    again = room.storage.jobs.claim("patient", 60.0, 9, slow=True)
    assert [(claim.item_id, claim.attempt) for claim in again] == [(slow.item_id, 1)]
    assert room.storage.jobs.claim("patient", 60.0, 9, slow=True) == []


def test_a_slow_document_stays_slow_and_is_counted_like_any_other(room: Room) -> None:
    job_id, [document_id] = room.upload("slow")
    room.storage.jobs.release([room.claim_one()], slow=True)
    for attempt in (1, 2, 3):
        [claim] = room.storage.jobs.claim("victim", 0.01, 1, slow=True)
        assert claim.attempt == attempt
        lapse()
    assert room.storage.jobs.claim("fourth", 60.0, 1, slow=True) == []
    assert room.storage.documents.get(TENANT, document_id).state == "failed"
    room.storage.jobs.retry(TENANT, job_id)
    assert room.claim() == []
    assert len(room.storage.jobs.claim("fifth", 60.0, 1, slow=True)) == 1


def test_a_document_that_takes_workers_down_does_not_hide_those_behind_it(room: Room) -> None:
    room.upload("poison")
    for _ in range(3):
        room.claim_one("victim", 0.01)
        lapse()
    _, [good] = room.upload("good")
    assert [claim.document_id for claim in room.claim()] == [good]


def test_a_claim_costs_no_more_statements_beside_a_thousand_waiting_documents(room: Room) -> None:
    def statements() -> int:
        executed: list[str] = []

        def count(connection: object, cursor: object, text: str, *rest: object) -> None:
            executed.append(text)

        event.listen(room.storage.database.engine, "before_cursor_execute", count)
        [claim] = room.claim()
        event.remove(room.storage.database.engine, "before_cursor_execute", count)
        room.storage.jobs.fail(claim, PROBLEM)
        return len(executed)

    kb = room.storage.knowledge_bases.create(TENANT, "shelf").id
    room.upload("first", kb=kb)
    room.claim_one()
    room.upload("second", kb=kb)
    alone = statements()
    uploads = [Upload(f"{n}.txt", "text/plain", f"{n:064x}", 1) for n in range(1_000)]
    room.storage.documents.register(TENANT, kb, uploads, lambda sha256: True)
    assert statements() == alone
