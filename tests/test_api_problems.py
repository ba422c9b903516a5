"""What holds for every answer of the API: errors, headers, what /openapi.json and /docs say, health."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from calls import ask, ingest
from contract import PROBLEM, Contract, check_problem
from fastapi.testclient import TestClient

from rag_service.api.app import create_app
from rag_service.api.middleware import Admission, Identified
from rag_service.bootstrap import Service

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/v1", 404),
        ("GET", "/v1/documents", 404),
        ("GET", "//v1/knowledge-bases", 404),
        ("GET", "/static/%2e%2e/app.py", 404),
        ("GET", "/v1/documents/..%2f..%2fetc%2fpasswd", 404),
        ("PUT", "/v1/knowledge-bases", 405),
        ("HEAD", "/v1/knowledge-bases", 405),
        ("OPTIONS", "/v1/knowledge-bases", 405),
        ("DELETE", "/v1/answers/x", 405),
    ],
)
def test_what_is_not_there_is_a_problem(client: TestClient, method: str, path: str, status: int) -> None:
    response = client.request(method, path)

    assert response.status_code == status
    check_problem(response)
    assert ("Allow" in response.headers) == (status == 405)


HOSTILE_IDS = {
    "nul": "%00",
    "not utf-8": "%ff%fe",
    "half a surrogate": "%ED%A0%80",
    "sql": "'%20OR%201=1--",
    "a path": "%2e%2e",
    "an emoji": "%F0%9F%98%80",
    "long": "x" * 5_000,
    "a number": "9" * 40,
    "a format": "%25s%25n",
    "upper case": "01A20992-BE13-75DA-A3BA-65BC64A14FA7",
}


@pytest.mark.parametrize("hostile", HOSTILE_IDS.values(), ids=HOSTILE_IDS.keys())
@pytest.mark.parametrize(
    "path",
    ["knowledge-bases/{}", "knowledge-bases/{}/documents", "documents/{}", "documents/{}/text", "documents/{}/chunks",
     "documents/{}/content", "jobs/{}", "jobs/{}/events", "answers/{}", "conversations/{}",
     "conversations/{}/messages"],
)  # fmt: skip
def test_no_id_however_odd_is_more_than_unknown(client: TestClient, path: str, hostile: str) -> None:
    assert client.get("/v1/" + path.format(hostile)).status_code == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b'{"name":', 400),
        (b'{"name": "\xff"}', 400),
        (b"[" * 100_000, 400),
        (b'{"name": "x"} {}', 400),
        (b"\x00", 400),
        (b'{"name": 1e999}', 422),
        (b'{"name": NaN}', 422),
        (b'"name"', 422),
    ],
    ids=["nothing", "cut off", "not utf-8", "deep", "two", "nul", "infinite", "nan", "no object"],
)
def test_a_malformed_body_is_refused(client: TestClient, body: bytes, status: int) -> None:
    response = client.post("/v1/knowledge-bases", content=body, headers=JSON)

    assert response.status_code == status


@pytest.mark.parametrize("bad", ["\x00", "a\x00b", "\ud800", "x\udfff"], ids=ascii)
def test_text_that_cannot_be_stored_is_refused_wherever_it_stands(client: TestClient, kb: str, bad: str) -> None:
    asked: dict[str, Any] = {"query": "x", "knowledge_base_ids": [kb]}
    document: dict[str, Any] = {"title": "t", "text": "x"}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("knowledge-bases", {"name": bad}),
        ("knowledge-bases", {"name": "never made", "description": bad}),
        ("retrieve", asked | {"query": bad}),
        ("retrieve", asked | {"knowledge_base_ids": [bad]}),
        ("retrieve", asked | {"filters": {"document_ids": [bad]}}),
        ("retrieve", asked | {"filters": {"media_types": [bad]}}),
        ("retrieve", asked | {bad: 1}),
        ("answers", asked | {"query": bad}),
        ("answers", asked | {"query": bad, "stream": True}),
        ("answers", asked | {"conversation_id": bad}),
        ("answers", asked | {"language": bad}),
        ("conversations", {"title": bad}),
        (f"knowledge-bases/{kb}/texts", document | {"title": bad}),
        (f"knowledge-bases/{kb}/texts", document | {"text": bad}),
        (f"knowledge-bases/{kb}/texts", document | {"source_uri": bad}),
    ]

    # json.dumps escapes them: the bytes that travel are plain ASCII.
    statuses = [
        client.post(f"/v1/{path}", content=json.dumps(b).encode(), headers=JSON).status_code for path, b in calls
    ]

    assert statuses == [422] * len(calls)
    assert client.patch(f"/v1/knowledge-bases/{kb}", content=json.dumps({"name": bad}), headers=JSON).status_code == 422


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", None])
def test_a_body_that_is_not_called_json_is_not_read_as_json(client: TestClient, media_type: str | None) -> None:
    headers = {} if media_type is None else {"Content-Type": media_type}

    assert client.post("/v1/knowledge-bases", content=b'{"name": "x"}', headers=headers).status_code == 422


@pytest.mark.parametrize("accept", ["application/xml", "text/html", "image/*;q=nonsense", ""])
def test_what_the_client_accepts_changes_nothing(client: TestClient, accept: str) -> None:
    assert client.get("/v1/knowledge-bases", headers={"Accept": accept}).headers["Content-Type"] == "application/json"
    assert client.get("/v1/jobs/unknown", headers={"Accept": accept}).headers["Content-Type"] == PROBLEM


def test_a_fault_nobody_foresaw_is_a_problem_that_tells_nothing_of_the_inside(
    client: TestClient, running: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("secret: /srv/data")

    monkeypatch.setattr(type(running.storage.knowledge_bases), "browse", fail)

    response = client.get("/v1/knowledge-bases")

    assert response.status_code == 500
    assert "secret" not in response.text
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.json()["instance"] in caplog.text
    assert "secret: /srv/data" in caplog.text


def test_two_requests_never_have_the_same_id(client: TestClient) -> None:
    ids = [client.get("/healthz").headers["X-Request-Id"] for _ in range(20)]

    assert len(set(ids)) == 20


def test_a_full_service_says_when_to_come_back() -> None:
    async def never(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("a question came through")

    response = TestClient(Identified(Admission(never, most=0))).post("/v1/answers", json={})

    assert response.status_code == 503
    assert check_problem(response)["type"] == "urn:youju:problem:overloaded"
    assert int(response.headers["Retry-After"]) >= 1


def test_questions_that_have_ended_make_room_for_others(running: Service) -> None:
    settings = running.storage.settings.model_copy(update={"max_concurrent_questions": 1})
    narrow = replace(running, storage=replace(running.storage, settings=settings))
    one_at_a_time = TestClient(create_app(narrow, auth=False))

    body = {"query": "x", "knowledge_base_ids": ["unknown"]}
    assert [one_at_a_time.post("/v1/answers", json=body).status_code for _ in range(3)] == [404] * 3


def test_the_process_lives_and_every_dependency_is_ready(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz")
    assert ready.status_code == 200
    dependencies = ["sql", "blobs", "index", "tokenizer", "embedder", "generator", "worker"]
    assert ready.json() == dict.fromkeys(dependencies, "ok")


def test_a_dependency_that_fails_makes_the_service_unready_and_is_named(
    client: TestClient, running: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object) -> float:
        raise RuntimeError("file is not a database")

    monkeypatch.setattr(type(running.storage.jobs), "seconds_since_heartbeat", fail)

    response = client.get("/readyz")

    assert response.status_code == 503
    assert {name for name, state in response.json().items() if state != "ok"} == {"worker"}
    assert client.get("/healthz").status_code == 200


def test_openapi_describes_every_operation_and_no_more(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]

    described = {f"{method.upper()} {path}" for path, operations in paths.items() for method in operations}
    assert described == {
        "GET /healthz", "GET /readyz",
        "POST /v1/pack", "GET /v1/answers/{answer}/packing", "POST /v1/answers/{answer}/replay",
        "PUT /v1/answers/{answer}/feedback", "GET /v1/unanswered",
        "GET /v1/models", "GET /v1/models/{model}", "POST /v1/chat/completions",
        "GET /v1/knowledge-bases", "POST /v1/knowledge-bases", "GET /v1/knowledge-bases/{kb}",
        "PATCH /v1/knowledge-bases/{kb}", "DELETE /v1/knowledge-bases/{kb}",
        "GET /v1/knowledge-bases/{kb}/documents", "POST /v1/knowledge-bases/{kb}/documents",
        "POST /v1/knowledge-bases/{kb}/texts", "POST /v1/knowledge-bases/{kb}/sync",
        "POST /v1/knowledge-bases/{kb}/embedder",
        "POST /v1/eval-runs", "GET /v1/eval-runs", "GET /v1/eval-runs/{run}", "GET /v1/eval-runs/{run}/compare",
        "GET /v1/documents/{document}", "DELETE /v1/documents/{document}", "GET /v1/documents/{document}/text",
        "GET /v1/documents/{document}/chunks", "GET /v1/documents/{document}/content",
        "PUT /v1/documents/{document}/content",
        "GET /v1/jobs/{job}", "GET /v1/jobs/{job}/events", "DELETE /v1/jobs/{job}", "POST /v1/jobs/{job}/retry",
        "POST /v1/retrieve", "POST /v1/answers", "GET /v1/answers/{answer}",
        "GET /v1/conversations", "POST /v1/conversations", "GET /v1/conversations/{conversation}",
        "DELETE /v1/conversations/{conversation}", "GET /v1/conversations/{conversation}/messages",
    }  # fmt: skip


def test_openapi_refuses_unknown_members_and_names_the_key(client: TestClient) -> None:
    document = client.get("/openapi.json").json()

    schemas = document["components"]["schemas"]
    requests = ["NewKnowledgeBase", "KnowledgeBaseChange", "NewText", "RetrievalRequest", "AnswerRequest", "Filters"]
    assert all(schemas[name]["additionalProperties"] is False for name in [*requests, "NewConversation"])
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert bool(operation.get("security")) == path.startswith("/v1")


def test_the_contract_checker_finds_what_is_not_described(client: TestClient, kb: str) -> None:
    ingest(client, kb, {"a.txt": "The contract is checked."})
    answer = ask(client, kb, "Is the contract checked?")
    contract = Contract(client.get("/openapi.json").json())
    schema = {"$ref": "#/components/schemas/AnswerShape"}

    assert list(contract.faults(schema, answer, "$")) == []
    for wrong in (
        {"text": 1},
        {"outcome": "maybe"},
        {"citations": [{}]},
        {"created_at": "2026-01-01T00:00:00"},
        {"x": 1},
    ):
        assert list(contract.faults(schema, answer | wrong, "$")) != []
    assert list(contract.faults(schema, {k: v for k, v in answer.items() if k != "id"}, "$")) != []


@pytest.mark.parametrize("page", ["/", "/docs"])
def test_a_page_loads_nothing_from_other_origins(client: TestClient, page: str) -> None:
    html = client.get(page).text

    loaded = re.findall(r"(?:src|href)=[\"']([^\"']+)", html) + re.findall(r"url: '([^']+)'", html)
    assert loaded
    for address in loaded:
        assert urlsplit(address).netloc == ""
        assert address.startswith("#") or client.get(address).status_code == 200
    scripts = [address for address in loaded if address.endswith((".js", ".css"))]
    assert scripts
    # What these scripts load in turn would have to be named in them.
    for address in scripts:
        assert not re.search(r"(?:import|@import|importScripts\()\s*[\"'(]+https?:", client.get(address).text)
