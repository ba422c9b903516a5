"""Requests that come twice under one `Idempotency-Key`: at the intake on both databases, then over the API."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from calls import ingest
from conftest import finished
from fastapi.testclient import TestClient
from plans import plan_of
from rooms import TENANT, Room
from sqlalchemy import func, select, update
from test_db_publication import in_threads

from rag_service.db.tables import idempotency_keys, jobs
from rag_service.errors import InvalidInput, KeyReused, UnsupportedType
from rag_service.intake import Incoming, Receipt


def receive(room: Room, key: str | None, *contents: str, tenant: str = TENANT, kb: str | None = None) -> Receipt:
    files = [Incoming(f"{n}.txt", None, io.BytesIO(c.encode())) for n, c in enumerate(contents)]
    return room.storage.intake.receive(tenant, kb or room.kb, files, key)


def count_jobs(room: Room) -> int:
    with room.storage.database.read() as connection:
        return connection.scalar(select(func.count()).select_from(jobs)) or 0


def test_the_same_request_again_gets_the_same_receipt_and_does_nothing(room: Room) -> None:
    first = receive(room, "key", "a", "", "b")
    room.ready("c")
    again = receive(room, "key", "a", "", "b")
    assert (again.job_id, again.entries, again.replayed, first.replayed) == (first.job_id, first.entries, True, False)
    assert [entry.problem is None for entry in again.entries] == [True, False, True]
    assert count_jobs(room) == 2


def test_a_replay_tells_what_was_answered_whatever_became_of_it(room: Room) -> None:
    first = receive(room, "key", "a")
    [registered] = [entry.registered for entry in first.entries if entry.registered]
    room.storage.delete_document(TENANT, registered.document_id)
    assert receive(room, "key", "a").entries == first.entries
    assert list(room.storage.blobs.all()) == []
    assert room.claim(limit=9) == []


@pytest.mark.parametrize("contents", [("b",), ("a", "a"), ()])
def test_a_key_is_for_one_request(room: Room, contents: tuple[str, ...]) -> None:
    receive(room, "key", "a")
    with pytest.raises(KeyReused):
        receive(room, "key", *contents)
    assert room.differences() == []


def test_a_key_is_for_one_target_and_one_set_of_names(room: Room) -> None:
    receive(room, "key", "a")
    other = room.storage.knowledge_bases.create(TENANT, "other").id
    with pytest.raises(KeyReused):
        receive(room, "key", "a", kb=other)
    with pytest.raises(KeyReused):
        room.storage.intake.receive(TENANT, room.kb, [Incoming("b.txt", None, io.BytesIO(b"a"))], "key")


def test_tenants_do_not_share_keys(room: Room) -> None:
    receive(room, "key", "a")
    theirs = room.storage.knowledge_bases.create("other", "theirs").id
    assert not receive(room, "key", "b", tenant="other", kb=theirs).replayed


def test_a_key_is_forgotten_after_a_day(room: Room) -> None:
    receive(room, "key", "a")
    with room.storage.database.write() as connection:
        connection.execute(update(idempotency_keys).values(created_at=idempotency_keys.c.created_at - 90_000))
    assert not receive(room, "key", "b").replayed
    with room.storage.database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(idempotency_keys)) == 1


def test_old_keys_are_found_through_an_index(room: Room) -> None:
    plan = plan_of(room, "DELETE FROM idempotency_keys", lambda: receive(room, "key", "a"), few_rows=True)
    assert "ix_idempotency_keys_created_at" in plan


def test_of_requests_at_once_one_is_done_and_the_others_get_its_receipt(room: Room) -> None:
    for number in range(5):
        receipts: list[Receipt] = []
        before = count_jobs(room)

        def work(number: int = number, receipts: list[Receipt] = receipts) -> None:
            receipts.append(receive(room, f"key {number}", f"content {number}"))

        assert in_threads(*[work] * 4) == []
        assert len({receipt.job_id for receipt in receipts}) == 1
        assert len({receipt.entries for receipt in receipts}) == 1
        assert [receipt.replayed for receipt in receipts].count(False) == 1
        assert count_jobs(room) == before + 1
    assert room.differences() == []


def test_of_different_requests_at_once_under_one_key_one_is_done(room: Room) -> None:
    for number in range(5):
        works: list[Callable[[], object]] = [
            lambda n=number, k=k: receive(room, f"key {n}", f"content {n} {k}") for k in range(3)
        ]
        assert [type(error) for error in in_threads(*works)] == [KeyReused] * 2
    assert len(room.claim(limit=9)) == 5
    assert room.differences() == []


def test_what_was_refused_altogether_may_come_mended_under_the_same_key(room: Room) -> None:
    assert receive(room, "key", "").entries[0].problem is not None
    assert receive(room, "key", "mended").entries[0].registered is not None


def test_a_new_version_is_made_once(room: Room) -> None:
    [document_id] = room.ready("old")
    etag = room.storage.documents.get(TENANT, document_id).etag

    def put(content: bytes) -> Receipt:
        file = Incoming("new.txt", None, io.BytesIO(content))
        return room.storage.intake.replace(TENANT, document_id, file, etag, "key")

    first, again = put(b"new"), put(b"new")
    assert (again.job_id, again.entries, again.replayed) == (first.job_id, first.entries, True)
    with pytest.raises(KeyReused):
        put(b"newer")
    assert len(room.claim(limit=9)) == 1
    assert room.differences() == []


def test_an_archive_is_no_new_version_of_a_document(room: Room) -> None:
    [document_id] = room.ready("old")
    with pytest.raises(UnsupportedType):
        room.storage.intake.replace(
            TENANT, document_id, Incoming("a.zip", None, io.BytesIO(b"PK\x05\x06" + b"\0" * 18)), None
        )


@pytest.mark.parametrize("key", ["", "k" * 201, "tab\tkey", "bell\x07"])
def test_a_key_that_cannot_be_one_is_refused(room: Room, key: str) -> None:
    with pytest.raises(InvalidInput):
        receive(room, key, "a")


def send(client: TestClient, kb: str, key: str, content: str, name: str = "a.txt") -> Any:
    files = [("files", (name, content.encode(), "text/plain"))]
    return client.post(f"/v1/knowledge-bases/{kb}/documents", files=files, headers={"Idempotency-Key": key})


def test_an_upload_sent_again_is_answered_again(client: TestClient, kb: str) -> None:
    key = uuid.uuid4().hex
    first = send(client, kb, key, f"Sent twice {kb}.")
    finished(client, first.json()["job_id"])
    again = send(client, kb, key, f"Sent twice {kb}.")

    assert (again.status_code, again.json()) == (first.status_code, first.json()) == (202, first.json())
    assert (first.headers.get("Idempotent-Replayed"), again.headers["Idempotent-Replayed"]) == (None, "true")
    assert again.json()["items"][0]["status"] == "queued"


def test_another_upload_under_the_same_key_is_refused(client: TestClient, kb: str) -> None:
    key = uuid.uuid4().hex
    send(client, kb, key, f"First {kb}.")

    response = send(client, kb, key, f"Second {kb}.")

    assert response.status_code == 409
    assert response.json()["type"] == "urn:youju:problem:idempotency-key-reused"


def test_a_text_sent_again_is_answered_again(client: TestClient, kb: str) -> None:
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    body = {"title": "Note", "text": f"A note {kb}."}
    first = client.post(f"/v1/knowledge-bases/{kb}/texts", json=body, headers=headers)
    again = client.post(f"/v1/knowledge-bases/{kb}/texts", json=body, headers=headers)
    other = client.post(f"/v1/knowledge-bases/{kb}/texts", json={**body, "title": "Other"}, headers=headers)

    assert again.json() == first.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    assert other.status_code == 409


def test_a_new_version_sent_again_is_answered_again_though_its_etag_is_an_old_one(client: TestClient, kb: str) -> None:
    document = ingest(client, kb, {"a.txt": f"Old {kb}."})["a.txt"]
    headers = {"Idempotency-Key": uuid.uuid4().hex, "If-Match": client.get(f"/v1/documents/{document}").headers["ETag"]}

    def put() -> Any:
        files = {"file": ("a.txt", f"New {kb}.".encode())}
        return client.put(f"/v1/documents/{document}/content", files=files, headers=headers)

    first = put()
    finished(client, first.json()["job_id"])
    again = put()

    assert (again.status_code, again.json(), again.headers["ETag"]) == (202, first.json(), first.headers["ETag"])
    assert again.headers["Idempotent-Replayed"] == "true"
    assert client.get(f"/v1/documents/{document}").json()["version"] == 2


@pytest.mark.parametrize("key", ["", "k" * 201])
def test_a_key_too_short_or_too_long_is_refused(client: TestClient, kb: str, key: str) -> None:
    assert send(client, kb, key, "Content.").status_code == 422
