"""An answer made again: from the state it was made in, whatever has happened since."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from calls import ask, ingest
from conftest import wait_until
from engine import Engine, running_engine, says
from fastapi.testclient import TestClient
from generating import generating
from typer.testing import CliRunner

from rag_service.__main__ import app
from rag_service.api.app import create_app
from rag_service.bootstrap import Service

HANDBOOK = "# Staff handbook\n\nEmployees have fifteen days of paid leave a year. Sick leave needs a certificate.\n"
TRAVEL = "# Travel\n\nTrips by train are booked in second class. Taxis need an approval.\n"
ASK_LEAVE = "How many days of paid leave do employees have?"
TRUE = "Employees have fifteen days of paid leave a year [1]."
EQUAL = {"retrieval_equal": True, "prompt_equal": True, "text_equal": True, "diff": []}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with running_engine() as opened:
        yield opened


@pytest.fixture(scope="module")
def opened(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, TestClient]]:
    data = tmp_path_factory.mktemp("replay") / "data"
    with generating(data, engine.url, compact_after_chunks=5) as both:
        yield both


@pytest.fixture(name="client")
def own_client(opened: tuple[Service, TestClient], engine: Engine) -> TestClient:
    engine.plays(says(*TRUE.split(" ", 1)[0], " " + TRUE.split(" ", 1)[1]))
    return opened[1]


@pytest.fixture
def shelf(client: TestClient) -> dict[str, str]:
    """A knowledge base of two documents: their ids by name, its own as `kb`."""
    kb = client.post("/v1/knowledge-bases", json={"name": f"kb{len(client.get('/v1/models').json()['data'])}"}).json()[
        "id"
    ]
    return {"kb": kb, **ingest(client, kb, {"handbook.md": HANDBOOK, "travel.md": TRAVEL})}


def replay(client: TestClient, answer: dict[str, Any]) -> dict[str, Any]:
    response = client.post(f"/v1/answers/{answer['id']}/replay", json={})
    assert response.status_code == 200, response.text
    made: dict[str, Any] = response.json()
    return made


def test_an_answer_made_again_at_once_is_equal(client: TestClient, shelf: dict[str, str], engine: Engine) -> None:
    answer = ask(client, shelf["kb"], ASK_LEAVE)
    prompt = engine.asked[-1].body

    assert replay(client, answer) == EQUAL
    assert engine.asked[-1].body == prompt


def test_what_was_ingested_and_compacted_since_changes_nothing(
    client: TestClient, shelf: dict[str, str], opened: tuple[Service, TestClient]
) -> None:
    answer = ask(client, shelf["kb"], ASK_LEAVE)
    for number in range(8):
        better = f"Employees have fifteen days of paid leave a year, says edition {number}."
        ingest(client, shelf["kb"], {f"{number}.md": better})
    wait_until(lambda: opened[0].storage.feed.head(shelf["kb"]).segment is not None)

    assert replay(client, answer) == EQUAL
    assert replay(client, ask(client, shelf["kb"], ASK_LEAVE)) == EQUAL


def test_a_deleted_document_is_missed_by_name_and_never_shown_again(client: TestClient, shelf: dict[str, str]) -> None:
    answer = ask(client, shelf["kb"], ASK_LEAVE)
    client.delete(f"/v1/documents/{shelf['handbook.md']}")

    made = replay(client, answer)

    assert (made["retrieval_equal"], made["prompt_equal"]) == (False, False)
    assert any(shelf["handbook.md"] in line for line in made["diff"])
    assert "fifteen" not in "".join(line for line in made["diff"] if not line.startswith(("+", "-Emp")))


def test_a_text_that_comes_out_differently_is_shown_as_a_difference(
    client: TestClient, shelf: dict[str, str], engine: Engine
) -> None:
    answer = ask(client, shelf["kb"], ASK_LEAVE)
    engine.plays(says("Fifteen days."))

    made = replay(client, answer)

    assert (made["retrieval_equal"], made["prompt_equal"], made["text_equal"]) == (True, True, False)
    assert f"-{TRUE}" in made["diff"]
    assert "+Fifteen days." in made["diff"]


def test_a_follow_up_is_made_again_with_the_history_it_had(client: TestClient, shelf: dict[str, str]) -> None:
    first = ask(client, shelf["kb"], ASK_LEAVE)
    conversation = {"conversation_id": first["conversation_id"]}
    second = ask(client, shelf["kb"], "And how is it for trips by train?", **conversation)
    ask(client, shelf["kb"], "And taxis?", **conversation)

    assert replay(client, second) == EQUAL


def test_the_turns_a_client_brought_along_are_replayed(client: TestClient, shelf: dict[str, str]) -> None:
    said = [("user", "Which class are trips by train?"), ("assistant", "Second class [1]."), ("user", ASK_LEAVE)]
    messages = [{"role": role, "content": content} for role, content in said]
    made = client.post("/v1/chat/completions", json={"model": shelf["kb"], "messages": messages}).json()

    assert replay(client, made) == EQUAL


def test_replaying_stores_nothing(client: TestClient, shelf: dict[str, str]) -> None:
    answer = ask(client, shelf["kb"], ASK_LEAVE)
    before = client.get("/v1/conversations").json()

    replay(client, answer)

    assert client.get("/v1/conversations").json() == before


def test_an_unknown_answer_is_not_found(client: TestClient) -> None:
    assert client.post("/v1/answers/nowhere/replay", json={}).status_code == 404


@pytest.mark.parametrize("question", [ASK_LEAVE, "How deep is the Mariana Trench?"])
def test_extracts_and_refusals_are_made_again(client_of_extracts: tuple[TestClient, str], question: str) -> None:
    client, kb = client_of_extracts

    assert replay(client, ask(client, kb, question)) == EQUAL


@pytest.fixture
def client_of_extracts(running: Service) -> Iterator[tuple[TestClient, str]]:
    """Clients of the service that all tests share, which has no generator."""
    with TestClient(create_app(running, auth=False)) as client:
        kb = str(client.post("/v1/knowledge-bases", json={"name": "replayed"}).json()["id"])
        ingest(client, kb, {"handbook.md": HANDBOOK, "travel.md": TRAVEL})
        yield client, kb
        client.delete(f"/v1/knowledge-bases/{kb}")


def test_without_the_generator_the_text_cannot_be_equal_and_the_command_says_so(
    opened: tuple[Service, TestClient], client: TestClient, shelf: dict[str, str]
) -> None:
    answer = ask(client, shelf["kb"], ASK_LEAVE)
    data = str(opened[0].storage.settings.data)

    ran = CliRunner().invoke(app, ["replay", answer["id"], "--data", data, "--json"])

    made = json.loads(ran.stdout)
    assert ran.exit_code == 1
    assert (made["retrieval_equal"], made["prompt_equal"], made["text_equal"]) == (True, True, False)
    assert made["diff"] == ["text: written by openai:sus-chat, and here is extractive"]
