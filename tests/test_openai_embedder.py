"""The `openai:` embedder against an embeddings server on real sockets, healthy and faulty in every way, and the whole
service over it: at question time and while a document comes in."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calls import ask, ingest, retrieve, upload
from conftest import Served, finished, free_port, wait_until
from contract import Contract
from embedding_engine import DIMENSIONS, embeds, spoiled, unit
from engine import Engine, Script, Wire, fails, hangs, resets, running_engine
from fastapi.testclient import TestClient
from test_cli import youju

from ingest.bootstrap import open_ingestion
from rag_service import config
from rag_service.api.app import create_app
from rag_service.bootstrap import Service, open_service, open_storage
from rag_service.errors import (
    EmbedderTimeout,
    EmbedderUnavailable,
    EmbeddingFailed,
    InvalidConfiguration,
    Overloaded,
    YoujuError,
)
from rag_service.inference.circuit_breaker import CircuitBreaker
from rag_service.inference.embeddings_server import EmbeddingLimits
from rag_service.inference.model_server import Retries
from rag_service.inference.openai_embedder import OpenAIEmbedder

KEY = "sk-very-secret-0123456789"
LIMITS = EmbeddingLimits(connect_seconds=0.5, total_seconds=1.0, batch_texts=4)
TEXTS = ["The pump runs dry.", "泵的保修期是两年。", "The warranty lasts two years."]

Build = Callable[..., OpenAIEmbedder]


@pytest.fixture
def engine() -> Iterator[Engine]:
    with running_engine() as running:
        running.plays(embeds())
        yield running


@pytest.fixture
def build(engine: Engine) -> Iterator[Build]:
    built: list[OpenAIEmbedder] = []

    def make(model: str = "m", url: str = engine.url, limits: EmbeddingLimits = LIMITS, **changed: Any) -> Any:
        settings: dict[str, Any] = {
            "api_key": KEY,
            "dimensions": DIMENSIONS,
            "retries": Retries(tries=3, first_wait_seconds=0.02, longest_wait_seconds=0.1),
            "breaker": CircuitBreaker(1_000, 10.0, time.monotonic),
        }
        built.append(OpenAIEmbedder(f"{url}#{model}", limits=limits, **(settings | changed)))
        return built[-1]

    yield make
    for embedder in built:
        embedder.close()


def says(status: int, text: str) -> Script:
    return fails(status, f'{{"error": {{"message": "{text}"}}}}')


def raised_by(embedder: OpenAIEmbedder, texts: list[str] = TEXTS) -> YoujuError:
    with pytest.raises(YoujuError) as raised:
        embedder.embed(texts)
    return raised.value


# Healthy.


@pytest.mark.parametrize("packed", [False, True])
def test_vectors_are_the_servers_at_unit_length(engine: Engine, build: Build, packed: bool) -> None:
    engine.plays(embeds(packed=packed))
    vectors = build().embed(TEXTS)
    assert (vectors.shape, vectors.dtype) == ((3, DIMENSIONS), np.float32)
    np.testing.assert_allclose(vectors, [unit(text) for text in TEXTS], atol=1e-6)
    np.testing.assert_allclose(build().embed_query("泵"), unit("泵"), atol=1e-6)


def test_the_request_is_what_openais_clients_send(engine: Engine, build: Build) -> None:
    build("some/model").embed(TEXTS)
    [asked] = engine.asked
    assert asked.path == "/v1/embeddings"
    assert asked.body == {"model": "some/model", "input": TEXTS, "encoding_format": "float"}
    assert asked.headers["authorization"] == f"Bearer {KEY}"


def test_without_a_key_none_is_sent(engine: Engine, build: Build) -> None:
    build(api_key=None).embed(TEXTS)
    assert "authorization" not in engine.asked[0].headers


def test_many_texts_go_in_requests_of_the_limit(engine: Engine, build: Build) -> None:
    texts = [f"text number {n}" for n in range(10)]
    vectors = build().embed(texts)
    assert [len(asked.body["input"]) for asked in engine.asked] == [4, 4, 2]
    np.testing.assert_allclose(vectors, [unit(text) for text in texts], atol=1e-6)
    assert build().embed([]).shape == (0, DIMENSIONS)


def test_a_familys_prefixes_are_put_before_questions_and_passages(engine: Engine, build: Build) -> None:
    embedder = build("intfloat/multilingual-e5-large")
    embedder.embed(["the pump"])
    embedder.embed_query("which pump?")
    assert [asked.body["input"] for asked in engine.asked] == [["passage: the pump"], ["query: which pump?"]]


def test_dimensions_that_nobody_named_are_asked_for_at_the_start(engine: Engine, build: Build) -> None:
    engine.plays(embeds(7))
    assert build(dimensions=None).dimensions == 7
    assert len(engine.asked) == 1


def test_dimensions_that_were_named_need_no_server(engine: Engine, build: Build) -> None:
    assert build(url=f"http://127.0.0.1:{free_port()}/v1", dimensions=5).dimensions == 5


def test_many_threads_ask_at_once(engine: Engine, build: Build) -> None:
    embedder = build()
    with ThreadPoolExecutor(16) as threads:
        for number, vector in enumerate(threads.map(lambda n: embedder.embed_query(f"text {n}"), range(80))):
            np.testing.assert_allclose(vector, unit(f"text {number}"), atol=1e-6)


# Down, slow, full.


def test_a_server_that_is_not_there(build: Build) -> None:
    error = raised_by(build(url=f"http://127.0.0.1:{free_port()}/v1"))
    assert isinstance(error, EmbedderUnavailable)
    assert "cannot be reached" in error.detail


def test_a_server_that_is_not_there_at_the_start_is_named(build: Build) -> None:
    threads = threading.active_count()
    with pytest.raises(EmbedderUnavailable, match="cannot be reached"):
        build(url=f"http://127.0.0.1:{free_port()}/v1", dimensions=None)
    assert threading.active_count() == threads


@pytest.mark.parametrize("fault", [resets, says(500, "x"), says(502, "x"), says(503, "x"), says(429, "x")])
def test_a_passing_fault_is_gone_with_another_try(engine: Engine, build: Build, fault: Script) -> None:
    engine.plays(fault, embeds())
    limits = EmbeddingLimits(connect_seconds=0.5, total_seconds=5.0, batch_texts=4)
    np.testing.assert_allclose(build(limits=limits).embed(TEXTS), [unit(text) for text in TEXTS], atol=1e-6)
    assert len(engine.asked) == 2


def test_tries_end(engine: Engine, build: Build) -> None:
    engine.plays(says(503, "loading"))
    error = raised_by(build())
    assert isinstance(error, EmbedderUnavailable)
    assert (error.data["status"], len(engine.asked)) == (503, 3)
    assert "loading" in error.detail


def test_an_answer_that_breaks_off_is_asked_for_again(engine: Engine, build: Build) -> None:
    def half(wire: Wire) -> None:
        wire.head(200, "application/json", content_length="5000")
        wire.send(b'{"data": [')

    engine.plays(half, embeds())
    np.testing.assert_allclose(build().embed(TEXTS), [unit(text) for text in TEXTS], atol=1e-6)


def test_a_full_server_says_when_to_come_back(engine: Engine, build: Build) -> None:
    engine.plays(fails(429, "{}", retry_after="7"))
    error = raised_by(build())
    assert isinstance(error, Overloaded)
    # Longer than the whole request may take: waiting for it would be of no use.
    assert (error.data["retry_after_seconds"], len(engine.asked)) == (7, 1)


def drips(wire: Wire) -> None:
    wire.head(200, "application/json")
    for _ in range(200):
        wire.send(b" ")
        time.sleep(0.02)


def drips_its_head(wire: Wire) -> None:
    for _ in range(200):
        wire.send(b"H")
        time.sleep(0.02)


@pytest.mark.parametrize("slow", [hangs, drips, drips_its_head])
def test_a_slow_server_is_given_up_within_the_limit(engine: Engine, build: Build, slow: Script) -> None:
    engine.plays(slow)
    began = time.monotonic()
    error = raised_by(build())
    assert time.monotonic() - began < 2.5
    assert isinstance(error, EmbedderTimeout)
    assert error.data == {"limit": "total", "seconds": 1.0}


def test_a_machine_that_does_not_answer_is_given_up_within_the_limit(build: Build) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
        port = deaf.getsockname()[1]
        # A full backlog: the kernel answers no further connection.
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        error = raised_by(build(url=f"http://127.0.0.1:{port}/v1"))
        for each in waiting:
            each.close()
    assert isinstance(error, EmbedderTimeout)


def test_a_server_that_keeps_failing_is_left_alone_for_a_while(engine: Engine, build: Build) -> None:
    now = [0.0]
    embedder = build(breaker=CircuitBreaker(2, 10.0, lambda: now[0]), retries=Retries(tries=1))
    engine.plays(says(503, "no"))
    for _ in range(2):
        raised_by(embedder)
    error = raised_by(embedder)
    assert (error.data["retry_after_seconds"], len(engine.asked)) == (10, 2)
    assert "left alone" in error.detail
    now[0] = 10.1
    engine.plays(embeds())
    assert embedder.embed(TEXTS).shape == (3, DIMENSIONS)


def test_texts_that_the_server_cannot_take_do_not_speak_against_it(engine: Engine, build: Build) -> None:
    embedder = build(breaker=CircuitBreaker(1, 10.0, time.monotonic))
    engine.plays(
        says(400, "too long"), spoiled(float("nan")), embeds(change=lambda entries: "none"), says(429, "x"), embeds()
    )
    for _ in range(3):
        assert isinstance(raised_by(embedder), EmbeddingFailed)
    assert embedder.embed(TEXTS).shape == (3, DIMENSIONS)


# Answers of no use.


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (embeds(change=lambda entries: entries[:-1]), "count"),
        (embeds(change=lambda entries: [*entries, entries[0]]), "count"),
        (embeds(DIMENSIONS + 1), "dimensions"),
        (embeds(1), "dimensions"),
        (spoiled(float("nan")), "not-finite"),
        (spoiled(float("inf")), "not-finite"),
        (embeds(change=lambda entries: [e | {"embedding": [0.0] * DIMENSIONS} for e in entries]), "no-direction"),
        (embeds(change=lambda entries: [e | {"embedding": [None] * DIMENSIONS} for e in entries]), "not-numbers"),
        (embeds(change=lambda entries: "none"), "no-data"),
        (says(400, "the input is too long"), "refused"),
    ],
)
def test_an_answer_of_no_use_is_an_error_with_its_reason(
    engine: Engine, build: Build, script: Script, reason: str
) -> None:
    engine.plays(script)
    error = raised_by(build())
    assert isinstance(error, EmbeddingFailed)
    assert error.data["reason"] == reason
    # Nothing that another try would mend.
    assert len(engine.asked) == 1


def test_a_later_batch_that_fails_spoils_the_whole(engine: Engine, build: Build) -> None:
    engine.plays(embeds(), spoiled(float("nan")))
    assert isinstance(raised_by(build(), TEXTS * 2), EmbeddingFailed)


def test_an_endless_answer_is_not_read_to_its_end(engine: Engine, build: Build) -> None:
    def floods(wire: Wire) -> None:
        wire.head(200, "application/json")
        for _ in range(64):
            wire.send(b" " * (1 << 20))

    engine.plays(floods)
    error = raised_by(build(limits=EmbeddingLimits(connect_seconds=1.0, total_seconds=20.0, batch_texts=4)), ["one"])
    assert error.data["reason"] == "too-large"


def test_a_compressed_answer_is_refused(engine: Engine, build: Build) -> None:
    def compresses(wire: Wire) -> None:
        wire.head(200, "application/json", content_encoding="gzip")
        wire.send(b"\x1f\x8b")

    engine.plays(compresses)
    assert raised_by(build()).data["reason"] == "compressed"


@pytest.mark.parametrize(("status", "words"), [(401, "API key"), (403, "API key"), (404, "/v1"), (302, "redirects")])
def test_what_an_operator_has_to_mend_is_said(engine: Engine, build: Build, status: int, words: str) -> None:
    engine.plays(says(status, f"you sent {KEY}"))
    error = raised_by(build())
    assert isinstance(error, EmbedderUnavailable)
    assert words in error.detail
    assert KEY not in f"{error.detail} {error.data}"
    assert len(engine.asked) == 1


@pytest.mark.parametrize(
    ("changed", "words"),
    [({"url": "http://user:secret@127.0.0.1/v1"}, "password"), ({"api_key": "two words"}, "blanks")],
)
def test_a_configuration_that_cannot_work_is_refused_at_once(build: Build, changed: Any, words: str) -> None:
    with pytest.raises(InvalidConfiguration, match=words):
        build(**changed)


# Ready and closed.


def test_readiness_is_what_was_last_learnt(engine: Engine, build: Build) -> None:
    embedder = build()
    wait_until(lambda: embedder.ready() == "ok", 5)
    engine.plays(says(503, "loading"))
    raised_by(embedder)
    assert "loading" in embedder.ready()
    engine.plays(embeds())
    embedder.embed(TEXTS)
    assert embedder.ready() == "ok"


def test_closing_ends_what_is_under_way(engine: Engine, build: Build) -> None:
    engine.plays(hangs)
    embedder = build(limits=EmbeddingLimits(connect_seconds=1.0, total_seconds=60.0, batch_texts=4))
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(raised_by, embedder)
        engine.wire(0)
        embedder.close()
        assert isinstance(waiting.result(5), EmbedderUnavailable)
    embedder.close()
    assert isinstance(raised_by(embedder), EmbedderUnavailable)


# The whole service.


HANDBOOK = {
    "leave.md": "# Leave\n\nEmployees have fifteen days of paid leave a year.\n",
    "router.md": "# Router\n\nThe warranty of the router lasts two years from delivery.\n",
}
ASK_WARRANTY = "How long does the warranty of the router last?"


@pytest.fixture
def opened(engine: Engine, tmp_path: Path) -> Iterator[tuple[Service, TestClient]]:
    with serving(engine, tmp_path / "data") as both:
        yield both


@contextmanager
def serving(engine: Engine, data: Path, **changed: Any) -> Iterator[tuple[Service, TestClient]]:
    """The service with its worker, both asking the engine, with short limits."""
    settings = config.load(data=data, embedder=f"openai:{engine.url}#m", embedder_seconds=1.0, **changed)
    with closing(open_storage(settings)) as storage, closing(open_ingestion(settings)) as ingestion:
        working = threading.Thread(target=ingestion.run)
        working.start()
        try:
            with closing(open_service(storage)) as service, TestClient(create_app(service, auth=False)) as client:
                Contract.watch(client)
                yield service, client
        finally:
            ingestion.worker.stop()
            working.join()


@pytest.fixture
def client(opened: tuple[Service, TestClient]) -> TestClient:
    return opened[1]


@pytest.fixture
def kb(client: TestClient) -> str:
    made: str = client.post("/v1/knowledge-bases", json={"name": "handbook"}).json()["id"]
    return made


def problem(client: TestClient, kb: str) -> tuple[int, str]:
    """Status and code of the answer to a question, the same from both routes."""
    body = {"query": ASK_WARRANTY, "knowledge_base_ids": [kb]}
    found = {
        (response.status_code, response.json()["type"].rpartition(":")[2])
        for response in (client.post("/v1/retrieve", json=body), client.post("/v1/answers", json=body))
    }
    assert len(found) == 1, found
    return found.pop()


def test_documents_come_in_and_questions_are_answered(engine: Engine, client: TestClient, kb: str) -> None:
    ingest(client, kb, HANDBOOK)
    found = retrieve(client, kb, ASK_WARRANTY)["passages"]
    assert found[0]["filename"] == "router.md"
    assert "two years" in ask(client, kb, ASK_WARRANTY)["text"]
    assert client.get("/readyz").json()["embedder"] == "ok"


@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        (resets, 502, "embedder-unavailable"),
        (says(401, "no"), 502, "embedder-unavailable"),
        (hangs, 504, "embedder-timeout"),
        (embeds(DIMENSIONS - 1), 502, "embedding-failed"),
        (spoiled(float("nan")), 502, "embedding-failed"),
    ],
)
def test_a_question_is_told_what_is_wrong_with_the_server_and_the_next_is_answered(
    engine: Engine, client: TestClient, kb: str, script: Script, status: int, code: str
) -> None:
    ingest(client, kb, HANDBOOK)
    engine.plays(script)
    assert problem(client, kb) == (status, code)
    if code != "embedding-failed":
        assert client.get("/readyz").status_code == 503
    engine.plays(embeds())
    assert "two years" in ask(client, kb, ASK_WARRANTY)["text"]
    assert client.get("/readyz").json()["embedder"] == "ok"


@pytest.mark.parametrize("script", [resets, hangs, says(503, "loading"), says(401, "no"), says(429, "full")])
def test_documents_wait_for_a_server_that_is_away(engine: Engine, client: TestClient, kb: str, script: Script) -> None:
    engine.plays(script)
    asked = len(engine.asked)
    job = upload(client, kb, {name: text.encode() for name, text in HANDBOOK.items()}).json()["job_id"]
    wait_until(lambda: len(engine.asked) > asked + 1, 20)
    assert client.get(f"/v1/jobs/{job}").json()["finished_at"] is None
    engine.plays(embeds())
    assert finished(client, job)["state"] == "succeeded"
    assert "two years" in ask(client, kb, ASK_WARRANTY)["text"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (embeds(DIMENSIONS + 1), "dimensions"),
        (spoiled(float("nan")), "not-finite"),
        (says(400, "the input is too long"), "refused"),
    ],
)
def test_a_document_whose_vectors_are_of_no_use_fails_with_the_reason_and_can_be_tried_again(
    engine: Engine, client: TestClient, kb: str, script: Script, reason: str
) -> None:
    engine.plays(script)
    accepted = upload(client, kb, {"router.md": HANDBOOK["router.md"].encode()}).json()
    assert finished(client, accepted["job_id"])["state"] != "succeeded"
    document = client.get(f"/v1/documents/{accepted['items'][0]['document_id']}").json()
    assert (document["state"], document["error"]["type"]) == ("failed", "urn:youju:problem:embedding-failed")
    assert document["error"]["reason"] == reason
    engine.plays(embeds())
    assert retrieve(client, kb, ASK_WARRANTY)["passages"] == []
    retried = client.post(f"/v1/jobs/{accepted['job_id']}/retry").json()
    assert finished(client, retried["id"])["state"] == "succeeded"
    assert "two years" in ask(client, kb, ASK_WARRANTY)["text"]


def test_serve_and_its_worker_use_it(
    engine: Engine, serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YOUJU_EMBEDDER", f"openai:{engine.url}#m")
    monkeypatch.setenv("YOUJU_EMBEDDER_API_KEY", KEY)
    with serve().client() as client:
        kb = client.post("/v1/knowledge-bases", json={"name": "handbook"}).json()["id"]
        ingest(client, kb, HANDBOOK)
        assert "two years" in ask(client, kb, ASK_WARRANTY)["text"]
    assert {asked.headers["authorization"] for asked in engine.asked} == {f"Bearer {KEY}"}


def test_serve_without_its_embedding_server_says_so_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOUJU_EMBEDDER", f"openai:http://127.0.0.1:{free_port()}/v1#m")
    ended = youju("serve", "--data", tmp_path / "data", "--no-auth", "--port", free_port())
    assert ended.exit_code == 2
    assert "The embedder is not available" in ended.stderr
