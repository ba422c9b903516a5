"""Keys and tenants: who gets in, before anything is read, and that nobody sees what is another's."""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from calls import ask, ingest, upload
from conftest import Served
from contract import Contract, check_problem
from fastapi import FastAPI
from fastapi.testclient import TestClient

from rag_service.api.app import create_app
from rag_service.bootstrap import Service

UNKNOWN = "01a20992-be13-75da-a3ba-65bc64a14fa7"


@pytest.fixture(scope="module")
def guarded(running: Service) -> FastAPI:
    return create_app(running, auth=True)


@pytest.fixture(scope="module")
def nobody(guarded: FastAPI) -> Iterator[TestClient]:
    """Without a key."""
    with TestClient(guarded) as client:
        Contract.watch(client)
        yield client


def keyed(guarded: FastAPI, running: Service, tenant: str) -> TestClient:
    _, key = running.storage.keys.create(tenant, "test")
    client = TestClient(guarded, headers={"Authorization": f"Bearer {key}"})
    Contract.watch(client)
    return client


SECRET = "The secret of the red tenant is forty-two."


@dataclass(frozen=True)
class Household:
    """A tenant with one of everything."""

    client: TestClient
    ids: dict[str, str]


@pytest.fixture(scope="module")
def red(guarded: FastAPI, running: Service) -> Household:
    client = keyed(guarded, running, "red")
    kb = client.post("/v1/knowledge-bases", json={"name": "shared name"}).json()["id"]
    document = ingest(client, kb, {"secret.txt": SECRET})["secret.txt"]
    job = upload(client, kb, {"secret.txt": SECRET.encode()}).json()["job_id"]
    answer = ask(client, kb, "What is the secret of the red tenant?")
    assert answer["outcome"] == "answered"
    asked = {"knowledge_base_ids": [kb], "questions": [{"id": "1", "text": "What is the secret?"}]}
    run = client.post("/v1/eval-runs", json=asked).json()["id"]
    ids = {"kb": kb, "document": document, "job": job, "answer": answer["id"], "run": run}
    return Household(client, ids | {"conversation": answer["conversation_id"]})


@pytest.fixture(scope="module")
def blue(guarded: FastAPI, running: Service) -> TestClient:
    return keyed(guarded, running, "blue")


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Bearer yj_wrong", "Basic dTpw", "yj_", "Bearer \xff", "Bearer " + "x" * 9_000],
    ids=lambda value: repr(value)[:20],
)
def test_without_a_good_key_nobody_gets_in(nobody: TestClient, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization.encode("latin-1")}

    response = nobody.get("/v1/knowledge-bases", headers=headers)

    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    check_problem(response)


def test_every_operation_under_v1_needs_a_key(nobody: TestClient) -> None:
    paths = nobody.get("/openapi.json").json()["paths"]

    for path, operations in paths.items():
        for method in operations:
            status = nobody.request(method, re.sub(r"\{\w+\}", UNKNOWN, path)).status_code
            assert (status == 401) == path.startswith("/v1"), (method, path, status)
    assert nobody.get("/v1/not-a-route").status_code == 401
    assert nobody.get("/%761/knowledge-bases").status_code == 401


def test_pages_and_health_need_no_key(nobody: TestClient) -> None:
    assert [nobody.get(path).status_code for path in ("/", "/docs", "/openapi.json", "/healthz", "/readyz")] == [
        200
    ] * 5


def test_a_key_works_until_it_is_revoked(nobody: TestClient, running: Service) -> None:
    key_id, key = running.storage.keys.create("green", "test")
    headers = {"Authorization": f"Bearer {key}"}
    assert nobody.get("/v1/knowledge-bases", headers=headers).status_code == 200
    assert nobody.get("/v1/knowledge-bases", headers={"Authorization": f"bEARER  {key} "}).status_code == 200

    running.storage.keys.revoke(key_id)

    revoked, unknown = (
        nobody.get("/v1/knowledge-bases", headers=h).json() for h in (headers, {"Authorization": "Bearer yj_unknown"})
    )
    assert revoked["status"] == 401
    assert revoked | {"instance": ""} == unknown | {"instance": ""}


def test_a_key_anywhere_but_in_the_header_is_no_key(nobody: TestClient, running: Service) -> None:
    _, key = running.storage.keys.create("green", "test")

    assert nobody.get(f"/v1/knowledge-bases?api_key={key}&access_token={key}").status_code == 401
    assert nobody.get("/v1/knowledge-bases", headers={"Cookie": f"Authorization={key}"}).status_code == 401


# Every operation that takes an id, in its path or in its body.
TAKING_IDS: dict[str, tuple[str, dict[str, Any] | None]] = {
    "GET /v1/knowledge-bases/{kb}": ("kb", None),
    "PATCH /v1/knowledge-bases/{kb}": ("kb", {"description": "mine now"}),
    "DELETE /v1/knowledge-bases/{kb}": ("kb", None),
    "GET /v1/knowledge-bases/{kb}/documents": ("kb", None),
    "POST /v1/knowledge-bases/{kb}/documents": ("kb", None),
    "POST /v1/knowledge-bases/{kb}/texts": ("kb", {"title": "t", "text": "planted"}),
    "POST /v1/knowledge-bases/{kb}/sync": ("kb", {"files": []}),
    "POST /v1/knowledge-bases/{kb}/embedder": ("kb", {"embedder": "use-multilingual-onnx"}),
    "GET /v1/documents/{document}": ("document", None),
    "DELETE /v1/documents/{document}": ("document", None),
    "GET /v1/documents/{document}/text": ("document", None),
    "GET /v1/documents/{document}/chunks": ("document", None),
    "GET /v1/documents/{document}/content": ("document", None),
    "PUT /v1/documents/{document}/content": ("document", None),
    "GET /v1/jobs/{job}": ("job", None),
    "GET /v1/jobs/{job}/events": ("job", None),
    "DELETE /v1/jobs/{job}": ("job", None),
    "POST /v1/jobs/{job}/retry": ("job", None),
    "GET /v1/answers/{answer}": ("answer", None),
    "GET /v1/answers/{answer}/packing": ("answer", None),
    "POST /v1/answers/{answer}/replay": ("answer", {}),
    "PUT /v1/answers/{answer}/feedback": ("answer", {"rating": 1}),
    "GET /v1/models/{model}": ("kb", None),
    "GET /v1/conversations/{conversation}": ("conversation", None),
    "DELETE /v1/conversations/{conversation}": ("conversation", None),
    "GET /v1/conversations/{conversation}/messages": ("conversation", None),
    "GET /v1/eval-runs/{run}": ("run", None),
    "GET /v1/eval-runs/{run}/compare": ("run", None),
    "POST /v1/eval-runs": (
        "kb",
        {"knowledge_base_ids": ["{kb}"], "questions": [{"id": "1", "text": "What is the secret?"}]},
    ),
    "POST /v1/retrieve": ("kb", {"query": "secret", "knowledge_base_ids": ["{kb}"]}),
    "POST /v1/answers": ("kb", {"query": "secret", "knowledge_base_ids": ["{kb}"]}),
    "POST /v1/pack": ("kb", {"query": "secret", "knowledge_base_ids": ["{kb}"]}),
    "POST /v1/chat/completions": ("kb", {"messages": [{"role": "user", "content": "secret"}], "model": "{kb}"}),
    "POST /v1/conversations": ("kb", {"knowledge_base_ids": ["{kb}"]}),
}


def call(client: TestClient, operation: str, name: str, value: str, body: dict[str, Any] | None) -> Any:
    method, path = operation.split(" ")
    mine = {f"{{{name}}}": value}
    filled = None if body is None else {
        k: [mine.get(v[0], v[0])] if isinstance(v, list) and v and isinstance(v[0], str) else mine.get(str(v), v)
        for k, v in body.items()
    }  # fmt: skip
    if path.endswith("/compare"):
        return client.get(path.replace("{run}", value), params={"to": value})
    if path.endswith("/documents") and method == "POST":
        return client.post(path.replace("{kb}", value), files={"files": ("a.txt", b"planted")})
    if method == "PUT" and path.endswith("/content"):
        # Not even with the right version in hand.
        current = {"If-Match": f'"{hashlib.sha256(SECRET.encode()).hexdigest()}"'}
        path = path.replace("{document}", value)
        return client.put(path, files={"file": ("a.txt", b"planted")}, headers=current)
    return client.request(method, re.sub(r"\{\w+\}", value, path), json=filled)


@pytest.mark.parametrize("operation", TAKING_IDS)
def test_a_foreign_id_answers_exactly_like_a_random_one(red: Household, blue: TestClient, operation: str) -> None:
    name, body = TAKING_IDS[operation]

    foreign = call(blue, operation, name, red.ids[name], body)
    random = call(blue, operation, name, UNKNOWN, body)

    assert (foreign.status_code, random.status_code) == (404, 404)
    assert foreign.json() | {"instance": ""} == _with(random.json() | {"instance": ""}, UNKNOWN, red.ids[name])
    assert _kinds_of_header(foreign) == _kinds_of_header(random)
    # And it left no trace where it pointed to.
    assert red.client.get(f"/v1/documents/{red.ids['document']}").json()["state"] == "ready"
    assert red.client.get(f"/v1/conversations/{red.ids['conversation']}").status_code == 200
    assert red.client.get(f"/v1/knowledge-bases/{red.ids['kb']}").json()["documents"] == 1


def _with(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {name: _with(member, old, new) for name, member in value.items()}
    if isinstance(value, list):
        return [_with(member, old, new) for member in value]
    return value.replace(old, new) if isinstance(value, str) else value


def _kinds_of_header(response: Any) -> set[str]:
    return {name.lower() for name in response.headers}


def test_the_operations_above_are_all_that_take_an_id(nobody: TestClient) -> None:
    document = nobody.get("/openapi.json").json()
    in_path = {
        f"{method.upper()} {path}"
        for path, operations in document["paths"].items()
        for method in operations
        if "{" in path
    }
    in_body = {f"POST /v1/{path}" for path in ("retrieve", "pack", "answers", "conversations", "chat/completions",
               "eval-runs")}  # fmt: skip

    assert set(TAKING_IDS) == in_path | in_body


def test_a_foreign_conversation_cannot_be_continued(red: Household, blue: TestClient) -> None:
    kb = blue.post("/v1/knowledge-bases", json={"name": uuid.uuid4().hex}).json()["id"]
    body = {"query": "x", "knowledge_base_ids": [kb]}

    foreign, random = (
        blue.post("/v1/answers", json=body | {"conversation_id": i}) for i in (red.ids["conversation"], UNKNOWN)
    )

    assert (foreign.status_code, random.status_code) == (404, 404)
    assert len(red.client.get(f"/v1/conversations/{red.ids['conversation']}/messages").json()["items"]) == 2


def test_a_foreign_knowledge_base_cannot_hide_among_ones_own(red: Household, blue: TestClient) -> None:
    kb = blue.post("/v1/knowledge-bases", json={"name": uuid.uuid4().hex}).json()["id"]
    body = {"query": "secret", "knowledge_base_ids": [kb, red.ids["kb"]]}

    for path in ("retrieve", "answers"):
        response = blue.post(f"/v1/{path}", json=body)
        assert response.status_code == 404
        assert response.json()["knowledge_base_ids"] == [red.ids["kb"]]


def test_a_filter_on_a_foreign_document_finds_nothing(red: Household, blue: TestClient) -> None:
    kb = blue.post("/v1/knowledge-bases", json={"name": uuid.uuid4().hex}).json()["id"]
    ingest(blue, kb, {"own.txt": "The secret of the blue tenant."})
    body = {"query": "secret", "knowledge_base_ids": [kb], "filters": {"document_ids": [red.ids["document"]]}}

    assert blue.post("/v1/retrieve", json=body).json()["passages"] == []


def test_lists_show_only_ones_own(red: Household, blue: TestClient, guarded: FastAPI, running: Service) -> None:
    newcomer = keyed(guarded, running, f"newcomer-{uuid.uuid4()}")

    assert newcomer.get("/v1/knowledge-bases").json()["items"] == []
    assert newcomer.get("/v1/conversations").json()["items"] == []
    assert newcomer.post("/v1/knowledge-bases", json={"name": "shared name"}).status_code == 201


def test_the_same_bytes_of_two_tenants_are_two_documents(red: Household, blue: TestClient) -> None:
    kb = blue.post("/v1/knowledge-bases", json={"name": uuid.uuid4().hex}).json()["id"]

    item = upload(blue, kb, {"secret.txt": b"The secret of the red tenant is forty-two."}).json()["items"][0]

    assert item["status"] == "queued"
    assert item["document_id"] != red.ids["document"]
    assert blue.delete(f"/v1/documents/{item['document_id']}").status_code == 204
    assert red.client.get(f"/v1/documents/{red.ids['document']}/content").status_code == 200


def test_without_a_key_the_body_is_not_even_asked_for(guarded: FastAPI) -> None:
    sent: list[Any] = []
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "query_string": b"",
        "path": f"/v1/knowledge-bases/{UNKNOWN}/documents", "raw_path": b"", "root_path": "", "scheme": "http",
        "headers": [(b"content-type", b"multipart/form-data; boundary=b"), (b"content-length", b"50000000")],
    }  # fmt: skip

    async def receive() -> Any:
        raise AssertionError("the body was asked for")

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(guarded(scope, receive, send))

    assert sent[0]["status"] == 401


def test_an_upload_without_a_key_is_refused_before_it_is_sent(serve: Callable[..., Served]) -> None:
    served = serve("--workers", "0", no_auth=False)
    head = (
        f"POST /v1/knowledge-bases/{UNKNOWN}/documents HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nExpect: 100-continue\r\n\r\n"
    )

    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        connection.sendall(head.encode())
        answer = connection.recv(65_536)

    # Not "100 Continue": the service never wanted the body.
    assert answer.startswith(b"HTTP/1.1 401 ")
