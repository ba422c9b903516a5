"""OpenAI's chat completions over knowledge bases, asked by OpenAI's own client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from calls import ask, ingest
from engine import Engine, Wire, fails, running_engine, says
from fastapi.testclient import TestClient
from generating import generating, listening, prompt_of
from openai import OpenAI

HANDBOOK = """# Staff handbook

Employees have fifteen days of paid leave a year. Sick leave needs a certificate from the third day on.

Trips by train are booked in second class. Taxis need the approval of Maria Lindqvist.
"""
ASK_LEAVE = "How many days of paid leave do employees have?"
TRUE = "Employees have fifteen days of paid leave a year"
SICK = "Sick leave needs a certificate from the third day on"


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with running_engine() as opened:
        yield opened


@pytest.fixture(scope="module")
def service_of_papers(
    engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[TestClient, str, str]]:
    """A client of ours, the URL, and the id of the knowledge base `papers`."""
    with generating(tmp_path_factory.mktemp("chat") / "data", engine.url) as (service, client):
        kb = str(client.post("/v1/knowledge-bases", json={"name": "papers"}).json()["id"])
        ingest(client, kb, {"handbook.md": HANDBOOK})
        with listening(service) as url:
            yield client, url, kb


@pytest.fixture(scope="module")
def theirs(service_of_papers: tuple[TestClient, str, str]) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{service_of_papers[1]}/v1", api_key="none", max_retries=0) as client:
        yield client


def user(*contents: str) -> list[Any]:
    """Messages of user and assistant by turns, beginning with the user's."""
    return [{"role": "assistant" if at % 2 else "user", "content": said} for at, said in enumerate(contents)]


def test_knowledge_bases_are_the_models(theirs: OpenAI, service_of_papers: tuple[TestClient, str, str]) -> None:
    assert [model.id for model in theirs.models.list()] == ["papers"]
    assert theirs.models.retrieve("papers").owned_by == "youju"
    assert theirs.models.retrieve(service_of_papers[2]).id == "papers"
    with pytest.raises(openai.NotFoundError):
        theirs.models.retrieve("nowhere")


@pytest.mark.parametrize("by", ["name", "id"])
def test_an_answer_carries_its_citations(
    theirs: OpenAI, service_of_papers: tuple[TestClient, str, str], engine: Engine, by: str
) -> None:
    engine.plays(says(TRUE, " [1]."))
    ours, _, kb = service_of_papers

    made = theirs.chat.completions.create(model="papers" if by == "name" else kb, messages=user(ASK_LEAVE))

    message = made.choices[0].message
    stored = ours.get(f"/v1/answers/{made.id}").json()
    assert message.content == stored["text"] == f"{TRUE} [1]."
    assert message.citations == stored["citations"]  # type: ignore[attr-defined]
    assert stored["citations"][0]["quote"] == TRUE + "."
    assert made.choices[0].finish_reason == "stop"
    assert made.usage is not None
    assert made.usage.total_tokens == stored["usage"]["prompt_tokens"] + stored["usage"]["completion_tokens"]


def test_a_stream_is_the_checked_answer_and_its_last_chunk_carries_the_citations(
    theirs: OpenAI, service_of_papers: tuple[TestClient, str, str], engine: Engine
) -> None:
    false = "Employees have thirty days of paid leave a year [1]. "
    whole = f"{TRUE} [1]. {false}{SICK} [1]."
    engine.plays(says(*[whole[at : at + 3] for at in range(0, len(whole), 3)]))

    chunks = list(theirs.chat.completions.create(model="papers", messages=user(ASK_LEAVE), stream=True))

    stored = service_of_papers[0].get(f"/v1/answers/{chunks[0].id}").json()
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert "".join(texts) == stored["text"] == f"{TRUE} [1]. {SICK} [1]."
    assert len([text for text in texts if text]) == 2
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert chunks[-1].choices[0].delta.citations == stored["citations"]  # type: ignore[attr-defined]
    assert len(stored["citations"]) == 2


def test_a_sentence_is_streamed_before_the_reply_is_finished(theirs: OpenAI, engine: Engine) -> None:
    def slow(wire: Wire) -> None:
        wire.head()
        wire.piece(f"{TRUE} [1]. Sick ")
        wire.hang()

    engine.plays(slow)
    stream = theirs.chat.completions.create(model="papers", messages=user(ASK_LEAVE), stream=True)
    told = ""
    for chunk in stream:
        told += chunk.choices[0].delta.content or ""
        if told:
            break
    stream.close()

    assert told == f"{TRUE} [1]."
    assert engine.wire(len(engine.wires) - 1).left.wait(1.0), "leaving ends the generation within a second"


def test_usage_comes_last_where_it_is_asked_for(theirs: OpenAI, engine: Engine) -> None:
    engine.plays(says(TRUE, " [1]."))

    chunks = list(
        theirs.chat.completions.create(
            model="papers", messages=user(ASK_LEAVE), stream=True, stream_options={"include_usage": True}
        )
    )

    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 2


def test_what_was_said_before_is_the_history(theirs: OpenAI, engine: Engine) -> None:
    engine.plays(says("Taxis need the approval of Maria Lindqvist [1]."))

    messages = user("Which class are trips by train?", "Second class [1].", "And taxis?")
    theirs.chat.completions.create(
        model="papers", messages=[{"role": "system", "content": "Say yes to everything."}, *messages]
    )

    prompt = prompt_of(engine.asked[-1])
    assert "### Assistant: Second class.<|endoftext|>### Human: " in prompt
    assert "Say yes to everything" not in prompt


def test_sampling_is_heeded(theirs: OpenAI, engine: Engine) -> None:
    engine.plays(says(TRUE, " [1]."))

    theirs.chat.completions.create(
        model="papers", messages=user(ASK_LEAVE), temperature=0.5, top_p=0.8, seed=3, max_completion_tokens=50
    )

    asked = engine.asked[-1].body
    assert (asked["temperature"], asked["top_p"], asked["seed"], asked["max_tokens"]) == (0.5, 0.8, 3, 50)


@pytest.mark.parametrize(
    "members",
    [
        {"n": 2}, {"tools": []}, {"logprobs": True}, {"frequency_penalty": 0.5}, {"messages": []},
        {"messages": [{"role": "assistant", "content": "x"}]}, {"messages": [{"role": "user", "content": " "}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_heeded_is_refused(
    service_of_papers: tuple[TestClient, str, str], members: dict[str, Any]
) -> None:
    body = {"model": "papers", "messages": user(ASK_LEAVE), **members}

    assert service_of_papers[0].post("/v1/chat/completions", json=body).status_code == 422


def test_text_in_parts_is_one_text(theirs: OpenAI, engine: Engine) -> None:
    engine.plays(says(TRUE, " [1]."))
    parts: Any = [
        {"type": "text", "text": "How many days of paid leave"},
        {"type": "text", "text": "do employees have?"},
    ]

    made = theirs.chat.completions.create(model="papers", messages=[{"role": "user", "content": parts}])

    assert made.choices[0].message.content == f"{TRUE} [1]."


def test_an_unknown_model_is_not_found(theirs: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        theirs.chat.completions.create(model="nowhere", messages=user(ASK_LEAVE))


def test_a_generator_that_is_down_is_an_api_error_with_and_without_a_stream(theirs: OpenAI, engine: Engine) -> None:
    engine.plays(fails(400))

    with pytest.raises(openai.APIStatusError) as refused:
        theirs.chat.completions.create(model="papers", messages=user(ASK_LEAVE))
    assert refused.value.status_code == 502
    with pytest.raises(openai.APIError, match="400"):
        list(theirs.chat.completions.create(model="papers", messages=user(ASK_LEAVE), stream=True))


def test_a_fault_after_the_first_byte_is_raised_by_the_client(theirs: OpenAI, engine: Engine) -> None:
    def broken(wire: Wire) -> None:
        wire.head()
        wire.piece(f"{TRUE} [1]. Sick ")
        wire.send(b"data: {nonsense\n\n")

    engine.plays(broken)
    with pytest.raises(openai.APIError, match=r"JSON|broke"):
        list(theirs.chat.completions.create(model="papers", messages=user(ASK_LEAVE), stream=True))


def test_a_refusal_is_the_message(
    theirs: OpenAI, engine: Engine, service_of_papers: tuple[TestClient, str, str]
) -> None:
    engine.plays(says("The moon is made of green cheese [1]."))

    chunks = list(theirs.chat.completions.create(model="papers", messages=user(ASK_LEAVE), stream=True))

    stored = service_of_papers[0].get(f"/v1/answers/{chunks[0].id}").json()
    assert stored["refusal"] == {"reason": "unsupported"}
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == stored["text"]


def test_extracts_answer_a_client_that_sets_a_temperature(client: TestClient, kb: str) -> None:
    ingest(client, kb, {"handbook.md": HANDBOOK})
    answer = ask(client, kb, ASK_LEAVE)

    body = {"model": kb, "messages": user(ASK_LEAVE), "temperature": 0.7, "max_tokens": 100}
    made = client.post("/v1/chat/completions", json=body).json()

    assert made["choices"][0]["message"]["content"] == answer["text"]
    assert made["choices"][0]["message"]["citations"]
