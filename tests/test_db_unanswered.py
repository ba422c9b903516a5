"""Questions that were refused, on SQLite and on PostgreSQL."""

from __future__ import annotations

import re

import pytest
from plans import plan_of
from rooms import TENANT, Room
from sqlalchemy import insert, text
from test_db_nouns import ANY, answer

from rag_service.db.answers import Answers, Provenance
from rag_service.db.conversations import Conversations
from rag_service.db.sessions import new_id
from rag_service.db.tables import answers as answers_table
from rag_service.db.tables import refusals
from rag_service.db.unanswered import Unanswered
from rag_service.errors import NotFound
from rag_service.types import Answer


@pytest.fixture
def unanswered(room: Room) -> Unanswered:
    return Unanswered(room.storage.database)


def refuse(room: Room, query: str, *kbs: str, tenant: str = TENANT) -> Answer:
    refused = answer(query=query, outcome="refused", refusal="no_evidence", citations=())
    return Answers(room.storage.database).record(tenant, refused, kbs or [room.kb], [], Provenance(query))


def listed(unanswered: Unanswered, kb: str | None, tenant: str = TENANT) -> list[str]:
    return [question.query for question in unanswered.browse(tenant, kb, 50, None).items]


def test_only_refused_questions_are_listed_newest_first(room: Room, unanswered: Unanswered) -> None:
    first = refuse(room, "first?")
    Answers(room.storage.database).record(TENANT, answer(query="answered?"), [room.kb], [], Provenance("q"))
    refuse(room, "second?")
    assert listed(unanswered, None) == listed(unanswered, room.kb) == ["second?", "first?"]
    oldest = unanswered.browse(TENANT, room.kb, 50, None).items[-1]
    assert (oldest.answer_id, oldest.reason, oldest.knowledge_base_ids) == (first.id, "no_evidence", (room.kb,))
    assert (oldest.conversation_id, oldest.created_at) == (first.conversation_id, first.created_at)


def test_a_question_is_listed_under_each_knowledge_base_it_was_asked_of(room: Room, unanswered: Unanswered) -> None:
    other = room.storage.knowledge_bases.create(TENANT, "other").id
    refuse(room, "here?")
    refuse(room, "there?", other)
    refuse(room, "both?", other, room.kb, other)
    assert listed(unanswered, room.kb) == ["both?", "here?"]
    assert listed(unanswered, other) == ["both?", "there?"]
    assert listed(unanswered, None) == ["both?", "there?", "here?"]


def test_pages_neither_repeat_nor_leave_out(room: Room, unanswered: Unanswered) -> None:
    for number in range(7):
        refuse(room, str(number))
    for kb in (None, room.kb):
        seen, cursor = [], None
        while True:
            page = unanswered.browse(TENANT, kb, 3, cursor)
            seen += [question.query for question in page.items]
            if (cursor := page.next_cursor) is None:
                break
        assert seen == list("6543210")


def test_another_tenants_questions_and_knowledge_bases_do_not_exist(room: Room, unanswered: Unanswered) -> None:
    refuse(room, "mine?")
    assert listed(unanswered, None, tenant="other") == []
    for tenant, kb in (("other", room.kb), (TENANT, "unknown")):
        with pytest.raises(NotFound):
            unanswered.browse(tenant, kb, 50, None)


def test_a_refusal_outlives_its_knowledge_base_and_goes_with_its_conversation(
    room: Room, unanswered: Unanswered
) -> None:
    refused = refuse(room, "still?")
    room.storage.delete_knowledge_base(TENANT, room.kb)
    assert listed(unanswered, None) == ["still?"]
    Conversations(room.storage.database).delete(TENANT, refused.conversation_id)
    assert listed(unanswered, None) == []


@pytest.mark.parametrize(("filtered", "index"), [(False, "ix_answers_refused"), (True, "refusals")])
def test_the_newest_are_found_by_index_among_many(
    room: Room, unanswered: Unanswered, filtered: bool, index: str
) -> None:
    others = [room.storage.knowledge_bases.create(TENANT, f"other {n}").id for n in range(9)]
    fill(room, [room.kb, *others], 4_000)
    plan = plan_of(room, "FROM answers", lambda: unanswered.browse(TENANT, room.kb if filtered else None, 5, None))
    by_index = rf"(USING COVERING INDEX \w*{index}\w*|Index Only Scan Backward using \w*{index}\w*)"
    assert re.search(by_index, plan), plan
    assert not re.search(r"Seq Scan on|SCAN (answers|refusals)\b(?! USING)", plan), plan


def fill(room: Room, kbs: list[str], number: int) -> None:
    """Every fourth is refused."""
    opened = Conversations(room.storage.database).create(TENANT, "many", []).id
    rows = [
        ANY | {"id": new_id(), "conversation_id": opened, "outcome": "answered" if n % 4 else "refused"}
        for n in range(number)
    ]
    refused = [row["id"] for row in rows if row["outcome"] == "refused"]
    with room.storage.database.write() as connection:
        connection.execute(insert(answers_table), rows)
        asked_of = [{"knowledge_base_id": kbs[n % len(kbs)], "answer_id": i} for n, i in enumerate(refused)]
        connection.execute(insert(refusals), asked_of)
        connection.execute(text("ANALYZE"))
