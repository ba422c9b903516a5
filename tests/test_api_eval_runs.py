"""Evaluation over the API."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from calls import ingest
from conftest import wait_until
from contract import Contract, check_problem
from fastapi.testclient import TestClient

from rag_service import config
from rag_service.api.app import create_app
from rag_service.bootstrap import Service, open_service, open_storage

FILES: dict[str, str | bytes] = {
    "leave.txt": "员工每年享有十五天带薪年假，可以分两次休完。",
    "warranty.txt": "The warranty of the Star River router lasts two years from delivery.",
}
QUESTIONS: list[dict[str, Any]] = [
    {"id": "1", "text": "员工每年有多少天带薪年假？", "relevant": ["leave.txt"], "answers": ["十五天"]},
    {"id": "2", "text": "How long is the warranty of the router?", "relevant": ["warranty.txt"], "source": "us"},
    {"id": "3", "text": "Who is the king of France?", "answerable": False},
]
UNKNOWN = "01a20992-be13-75da-a3ba-65bc64a14fa7"


@pytest.fixture(scope="module", name="filled")
def filled_knowledge_base(client: TestClient) -> str:
    kb = str(client.post("/v1/knowledge-bases", json={"name": "evaluated"}).json()["id"])
    ingest(client, kb, FILES)
    return kb


def begin(client: TestClient, kb: str, **members: Any) -> Any:
    return client.post("/v1/eval-runs", json={"knowledge_base_ids": [kb], "questions": QUESTIONS, **members})


def finished_run(client: TestClient, kb: str, **members: Any) -> dict[str, Any]:
    response = begin(client, kb, **members)
    assert response.status_code == 202, response.text
    path = f"/v1/eval-runs/{response.json()['id']}"
    wait_until(lambda: client.get(path).json()["finished_at"] is not None, 60)
    made: dict[str, Any] = client.get(path).json()
    return made


def test_a_run_is_accepted_and_then_has_its_figures(client: TestClient, filled: str) -> None:
    begun = begin(client, filled, name="nightly").json()
    assert (begun["state"], begun["total"], begun["done"]) == ("queued", 3, 0)
    assert begun["metrics"] is None

    done = finished_run(client, filled, name="nightly")

    assert (done["state"], done["done"], done["error"]) == ("succeeded", 3, None)
    assert done["revision"] == {filled: client.get(f"/v1/knowledge-bases/{filled}").json()["revision"]}
    assert (done["name"], done["set_name"]) == ("nightly", "nightly")
    assert list(done["metrics"]) == ["en→any", "en→en", "zh→zh", "all"]
    overall = done["metrics"]["all"]
    assert overall["figures"]["R@1"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 2}
    assert overall["figures"]["containment"]["value"] == 1.0
    assert overall["figures"]["refusal-recall"]["n"] == 1
    assert overall["latency_ms"]["total"]["p50"] > 0
    assert done["settings"]["eval_gold"] == "relevant"


def test_retrieval_alone_answers_nothing(client: TestClient, filled: str) -> None:
    done = finished_run(client, filled, retrieval_only=True)
    assert done["metrics"]["all"]["figures"]["R@1"]["value"] == 1.0
    assert "containment" not in done["metrics"]["all"]["figures"]
    assert list(done["metrics"]["all"]["latency_ms"]) == ["retrieve"]


def test_two_runs_are_compared(client: TestClient, filled: str) -> None:
    first, second = finished_run(client, filled), finished_run(client, filled)

    told = client.get(f"/v1/eval-runs/{first['id']}/compare?to={second['id']}").json()

    assert (told["before"], told["after"]) == (first["id"], second["id"])
    found = {(one["direction"], one["figure"]): one for one in told["differences"]}
    assert found["zh→zh", "R@1"]["difference"] == 0.0
    assert not any(one["real"] for one in found.values())


def test_every_fault_of_a_set_is_told_with_its_place_and_nothing_is_begun(client: TestClient, filled: str) -> None:
    before = client.get("/v1/eval-runs").json()["items"]
    rows = [
        {"id": "1", "text": "Why?", "relevant": ["nowhere.txt"]}, {"id": "1", "text": "Why?"},
        {"id": "2"}, {"id": "3", "text": "Why?", "answers": [7]},
    ]  # fmt: skip

    response = begin(client, filled, questions=rows)

    assert response.status_code == 422
    faults = check_problem(response)["faults"]
    assert [fault.split(": ")[0] for fault in faults] == [f"questions:{n}" for n in (1, 2, 3, 4, 4)]
    assert faults[0] == "questions:1: unknown passage or document 'nowhere.txt'"
    assert client.get("/v1/eval-runs").json()["items"] == before


@pytest.mark.parametrize(
    "members",
    [
        {"questions": []},
        {"questions": [7]},
        {"questions": "q"},
        {"knowledge_base_ids": []},
        {"rewriting": "magic"},
        {"threads": 4},
        {"withhold": True},
        {"name": ""},
        {"gold": ""},
        {"questions": [{"id": "a\x00b", "text": "Why?"}]},
    ],
    ids=lambda members: str(members)[:40],
)
def test_a_run_that_is_none_is_refused(client: TestClient, filled: str, members: dict[str, Any]) -> None:
    assert begin(client, filled, **members).status_code == 422


@pytest.mark.parametrize("member", ['"text": "a\\ud800"', '"text": "Why?", "relevant": ["\\ud800"]'])
def test_half_a_surrogate_pair_is_a_fault_like_any_other(client: TestClient, filled: str, member: str) -> None:
    body = f'{{"knowledge_base_ids": ["{filled}"], "questions": [{{"id": "a", {member}}}]}}'
    response = client.post("/v1/eval-runs", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 422
    assert check_problem(response)["faults"][0].startswith("questions:1: ")


def test_unknown_knowledge_bases_and_runs_are_not_found(client: TestClient, filled: str) -> None:
    assert begin(client, UNKNOWN).status_code == 404
    assert client.get(f"/v1/eval-runs/{UNKNOWN}").status_code == 404
    run = finished_run(client, filled, retrieval_only=True)["id"]
    assert client.get(f"/v1/eval-runs/{run}/compare?to={UNKNOWN}").status_code == 404
    assert client.get(f"/v1/eval-runs/{UNKNOWN}/compare?to={run}").status_code == 404
    assert client.get(f"/v1/eval-runs/{run}/compare").status_code == 422


def test_a_foreign_knowledge_base_and_a_foreign_run_are_like_none(running: Service, filled: str) -> None:
    keys = {tenant: running.storage.keys.create(tenant, "k")[1] for tenant in ("default", "stranger")}
    with TestClient(create_app(running, auth=True)) as client:
        Contract.watch(client)
        mine, theirs = ({"Authorization": f"Bearer {keys[tenant]}"} for tenant in ("default", "stranger"))
        body = {"knowledge_base_ids": [filled], "questions": QUESTIONS}
        assert client.post("/v1/eval-runs", json=body, headers=theirs).status_code == 404
        run = client.post("/v1/eval-runs", json=body, headers=mine).json()["id"]
        assert client.get(f"/v1/eval-runs/{run}", headers=theirs).status_code == 404
        assert client.get("/v1/eval-runs", headers=theirs).json()["items"] == []
        assert client.get("/v1/eval-runs").status_code == 401
        path = f"/v1/eval-runs/{run}"
        wait_until(lambda: client.get(path, headers=mine).json()["finished_at"] is not None, 60)


def test_runs_come_newest_first_in_pages(client: TestClient, filled: str) -> None:
    made = [finished_run(client, filled, name=str(n), retrieval_only=True)["id"] for n in range(3)]
    first = client.get("/v1/eval-runs?limit=2").json()
    assert [item["id"] for item in first["items"]] == [made[2], made[1]]
    then = client.get(f"/v1/eval-runs?limit=1&cursor={first['next_cursor']}").json()
    assert then["items"][0]["id"] == made[0]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Callable[[], Service]]:
    """Opens one service after another over the same data, each as a new process would."""
    opened = []

    def open_one() -> Service:
        storage = open_storage(config.load(data=tmp_path / "data"))
        opened.append(storage)
        return open_service(storage)

    yield open_one
    for storage in opened:
        storage.close()


def test_stopping_the_service_ends_a_run_by_name(own: Callable[[], Service], monkeypatch: pytest.MonkeyPatch) -> None:
    service = own()
    kb = service.storage.knowledge_bases.create("default", "kb").id
    asked, go_on = threading.Event(), threading.Event()
    retrieve = service.retriever.retrieve

    def slow(*arguments: Any) -> Any:
        asked.set()
        assert go_on.wait(30)
        return retrieve(*arguments)

    monkeypatch.setattr(service.retriever, "retrieve", slow)
    rows = [{"id": str(n), "text": "Why?"} for n in range(300)]
    with TestClient(create_app(service, auth=False)) as client:
        first, second = (begin(client, kb, questions=rows, retrieval_only=True).json()["id"] for _ in range(2))
        assert asked.wait(30)
        stopping = threading.Timer(0.2, go_on.set)
        stopping.start()
    states = {run.id: run for run in own().eval_runs.browse("default", 50, None).items}
    assert {states[run].state for run in (first, second)} == {"failed"}
    assert {states[run].error.code for run in (first, second)} == {"interrupted"}  # type: ignore[union-attr]


def test_too_many_waiting_runs_are_told_to_come_back(
    own: Callable[[], Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = own()
    kb = service.storage.knowledge_bases.create("default", "kb").id
    go_on = threading.Event()
    retrieve = service.retriever.retrieve
    monkeypatch.setattr(service.retriever, "retrieve", lambda *arguments: (go_on.wait(30), retrieve(*arguments))[1])
    with TestClient(create_app(service, auth=False)) as client:
        Contract.watch(client)
        row = [{"id": "q", "text": "Why?"}]
        answers = [begin(client, kb, questions=row, retrieval_only=True) for _ in range(9)]
        assert [answer.status_code for answer in answers] == [202] * 8 + [503]
        assert answers[-1].headers["Retry-After"] == "60"
        go_on.set()
        wait_until(
            lambda: all(client.get(f"/v1/eval-runs/{a.json()['id']}").json()["finished_at"] for a in answers[:8])
        )
        assert begin(client, kb, questions=row, retrieval_only=True).status_code == 202


def test_a_run_whose_process_was_killed_is_failed_by_name(serve: Any) -> None:
    served = serve()
    with closing(served.client()) as client:
        kb = client.post("/v1/knowledge-bases", json={"name": "kb"}).json()["id"]
        rows = [{"id": str(n), "text": f"Why {n}?"} for n in range(20_000)]
        run = begin(client, kb, questions=rows, retrieval_only=True).json()["id"]
        wait_until(lambda: client.get(f"/v1/eval-runs/{run}").json()["done"] > 0)
    served.kill()

    storage = open_storage(config.load(data=served.data))
    with closing(storage), closing(open_service(storage, generates=False)) as service:
        assert service.eval_runs.get("default", run).state == "running"
        with storage.database.write() as connection:
            connection.exec_driver_sql("UPDATE eval_runs SET lease_until = lease_until - 60")
        failed = service.eval_runs.get("default", run)
        assert failed.error is not None
        assert (failed.state, failed.error.code) == ("failed", "interrupted")
        assert len(service.eval_runs.results("default", run)) == failed.done > 0
