"""The whole way over real embedders: by the API with a worker beside it, and by the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import TENANT, finished
from fastapi.testclient import TestClient
from tiny_sentence_models import DIMENSIONS, sentence_model
from typer.testing import CliRunner

from ingest.bootstrap import open_ingestion
from rag_service import config
from rag_service.__main__ import app
from rag_service.api.app import create_app
from rag_service.bootstrap import open_service, open_storage
from rag_service.config import Settings
from rag_service.errors import InvalidConfiguration
from rag_service.verify import differences

TEXTS = {
    "pump.txt": "The pump runs dry.\n\nCall the works.",
    "warranty.txt": "泵的保修期是三年。\n\nThe warranty is long.",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sentence-transformers:{sentence_model(tmp_path_factory.mktemp('model'))}"


@pytest.fixture
def settings(tmp_path: Path, model: str) -> Settings:
    return config.load(data=tmp_path / "data", embedders_offered=model, compact_after_chunks=20)


def put(api: TestClient, kb: str, files: dict[str, str]) -> dict[str, Any]:
    parts = [("files", (name, content.encode(), "text/plain")) for name, content in files.items()]
    return finished(api, api.post(f"/v1/knowledge-bases/{kb}/documents", files=parts).json()["job_id"])


def found(api: TestClient, kbs: list[str], query: str) -> dict[str, float]:
    """File name to the dense score of its best passage."""
    reply = api.post("/v1/retrieve", json={"query": query, "knowledge_base_ids": kbs, "explain": True})
    assert reply.status_code == 200, reply.text
    scores: dict[str, float] = {}
    for one in reply.json()["passages"]:
        scores.setdefault(one["filename"], one["scores"]["dense"])
    return scores


def test_by_the_api_a_knowledge_base_gets_another_embedder_and_answers_throughout(
    api: TestClient, settings: Settings, model: str
) -> None:
    kb = api.post("/v1/knowledge-bases", json={"name": "first"}).json()
    other = api.post("/v1/knowledge-bases", json={"name": "second", "embedder": model}).json()
    assert (kb["embedder"], other["embedder"]) == ("use-multilingual", model)
    assert put(api, kb["id"], TEXTS)["state"] == "succeeded"
    assert put(api, other["id"], {"other.txt": "The other pump."})["state"] == "succeeded"
    before = found(api, [kb["id"], other["id"]], "The pump runs dry.")
    assert before.keys() == {"pump.txt", "warranty.txt", "other.txt"}

    reply = api.post(f"/v1/knowledge-bases/{kb['id']}/embedder", json={"embedder": model})
    assert reply.status_code == 202, reply.text
    job = finished(api, reply.json()["job_id"])
    assert (job["kind"], job["state"], job["done"], job["problem"]) == ("reembed", "succeeded", job["total"], None)
    after = api.get(f"/v1/knowledge-bases/{kb['id']}").json()
    assert (after["embedder"], after["revision"]) == (model, kb["revision"] + 3)
    assert found(api, [kb["id"]], "The pump runs dry.").keys() == {"pump.txt", "warranty.txt"}
    assert put(api, kb["id"], {"new.txt": "A third pump."})["state"] == "succeeded"
    assert "new.txt" in found(api, [kb["id"]], "A third pump.")
    answer = api.post("/v1/answers", json={"query": "泵的保修期是几年？", "knowledge_base_ids": [kb["id"]]}).json()
    assert api.post(f"/v1/answers/{answer['id']}/replay", json={}).json()["retrieval_equal"]

    storage = api.app.state.service.storage  # type: ignore[attr-defined]
    assert list(differences(storage, deep=True)) == []
    again = api.post(f"/v1/knowledge-bases/{kb['id']}/embedder", json={"embedder": model})
    assert (again.status_code, again.json()["detail"]) == (422, f"{model} is the knowledge base's embedder")


@pytest.mark.parametrize(
    "name",
    ["sentence-transformers:somebody/elses", "openai:http://127.0.0.1:9/v1#m", "langchain:os:system", "x", "\x00"],
)
def test_callers_choose_only_among_what_is_offered(api: TestClient, name: str) -> None:
    kb = api.post("/v1/knowledge-bases", json={"name": "kb"}).json()["id"]
    assert api.post(f"/v1/knowledge-bases/{kb}/embedder", json={"embedder": name}).status_code == 422
    assert api.post("/v1/knowledge-bases", json={"name": "other", "embedder": name}).status_code == 422


def test_one_that_is_offered_and_not_there_is_refused_by_name(api: TestClient) -> None:
    kb = api.post("/v1/knowledge-bases", json={"name": "kb"}).json()["id"]
    reply = api.post(f"/v1/knowledge-bases/{kb}/embedder", json={"embedder": "use-multilingual-onnx"})
    assert reply.status_code == 422
    assert "use-multilingual-onnx is not available" in reply.json()["detail"]


def test_while_one_change_runs_another_is_a_conflict_and_it_can_be_cancelled(settings: Settings, model: str) -> None:
    """No worker: it stays queued."""
    storage = open_storage(settings)
    with TestClient(create_app(open_service(storage), auth=False)) as api:
        kb = api.post("/v1/knowledge-bases", json={"name": "kb"}).json()["id"]
        url = f"/v1/knowledge-bases/{kb}/embedder"
        job_id = api.post(url, json={"embedder": model}).json()["job_id"]
        conflict = api.post(url, json={"embedder": model})
        assert (conflict.status_code, conflict.json()["job_id"]) == (409, job_id)
        assert api.post("/v1/knowledge-bases/nothing/embedder", json={"embedder": model}).status_code == 404
        assert api.delete(f"/v1/jobs/{job_id}").json()["state"] == "cancelled"
        assert api.post(url, json={"embedder": model}).status_code == 202
    storage.close()


def run(data: Path, *arguments: str) -> Any:
    return CliRunner().invoke(app, [*arguments, "--data", str(data)])


def test_by_the_command_line_there_and_back_and_forgotten(tmp_path: Path, model: str) -> None:
    data, folder = tmp_path / "data", tmp_path / "folder"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / name).write_text(text, "utf-8")
    assert run(data, "ingest", str(folder), "--kb", "shelf").exit_code == 0
    there = run(data, "reembed", "--kb", "shelf", "--embedder", model, "--wait", "--json")
    assert there.exit_code == 0, there.output
    assert json.loads(there.stdout)["state"] == "succeeded"
    assert json.loads(run(data, "search", "pump", "--kb", "shelf", "--json").stdout)["passages"]
    assert run(data, "verify", "--deep").exit_code == 0
    back = run(data, "reembed", "--kb", "shelf", "--back", "--wait")
    assert back.exit_code == 0, back.output
    assert "succeeded" in back.output
    queued = run(data, "reembed", "--kb", "shelf", "--back", "--json")
    job = json.loads(queued.stdout)
    assert (job["state"], queued.exit_code) == ("queued", 0)
    running = run(data, "reembed", "--kb", "shelf", "--forget")
    assert (running.exit_code, "being changed already" in running.output) == (2, True)
    storage = open_storage(config.load(data=data))
    storage.jobs.cancel(TENANT, job["id"])
    storage.close()
    forgotten = run(data, "reembed", "--kb", "shelf", "--forget")
    assert forgotten.exit_code == 0
    assert "vectors dropped" in forgotten.output
    assert run(data, "reembed", "--kb", "shelf", "--back").exit_code == 2
    assert run(data, "verify", "--deep").exit_code == 0


def test_a_change_that_fails_says_why_and_ends_with_one(tmp_path: Path) -> None:
    data = tmp_path / "data"
    storage = open_storage(config.load(data=data))
    storage.knowledge_bases.create(TENANT, "shelf")
    storage.close()
    failed = run(data, "reembed", "--kb", "shelf", "--embedder", "use-multilingual-onnx", "--wait", "--json")
    assert failed.exit_code == 1, failed.output
    assert json.loads(failed.stdout)["problem"]["type"].endswith("invalid-configuration")


@pytest.mark.parametrize(
    "options", [[], ["--back", "--forget"], ["--back", "--embedder", "use-multilingual"], ["--embedder", "nobody"]]
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, options: list[str]) -> None:
    assert run(tmp_path, "reembed", "--kb", "shelf", *options).exit_code == 2


def test_a_knowledge_base_keeps_its_embedder_whatever_new_ones_get(tmp_path: Path, model: str) -> None:
    data = tmp_path / "data"
    storage = open_storage(config.load(data=data))
    kb = storage.knowledge_bases.create(TENANT, "old").id
    storage.close()
    settings = config.load(data=data, embedder=model)
    storage, ingestion = open_storage(settings), open_ingestion(settings)
    new = storage.knowledge_bases.create(TENANT, "new")
    assert (storage.knowledge_bases.get(TENANT, kb).embedder, new.embedder) == ("use-multilingual", model)
    assert ingestion.embedders.dimensions(model) == DIMENSIONS
    ingestion.close()
    storage.close()


def test_what_is_offered_has_to_be_names_of_embedders(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="embedders_offered: there is no 'nobody'"):
        config.load(data=tmp_path, embedders_offered="use-multilingual nobody")
