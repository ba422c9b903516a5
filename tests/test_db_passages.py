"""The one gate, on SQLite and on PostgreSQL: only what is live, in scope and let through by the filter is a passage."""

from __future__ import annotations

import math

import pytest
from rooms import TENANT, Room
from sqlalchemy import update

from rag_service.db.tables import chunks
from rag_service.types import PassageFilter


def test_a_passage_has_all_that_a_citation_needs(room: Room) -> None:
    [document_id] = room.ready("第一段话。")
    [chunk_id] = room.live_chunks()
    [passage] = room.store.passages(TENANT, [room.kb], [chunk_id], PassageFilter()).values()
    assert (passage.chunk_id, passage.document_id, passage.document_version) == (chunk_id, document_id, 1)
    assert (passage.knowledge_base_id, passage.filename, passage.media_type) == (room.kb, "0.txt", "text/plain")
    assert (passage.headings, passage.language, passage.text) == (("Title",), "zh", "第一段话。")
    text = room.storage.documents.text(TENANT, document_id, passage.char_start, passage.char_end)
    assert text.text == passage.text


def test_another_tenant_gets_nothing_even_with_all_the_ids(room: Room) -> None:
    room.ready("mine")
    assert room.let_through(tenant="other") == set()
    theirs = room.storage.knowledge_bases.create("other", "theirs").id
    room.ready("theirs", kb=theirs, tenant="other")
    assert room.let_through(kb=theirs) == set()
    assert room.let_through(kb=theirs, tenant="other") == {"theirs"}
    both = room.store.passages("other", [room.kb, theirs], range(1, 9), PassageFilter())
    assert {passage.text for passage in both.values()} == {"theirs"}


def test_another_knowledge_base_is_out_of_scope(room: Room) -> None:
    room.ready("here")
    other = room.storage.knowledge_bases.create(TENANT, "other").id
    room.ready("there", kb=other)
    assert room.let_through() == {"here"}
    assert room.let_through(kb=other) == {"there"}


def test_no_knowledge_base_and_no_chunk_let_nothing_through(room: Room) -> None:
    room.ready("text")
    assert room.store.passages(TENANT, [], range(1, 9), PassageFilter()) == {}
    assert room.store.passages(TENANT, [room.kb], [], PassageFilter()) == {}
    assert room.let_through(77) == set()


def test_a_deleted_document_is_gone(room: Room) -> None:
    doomed, _ = room.ready("doomed", "kept")
    room.storage.documents.delete(TENANT, doomed)
    assert room.let_through() == {"kept"}


def test_a_retired_chunk_is_gone_though_its_document_lives(room: Room) -> None:
    room.upload("a")
    room.publish(room.claim_one(), "old", "new")
    [old] = [chunk_id for chunk_id, text in room.live_chunks().items() if text.endswith("old")]
    with room.storage.database.write() as connection:
        connection.execute(update(chunks).where(chunks.c.id == old).values(retired_revision=2))
    assert room.let_through() == {"new"}


@pytest.mark.parametrize(
    ("only", "wanted"),
    [
        (PassageFilter(), {"An English text.", "一段中文。"}),
        (PassageFilter(languages=frozenset({"zh"})), {"一段中文。"}),
        (PassageFilter(languages=frozenset({"zh", "en"})), {"An English text.", "一段中文。"}),
        (PassageFilter(languages=frozenset()), set()),
        (PassageFilter(media_types=frozenset({"text/plain"})), {"An English text.", "一段中文。"}),
        (PassageFilter(media_types=frozenset({"application/pdf"})), set()),
        (PassageFilter(document_ids=frozenset({"no such id"})), set()),
        (PassageFilter(document_ids=frozenset()), set()),
        (PassageFilter(created_from=1.0), {"An English text.", "一段中文。"}),
        (PassageFilter(created_from=1.0, languages=frozenset({"en"})), {"An English text."}),
        (PassageFilter(created_before=1.0), set()),
        (PassageFilter(created_from=1.0, created_before=4e9), {"An English text.", "一段中文。"}),
        (PassageFilter(created_from=4e9), set()),
    ],
)
def test_filters_only_ever_narrow(room: Room, only: PassageFilter, wanted: set[str]) -> None:
    room.ready("An English text.", "一段中文。")
    assert room.let_through(only=only) == wanted


def test_a_documents_time_is_that_of_its_first_upload_and_a_range_has_its_beginning_alone(room: Room) -> None:
    [first] = room.ready("one")
    room.ready("two")
    at = room.storage.documents.get(TENANT, first).created_at
    just_after = math.nextafter(at, math.inf)
    assert room.let_through(only=PassageFilter(created_from=at, created_before=just_after)) >= {"one"}
    assert "one" not in room.let_through(only=PassageFilter(created_from=just_after))
    assert "one" not in room.let_through(only=PassageFilter(created_before=at))


def test_a_filter_by_document_does_not_open_another_tenants(room: Room) -> None:
    [mine, _] = room.ready("one", "two")
    only = PassageFilter(document_ids=frozenset({mine}))
    assert room.let_through(only=only) == {"one"}
    assert room.let_through(only=only, tenant="other") == set()


def test_many_ids_and_many_documents_are_one_question(room: Room) -> None:
    [mine] = room.ready("one")
    only = PassageFilter(document_ids=frozenset({mine, *(f"id {n}" for n in range(5_000))}))
    assert room.let_through(*range(1, 5_000), only=only) == {"one"}
