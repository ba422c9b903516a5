"""Documents and their bytes, on SQLite and on PostgreSQL."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from rooms import PROBLEM, TENANT, Room
from test_db_publication import in_threads

from rag_service.db.registration import Upload
from rag_service.errors import BlobMissing, NotFound
from rag_service.intake import Incoming


def accept(room: Room, *contents: str, kb: str | None = None) -> list[str]:
    """Document ids, through the real intake."""
    files = [Incoming(f"{n}.txt", None, io.BytesIO(c.encode())) for n, c in enumerate(contents)]
    _, accepted = room.storage.intake.accept(TENANT, kb or room.kb, files)
    return [entry.registered.document_id for entry in accepted if entry.registered]


def other_kb(room: Room) -> str:
    return room.storage.knowledge_bases.create(TENANT, "other").id


def test_the_same_bytes_are_one_document_of_a_knowledge_base(room: Room) -> None:
    [first] = accept(room, "same")
    assert accept(room, "same", "new", "same")[0::2] == [first, first]
    [elsewhere] = accept(room, "same", kb=other_kb(room))
    assert elsewhere != first


def test_the_same_bytes_uploaded_at_once_are_still_one_document(room: Room) -> None:
    found: list[str] = []
    works: list[Callable[[], object]] = [lambda: found.extend(accept(room, "a", "b")) for _ in range(6)]
    assert in_threads(*works) == []
    assert len(set(found)) == 2
    assert room.differences() == []


def test_deleted_bytes_can_come_again_as_a_new_document(room: Room) -> None:
    [first] = room.ready("text")
    room.storage.delete_document(TENANT, first)
    [second] = room.ready("text")
    assert second != first
    assert room.let_through() == {"text"}


def test_a_foreign_document_is_like_one_that_never_was(room: Room) -> None:
    [mine] = room.ready("mine")
    documents = room.storage.documents
    messages = []
    for tenant, document_id in (("other", mine), (TENANT, "no such id")):
        for call in (
            lambda t=tenant, d=document_id: documents.get(t, d),
            lambda t=tenant, d=document_id: documents.text(t, d, 0, None),
            lambda t=tenant, d=document_id: documents.chunks(t, d, 10, None),
            lambda t=tenant, d=document_id: documents.delete(t, d),
        ):
            with pytest.raises(NotFound) as raised:
                call()
            messages.append(raised.value.detail)
    assert len(set(messages)) == 1
    with pytest.raises(NotFound):
        documents.browse("other", room.kb, None, 10, None)
    with pytest.raises(NotFound):
        documents.register("other", room.kb, [], room.storage.blobs.exists)
    assert room.let_through() == {"mine"}


def test_a_deleted_document_cannot_be_seen_in_any_way(room: Room) -> None:
    [document_id] = room.ready("secret text")
    room.storage.delete_document(TENANT, document_id)
    documents = room.storage.documents
    with pytest.raises(NotFound):
        documents.get(TENANT, document_id)
    with pytest.raises(NotFound):
        documents.text(TENANT, document_id, 0, None)
    with pytest.raises(NotFound):
        documents.chunks(TENANT, document_id, 10, None)
    with pytest.raises(NotFound):
        room.storage.delete_document(TENANT, document_id)
    assert documents.browse(TENANT, room.kb, None, 10, None).items == ()
    assert (room.let_through(), room.live_chunks()) == (set(), {})


def test_deletion_erases_text_and_vectors_not_only_hides_them(room: Room) -> None:
    [document_id] = room.ready("secret text")
    room.storage.delete_document(TENANT, document_id)
    with room.storage.database.read() as connection:
        for table in ("document_versions", "chunks", "vectors"):
            rows = connection.exec_driver_sql(f"SELECT * FROM {table}").all()
            assert "secret" not in str(rows)
    assert room.storage.documents.blobs_in_use() == {}
    assert list(room.storage.blobs.all()) == []


def test_a_document_that_waits_or_failed_can_be_deleted(room: Room) -> None:
    _, [waiting, failed] = room.upload("a", "b")
    claims = room.claim(limit=2)
    room.storage.jobs.release(claims[:1])
    room.storage.jobs.fail(claims[1], PROBLEM)
    room.storage.delete_document(TENANT, waiting)
    room.storage.delete_document(TENANT, failed)
    assert room.claim() == []
    assert room.differences() == []


def test_bytes_shared_by_two_documents_stay_until_the_last_is_deleted(room: Room) -> None:
    [first] = room.ready("shared")
    [second] = room.ready("shared", kb=other_kb(room))
    sha256 = room.storage.documents.get(TENANT, first).sha256
    room.storage.delete_document(TENANT, first)
    assert room.storage.blobs.is_intact(sha256)
    room.storage.delete_document(TENANT, second)
    assert not room.storage.blobs.exists(sha256)
    assert room.differences() == []


def test_deleting_a_knowledge_base_spares_what_others_share(room: Room) -> None:
    room.ready("shared", "alone")
    other = other_kb(room)
    [kept] = room.ready("shared", kb=other)
    room.storage.delete_knowledge_base(TENANT, room.kb)
    assert room.let_through(kb=other) == {"shared"}
    assert list(room.storage.blobs.all()) == [room.storage.documents.get(TENANT, kept).sha256]
    assert room.differences() == []


def test_registering_bytes_that_are_gone_says_so_and_registers_nothing(room: Room) -> None:
    with pytest.raises(BlobMissing):
        room.storage.documents.register(
            TENANT, room.kb, [Upload("a.txt", "text/plain", "0" * 64, 1)], room.storage.blobs.exists
        )
    assert room.storage.documents.browse(TENANT, room.kb, None, 10, None).items == ()


def test_an_upload_that_finds_its_bytes_collected_puts_them_again(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    register, blobs = room.storage.documents.register, room.storage.blobs
    collected = []

    def collect_first(tenant: str, kb: str, uploads: list[Upload], *rest: Any, **named: Any) -> object:
        if len(collected) < 2:
            collected.append(uploads[0].sha256)
            room.storage.documents.collect(uploads[0].sha256, blobs.remove)
        return register(tenant, kb, uploads, *rest, **named)

    monkeypatch.setattr(room.storage.documents, "register", collect_first)
    [document_id] = accept(room, "raced")
    assert len(collected) == 2
    assert blobs.is_intact(room.storage.documents.get(TENANT, document_id).sha256)


def test_bytes_are_not_collected_between_the_check_and_the_commit_of_their_upload(room: Room) -> None:
    """The slow upload has seen its bytes and not committed; a deletion of the same bytes elsewhere must wait."""
    [doomed] = room.ready("shared", kb=other_kb(room))
    sha256 = room.storage.documents.get(TENANT, doomed).sha256
    seen, collecting = threading.Event(), threading.Event()

    def slowly(wanted: str) -> bool:
        there = room.storage.blobs.exists(wanted)
        seen.set()
        collecting.wait(10)
        time.sleep(0.2)
        return there

    def upload() -> None:
        room.storage.documents.register(TENANT, room.kb, [Upload("a.txt", "text/plain", sha256, 6)], slowly)

    def delete() -> None:
        assert seen.wait(10)
        # On SQLite the deletion itself waits for the upload; on PostgreSQL only its last step does.
        collecting.set()
        room.storage.delete_document(TENANT, doomed)

    assert in_threads(upload, delete) == []
    assert room.storage.blobs.is_intact(sha256)
    assert room.differences() == []


def test_uploads_racing_deletions_of_the_same_bytes_lose_nothing(room: Room) -> None:
    for number in range(12):
        content = f"raced {number}"
        [old] = accept(room, content)
        found: list[str] = []
        raised = in_threads(
            lambda old=old: room.storage.delete_document(TENANT, old),
            lambda content=content, found=found: found.extend(accept(room, content)),
            lambda content=content, found=found: found.extend(accept(room, content)),
        )
        assert raised == []
        live = {d.id for d in room.storage.documents.browse(TENANT, room.kb, None, 200, None).items}
        assert set(found) - {old} <= live
    assert room.differences() == []


def test_of_two_deletions_at_once_one_wins(room: Room) -> None:
    [document_id] = room.ready("text")
    works = [lambda: room.storage.documents.delete(TENANT, document_id)] * 3
    raised = in_threads(*works)
    assert [type(error) for error in raised] == [NotFound, NotFound]
    assert room.revision() == 2


def test_text_is_cut_by_characters_and_never_past_its_ends(room: Room) -> None:
    [document_id] = room.ready("𠮷a中🙂")
    text = room.storage.documents.text
    cases = [((0, None), "𠮷a中🙂"), ((1, 3), "a中"), ((3, 99), "🙂"), ((9, 12), ""), ((2, 1), "")]
    for (start, end), wanted in cases:
        found = text(TENANT, document_id, start, end)
        assert (found.text, found.total_chars) == (wanted, 4)
        assert found.char_end - found.char_start == len(wanted)


def test_a_document_without_text_yet_says_in_which_state_it_is(room: Room) -> None:
    _, [document_id] = room.upload("a")
    with pytest.raises(NotFound) as raised:
        room.storage.documents.text(TENANT, document_id, 0, None)
    assert raised.value.data["state"] == "queued"


def test_pages_lead_through_every_document_once_while_others_come_and_go(room: Room) -> None:
    _, ids = room.upload(*(f"document {n}" for n in range(7)))
    seen, cursor = [], None
    while True:
        page = room.storage.documents.browse(TENANT, room.kb, None, 3, cursor)
        seen += [document.id for document in page.items]
        if len(seen) == 3:
            room.storage.delete_document(TENANT, ids[0])
        if (cursor := page.next_cursor) is None:
            break
    assert seen == ids


def test_browsing_can_be_kept_to_a_state(room: Room) -> None:
    [ready] = room.ready("a")
    _, [queued] = room.upload("b")

    def ids(state: str) -> list[str]:
        found = room.storage.documents.browse(TENANT, room.kb, state, 10, None)  # type: ignore[arg-type]
        return [document.id for document in found.items]

    assert (ids("ready"), ids("queued"), ids("failed")) == ([ready], [queued], [])


def test_chunks_come_in_pages_in_text_order(room: Room) -> None:
    _, [document_id] = room.upload("a")
    room.publish(room.claim_one(), *(f"chunk {n}" for n in range(5)))
    first = room.storage.documents.chunks(TENANT, document_id, 3, None)
    second = room.storage.documents.chunks(TENANT, document_id, 3, first.next_cursor)
    assert [c.ordinal for c in (*first.items, *second.items)] == [0, 1, 2, 3, 4]
    assert second.next_cursor is None
