"""Knowledge bases over the API: made, listed, changed, deleted."""

from __future__ import annotations

import uuid

import pytest
from calls import ask, ingest, retrieve, upload
from conftest import finished, wait_until
from fastapi.testclient import TestClient

from rag_service.bootstrap import Service
from rag_service.verify import differences


def test_a_new_knowledge_base_is_empty_and_can_be_read_back(client: TestClient) -> None:
    name = f"手册 {uuid.uuid4()}"

    response = client.post("/v1/knowledge-bases", json={"name": f"  {name}\n", "description": "两种语言"})

    assert response.status_code == 201
    made = response.json()
    assert (made["name"], made["description"]) == (name, "两种语言")
    assert (made["revision"], made["documents"], made["chunks"]) == (0, 0, 0)
    assert client.get(f"/v1/knowledge-bases/{made['id']}").json() == made


def test_a_name_belongs_to_one_knowledge_base(client: TestClient, kb: str) -> None:
    taken = client.get(f"/v1/knowledge-bases/{kb}").json()["name"]
    other = client.post("/v1/knowledge-bases", json={"name": uuid.uuid4().hex}).json()["id"]

    again = client.post("/v1/knowledge-bases", json={"name": taken})
    renamed = client.patch(f"/v1/knowledge-bases/{other}", json={"name": taken})

    assert (again.status_code, renamed.status_code) == (409, 409)
    assert again.json()["type"] == renamed.json()["type"] == "urn:youju:problem:name-taken"


def test_a_change_touches_only_what_it_names(client: TestClient, kb: str) -> None:
    name = uuid.uuid4().hex

    described = client.patch(f"/v1/knowledge-bases/{kb}", json={"description": "new"}).json()
    renamed = client.patch(f"/v1/knowledge-bases/{kb}", json={"name": name}).json()

    assert described["description"] == renamed["description"] == "new"
    assert renamed["name"] == name
    assert client.patch(f"/v1/knowledge-bases/{kb}", json={}).json() == renamed


def test_pages_show_every_knowledge_base_once(client: TestClient) -> None:
    made = {client.post("/v1/knowledge-bases", json={"name": uuid.uuid4().hex}).json()["id"] for _ in range(5)}

    seen: list[str] = []
    cursor = None
    while True:
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = client.get("/v1/knowledge-bases", params=params).json()
        assert len(page["items"]) <= 2
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert len(seen) == len(set(seen))
    assert made <= set(seen)


def test_documents_and_chunks_are_counted_and_raise_the_revision(client: TestClient, kb: str) -> None:
    documents = ingest(client, kb, {"a.txt": "The first document.", "b.txt": "The second document."})
    full = client.get(f"/v1/knowledge-bases/{kb}").json()
    client.delete(f"/v1/documents/{documents['a.txt']}")
    less = client.get(f"/v1/knowledge-bases/{kb}").json()

    assert (full["documents"], full["chunks"]) == (2, 2)
    assert (less["documents"], less["chunks"]) == (1, 1)
    assert 0 < full["revision"] < less["revision"]


def test_a_deleted_knowledge_base_takes_everything_with_it(client: TestClient, running: Service, kb: str) -> None:
    accepted = upload(client, kb, {"a.txt": f"Only here: {uuid.uuid4()}.".encode()}).json()
    finished(client, accepted["job_id"])
    document, sha256 = accepted["items"][0]["document_id"], accepted["items"][0]["sha256"]
    retrieve(client, kb, "Only here?")

    assert client.delete(f"/v1/knowledge-bases/{kb}").status_code == 204

    gone = [f"knowledge-bases/{kb}", f"knowledge-bases/{kb}/documents", f"documents/{document}"]
    gone += [f"documents/{document}/{part}" for part in ("text", "chunks", "content")] + [f"jobs/{accepted['job_id']}"]
    assert {path: client.get(f"/v1/{path}").status_code for path in gone} == dict.fromkeys(gone, 404)
    for path in ("retrieve", "answers"):
        assert client.post(f"/v1/{path}", json={"query": "x", "knowledge_base_ids": [kb]}).status_code == 404
    assert not running.storage.blobs.exists(sha256)
    assert list(differences(running.storage, deep=True)) == []


def test_an_answer_outlives_the_knowledge_base_it_came_from(client: TestClient, kb: str) -> None:
    ingest(client, kb, {"a.txt": "The warranty of the router lasts two years."})
    answer = ask(client, kb, "How long does the warranty of the router last?")

    client.delete(f"/v1/knowledge-bases/{kb}")

    assert client.get(f"/v1/answers/{answer['id']}").json() == answer


def test_a_knowledge_base_deleted_during_ingestion_leaves_nothing(client: TestClient, running: Service) -> None:
    for round_ in range(3):
        kb = client.post("/v1/knowledge-bases", json={"name": uuid.uuid4().hex}).json()["id"]
        files = {f"{n}.txt": f"Text {n} of round {round_}: {uuid.uuid4()}. ".encode() * 50 for n in range(10)}
        job = upload(client, kb, files).json()["job_id"]
        wait_until(lambda job=job: client.get(f"/v1/jobs/{job}").json()["state"] == "running")
        assert client.delete(f"/v1/knowledge-bases/{kb}").status_code == 204
        assert client.get(f"/v1/jobs/{job}").status_code == 404

    kb = client.post("/v1/knowledge-bases", json={"name": uuid.uuid4().hex}).json()["id"]
    ingest(client, kb, {"after.txt": "The worker is still at work."})
    wait_until(lambda: list(differences(running.storage, deep=True)) == [], 10)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": " \n "},
        {"name": "x" * 201},
        {"name": None},
        {"name": 7},
        {"name": "x", "colour": "red"},
        {"name": "x", "description": "d" * 10_001},
        [],
        None,
    ],
    ids=lambda body: repr(body)[:30],
)
def test_a_knowledge_base_that_makes_no_sense_is_not_made(client: TestClient, body: object) -> None:
    assert client.post("/v1/knowledge-bases", json=body).status_code == 422


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "limit=-1", "limit=x", "limit=" + "9" * 30, "cursor=" + "z" * 65, "cursor=", "cursor=%00"],
)
def test_a_page_that_makes_no_sense_is_refused(client: TestClient, kb: str, query: str) -> None:
    for path in ("knowledge-bases", f"knowledge-bases/{kb}/documents", "conversations"):
        assert client.get(f"/v1/{path}?{query}").status_code == 422
