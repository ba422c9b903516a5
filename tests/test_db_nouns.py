"""Knowledge bases, conversations, answers and keys, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from passages import ranked
from plans import plan_of
from rooms import TENANT, Room
from sqlalchemy import insert, text
from test_db_publication import in_threads

from rag_service.db.answers import Answers, Provenance
from rag_service.db.conversations import Conversations
from rag_service.db.sessions import new_id
from rag_service.db.tables import answers as answers_table
from rag_service.db.tables import messages
from rag_service.errors import NameTaken, NotFound, Unauthenticated
from rag_service.types import Answer, Citation, Turn, Usage

CITATION = Citation(
    marker=1, document_id="d", document_version=1, filename="手册.md", chunk_id=2**40, page=None, headings=("年假",),
    char_start=3, char_end=9, quote="十二天年假。", answer_start=0, answer_end=9, verdict="supported", score=0.8312,
)  # fmt: skip
MADE = Provenance("年假几天？")


def answer(**changes: object) -> Answer:
    made = Answer(
        id=new_id(), conversation_id="", query="年假几天？", outcome="answered", refusal=None, text="十二天年假[1]。",
        language="zh", citations=(CITATION, replace(CITATION, marker=2, page=3)), generator="extractive",
        revision={"kb": 2**40}, usage=Usage(0, 9), timings_ms={"total": 1.25}, prompt_sha256=None, created_at=0.0,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture
def answers(room: Room) -> Answers:
    return Answers(room.storage.database)


@pytest.fixture
def conversations(room: Room) -> Conversations:
    return Conversations(room.storage.database)


def test_a_name_is_taken_once_for_each_tenant(room: Room) -> None:
    kbs = room.storage.knowledge_bases
    kbs.create(TENANT, "one")
    with pytest.raises(NameTaken):
        kbs.create(TENANT, "one")
    other = kbs.create("other", "one")
    second = kbs.create(TENANT, "two")
    with pytest.raises(NameTaken):
        kbs.change(TENANT, second.id, name="one", description=None)
    assert kbs.change(TENANT, second.id, name="zwei", description="d").name == "zwei"
    assert kbs.named("other", "one") == other


def test_a_name_wanted_by_many_at_once_goes_to_one(room: Room) -> None:
    works: list[Callable[[], object]] = [lambda: room.storage.knowledge_bases.create(TENANT, "wanted")] * 5
    assert [type(error) for error in in_threads(*works)] == [NameTaken] * 4


def test_a_foreign_knowledge_base_is_like_one_that_never_was(room: Room) -> None:
    kbs = room.storage.knowledge_bases
    for tenant, kb in (("other", room.kb), (TENANT, "no such id")):
        for call in (
            lambda t=tenant, k=kb: kbs.get(t, k),
            lambda t=tenant, k=kb: kbs.change(t, k, name="x", description=None),
            lambda t=tenant, k=kb: kbs.delete(t, k),
            lambda t=tenant, k=kb: kbs.demand(t, [k]),
        ):
            with pytest.raises(NotFound):
                call()
    kbs.demand(TENANT, [room.kb, room.kb])
    assert kbs.browse("other", 10, None).items == ()


def test_a_knowledge_base_counts_what_is_live(room: Room) -> None:
    ids = room.ready("a", "b", "c")
    room.storage.delete_document(TENANT, ids[0])
    found = room.storage.knowledge_bases.get(TENANT, room.kb)
    assert (found.documents, found.chunks, found.revision) == (2, 2, 4)


def test_an_answer_is_stored_as_it_was_given(answers: Answers, conversations: Conversations) -> None:
    shown = [ranked("十二天年假。", 0.9, 2**40), ranked("病假另计。", 0.5, 7)]
    stored = answers.record(TENANT, answer(), ["kb"], shown, MADE)
    assert answers.get(TENANT, stored.id) == stored
    assert stored.created_at > 1_700_000_000
    opened = conversations.get(TENANT, stored.conversation_id)
    assert (opened.title, opened.knowledge_base_ids) == ("年假几天？", ("kb",))
    said = conversations.messages(TENANT, stored.conversation_id, 10, None).items
    assert [(m.role, m.content, m.answer_id) for m in said] == [
        ("user", "年假几天？", None),
        ("assistant", stored.text, stored.id),
    ]


def test_an_answer_stays_readable_after_its_document_is_deleted(room: Room, answers: Answers) -> None:
    [document_id] = room.ready("十二天年假。")
    cited = answer(citations=(replace(CITATION, document_id=document_id),))
    stored = answers.record(TENANT, cited, [room.kb], [], MADE)
    room.storage.delete_document(TENANT, document_id)
    assert answers.get(TENANT, stored.id) == stored


def test_a_conversation_keeps_its_turns_in_order_and_takes_its_answers_with_it(
    answers: Answers, conversations: Conversations
) -> None:
    first = answers.record(TENANT, answer(), ["kb"], [], MADE)
    for number in range(4):
        answers.record(TENANT, answer(conversation_id=first.conversation_id, query=f"q{number}"), ["kb"], [], MADE)
    seen, cursor = [], None
    while True:
        page = conversations.messages(TENANT, first.conversation_id, 3, cursor)
        seen += [message.content for message in page.items if message.role == "user"]
        if (cursor := page.next_cursor) is None:
            break
    assert seen == ["年假几天？", "q0", "q1", "q2", "q3"]
    conversations.delete(TENANT, first.conversation_id)
    with pytest.raises(NotFound):
        answers.get(TENANT, first.id)


def test_the_newest_turns_come_oldest_first_and_a_refused_question_without_an_answer(
    answers: Answers, conversations: Conversations
) -> None:
    first = answers.record(TENANT, answer(query="q0", text="a0"), ["kb"], [], MADE)
    opened, ids = first.conversation_id, [first.id]
    for number in range(1, 6):
        made = answer(conversation_id=opened, query=f"q{number}", text=f"a{number}")
        if number == 4:
            made = replace(made, outcome="refused", refusal="insufficient", citations=())
        ids.append(answers.record(TENANT, made, ["kb"], [], MADE).id)
    answers.record(TENANT, answer(query="elsewhere"), ["kb"], [], MADE)

    whole = conversations.turns(TENANT, opened, 60)

    assert whole == tuple(Turn(ids[n], f"q{n}", "" if n == 4 else f"a{n}") for n in range(6))
    assert conversations.turns(TENANT, opened, 2) == whole[-2:]
    assert conversations.turns(TENANT, opened, 0) == ()
    assert conversations.turns_of(TENANT, [ids[4], "unknown", ids[0]]) == (whole[4], whole[0])
    assert conversations.turns_of("other", ids) == conversations.turns_of(TENANT, []) == ()
    with pytest.raises(NotFound):
        conversations.turns("other", opened, 2)


def test_the_end_of_a_long_conversation_is_read_by_index(room: Room, conversations: Conversations) -> None:
    opened = [conversations.create(TENANT, "long", []).id for _ in range(10)]
    for conversation_id in opened:
        fill(room, conversation_id, 300)
    plan = plan_of(room, "FROM answers", lambda: conversations.turns(TENANT, opened[3], 60))
    assert "ix_messages_conversation_id_id" in plan


def fill(room: Room, opened: str, turns: int) -> None:
    said = [{"id": new_id(), "conversation_id": opened} | ANY for _ in range(turns)]
    told = [
        {"role": role, "answer_id": answer_id, "conversation_id": opened, "content": "", "created_at": 0.0}
        for one in said
        for role, answer_id in (("user", None), ("assistant", one["id"]))
    ]
    with room.storage.database.write() as connection:
        connection.execute(insert(answers_table), said)
        connection.execute(insert(messages), told)
        connection.execute(text("ANALYZE"))


ANY = {
    "tenant": TENANT, "query": "q", "knowledge_base_ids": [], "outcome": "answered", "text": "a", "language": "en",
    "generator": "extractive", "revision": {}, "usage": {}, "timings_ms": {}, "created_at": 0.0,
}  # fmt: skip


def test_an_answer_to_a_conversation_that_is_gone_is_not_stored(answers: Answers, conversations: Conversations) -> None:
    opened = conversations.create(TENANT, "title", [])
    late = answer(conversation_id=opened.id)
    with pytest.raises(NotFound):
        answers.record("other", late, [], [], MADE)
    conversations.delete(TENANT, opened.id)
    with pytest.raises(NotFound):
        answers.record(TENANT, late, [], [], MADE)
    with pytest.raises(NotFound):
        answers.get(TENANT, late.id)


def test_answering_while_the_conversation_is_deleted_ends_in_not_found_at_worst(
    answers: Answers, conversations: Conversations
) -> None:
    for _ in range(10):
        opened = conversations.create(TENANT, "title", [])
        works: list[Callable[[], object]] = [
            lambda c=opened.id: answers.record(TENANT, answer(conversation_id=c), [], [], MADE),
            lambda c=opened.id: conversations.delete(TENANT, c),
        ]
        assert {type(error) for error in in_threads(*works)} <= {NotFound}


def test_another_tenants_answers_and_conversations_do_not_exist(answers: Answers, conversations: Conversations) -> None:
    stored = answers.record(TENANT, answer(), ["kb"], [], MADE)
    for call in (
        lambda: answers.get("other", stored.id),
        lambda: conversations.get("other", stored.conversation_id),
        lambda: conversations.messages("other", stored.conversation_id, 10, None),
        lambda: conversations.delete("other", stored.conversation_id),
    ):
        with pytest.raises(NotFound):
            call()
    assert conversations.browse("other", 10, None).items == ()


def test_conversations_come_newest_first_in_pages(conversations: Conversations) -> None:
    made = [conversations.create(TENANT, f"t{n}", []).id for n in range(5)]
    first = conversations.browse(TENANT, 3, None)
    second = conversations.browse(TENANT, 3, first.next_cursor)
    assert [c.id for c in (*first.items, *second.items)] == made[::-1]


def test_a_key_opens_its_tenant_until_it_is_revoked_and_is_nowhere_stored(room: Room) -> None:
    keys = room.storage.keys
    key_id, key = keys.create("acme", "laptop")
    assert key.startswith("yj_")
    assert len(key) >= 46
    assert (keys.caller(key).tenant, keys.caller(key).key_id) == ("acme", key_id)
    with room.storage.database.read() as connection:
        assert key[3:] not in str(connection.exec_driver_sql("SELECT * FROM api_keys").all())
    keys.revoke(key_id)
    for wrong in (key, key + "x", key[:-1], key.upper(), "", "yj_"):
        with pytest.raises(Unauthenticated):
            keys.caller(wrong)
    with pytest.raises(NotFound):
        keys.revoke(key_id)


def test_keys_do_not_follow_from_each_other(room: Room) -> None:
    made = {room.storage.keys.create(TENANT, "k")[1] for _ in range(20)}
    assert len(made) == 20
    assert len({key[:10] for key in made}) == 20
