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
from hypothesis import given
from hypothesis import strategies as st
from openai import OpenAI

from rag_service.answering.ask import TURNS
from rag_service.answering.refusal import is_refusal, sentence
from rag_service.api import chat
from rag_service.api.chat_shapes import ChatMessage
from rag_service.types import Turn

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
        {"n": 2}, {"tools": [{"type": "function", "function": {"name": "f"}}]}, {"logprobs": True}, {"stop": ["."]},
        {"response_format": {"type": "json_object"}}, {"tool_choice": "required"}, {"modalities": ["text", "audio"]},
        {"audio": {"voice": "x", "format": "wav"}}, {"frequency_penalty": 0.5}, {"top_k": 40}, {"logit_bias": {"1": 5}},
        {"repetition_penalty": 1.1}, {"nobody_knows_this": 1},
    ],
    ids=str,
)  # fmt: skip
def test_what_would_change_the_answer_and_is_not_heeded_is_refused_by_name(
    theirs: OpenAI, members: dict[str, Any]
) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match=f"body/{next(iter(members))}"):
        theirs.chat.completions.create(model="papers", messages=user(ASK_LEAVE), extra_body=members)


@pytest.mark.parametrize(
    "members",
    [
        {"messages": []}, {"messages": [{"role": "system", "content": "x"}]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "assistant", "content": "x"}]}, {"messages": [{"role": "user", "content": " "}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
    ],
    ids=str,
)  # fmt: skip
def test_messages_that_end_in_no_question_are_refused(
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


@pytest.mark.parametrize("without_stream", [False, True])
def test_what_popular_clients_send_by_default_is_accepted(theirs: OpenAI, engine: Engine, without_stream: bool) -> None:
    engine.plays(says(TRUE, " [1]."))
    members: dict[str, Any] = {
        "n": 1, "stop": [], "tools": [], "functions": [], "tool_choice": "auto", "function_call": "none",
        "response_format": {"type": "text"}, "modalities": ["text"], "logit_bias": {}, "logprobs": False,
        "top_logprobs": 0, "frequency_penalty": 0, "presence_penalty": 0.0, "repetition_penalty": 1.0, "top_k": -1,
        "metadata": {"chat_id": "x"}, "store": False, "user": {"id": "x"}, "service_tier": "auto", "verbosity": "low",
        "safety_identifier": "x", "prompt_cache_key": "x", "parallel_tool_calls": True, "reasoning_effort": "low",
        "temperature": 1, "top_p": 1, "seed": None, "max_tokens": None, "audio": None, "web_search_options": None,
    }  # fmt: skip
    if not without_stream:
        members |= {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}}

    made: Any = theirs.chat.completions.create(model="papers", messages=user(ASK_LEAVE), extra_body=members)

    assert made.choices[0].message.content == f"{TRUE} [1]." if without_stream else list(made)


def test_our_own_message_can_be_sent_back(theirs: OpenAI, engine: Engine) -> None:
    engine.plays(says("Trips by train are booked in second class [1]."))
    messages = user("Which class are trips by train?")
    made = theirs.chat.completions.create(model="papers", messages=messages)
    engine.plays(says(TRUE, " [1]."))

    ours: Any = made.choices[0].message
    theirs.chat.completions.create(model="papers", messages=[*messages, ours, *user(ASK_LEAVE)])

    assert "### Assistant: Trips by train are booked in second class.<|endoftext|>" in prompt_of(engine.asked[-1])


def test_messages_of_and_about_tools_are_not_used(theirs: OpenAI, engine: Engine) -> None:
    engine.plays(says(TRUE, " [1]."))
    call = {"id": "call-1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    messages: list[Any] = [
        *user("How warm is it?"),
        {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]},
        {"role": "tool", "content": "minus forty", "tool_call_id": "call-1"},
        {"role": "assistant", "content": "Cold.", "audio": None, "function_call": None, "annotations": []},
        *user(ASK_LEAVE),
    ]

    theirs.chat.completions.create(model="papers", messages=messages)

    prompt = prompt_of(engine.asked[-1])
    assert "### Human: How warm is it?\n\n### Assistant: Cold.<|endoftext|>" in prompt
    assert "minus forty" not in prompt


def test_a_refusal_sent_back_is_not_in_the_next_prompt(theirs: OpenAI, engine: Engine) -> None:
    engine.plays(says("The moon is made of green cheese [1]."))
    messages = user(ASK_LEAVE)
    refused = theirs.chat.completions.create(model="papers", messages=messages)
    told = refused.choices[0].message.content
    assert told == sentence("unsupported", "en")
    engine.plays(says(TRUE, " [1]."))

    theirs.chat.completions.create(model="papers", messages=user(ASK_LEAVE, told, ASK_LEAVE))

    assert told not in prompt_of(engine.asked[-1])


def test_a_question_in_several_messages_is_one_question(theirs: OpenAI, engine: Engine) -> None:
    engine.plays(says(TRUE, " [1]."))
    messages: list[Any] = [*user("I am new here."), {"role": "system", "content": "Be brief."}, *user(ASK_LEAVE)]

    theirs.chat.completions.create(model="papers", messages=messages)

    assert f"Question: I am new here.\n{ASK_LEAVE}\n" in prompt_of(engine.asked[-1])


def test_more_tokens_than_a_reply_gets_are_no_more(theirs: OpenAI, engine: Engine) -> None:
    engine.plays(says(TRUE, " [1]."))

    for most in ({"max_tokens": 100_000}, {"max_completion_tokens": 4_096}):
        theirs.chat.completions.create(model="papers", messages=user(ASK_LEAVE), extra_body=most)
        assert engine.asked[-1].body["max_tokens"] == 900


@pytest.mark.parametrize(("finish", "reason"), [("length", "length"), ("stop", "stop")])
def test_a_reply_that_was_cut_off_says_so(theirs: OpenAI, engine: Engine, finish: str, reason: str) -> None:
    engine.plays(says(TRUE, " [1]. Sick leave needs", finish=finish))

    whole = theirs.chat.completions.create(model="papers", messages=user(ASK_LEAVE))
    *_, last = theirs.chat.completions.create(model="papers", messages=user(ASK_LEAVE), stream=True)

    assert (whole.choices[0].finish_reason, last.choices[0].finish_reason) == (reason, reason)


MESSAGES = st.builds(
    lambda role, text: ChatMessage(role=role, content=text),
    st.sampled_from(["system", "user", "assistant", "tool"]),
    st.text("abc ", max_size=3) | st.sampled_from([sentence("no_evidence", "zh"), sentence("insufficient", "en")]),
)


@given(st.lists(MESSAGES, max_size=12))
def test_nothing_that_was_said_is_lost_except_refusals_and_greetings(messages: list[ChatMessage]) -> None:
    history, question = chat._spoken([*messages, ChatMessage(role="user", content="Why?")])

    heard = "".join(f"{turn.question}\n{turn.answer}\n" for turn in history) + question
    said = [one for one in messages if one.role in ("user", "assistant")]
    while said and said[0].role == "assistant":
        said = said[1:]
    kept = [one.text for one in said if one.role == "user" or not is_refusal(one.text)]
    assert heard.replace("\n", "") == "".join(kept) + "Why?"
    assert not any(is_refusal(turn.answer) for turn in history)


@given(st.lists(st.integers(1, 150_000) | st.integers(1, 2_000), max_size=80))
def test_the_newest_of_a_long_history_are_read(lengths: list[int]) -> None:
    history = [Turn(f"message-{at}", "Why?", "x" * length) for at, length in enumerate(lengths)]

    kept = len(chat._newest(history))

    def characters(newest: int) -> int:
        return sum(lengths[len(lengths) - newest :]) + newest * len("Why?")

    assert list(chat._newest(history)) == history[len(history) - kept :]
    assert kept <= TURNS
    assert characters(kept) <= 200_000
    assert kept == min(len(history), TURNS) or characters(kept + 1) > 200_000


@pytest.mark.parametrize(("characters", "blocks"), [(100, 2), (200_001, 0)])
def test_what_is_beyond_the_bound_is_not_even_weighed_for_the_prompt(
    theirs: OpenAI, engine: Engine, service_of_papers: tuple[TestClient, str, str], characters: int, blocks: int
) -> None:
    engine.plays(says(TRUE, " [1]."))
    messages = user("Which class are trips by train?", "Second class.", "And taxis?", "x" * characters, ASK_LEAVE)

    made = theirs.chat.completions.create(model="papers", messages=messages)

    packing = service_of_papers[0].get(f"/v1/answers/{made.id}/packing").json()
    assert len([block for block in packing["blocks"] if block["kind"] == "history"]) == blocks


def test_an_unknown_model_is_not_found(theirs: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        theirs.chat.completions.create(model="nowhere", messages=user(ASK_LEAVE))


def test_errors_are_where_openais_clients_look_for_them(
    theirs: OpenAI, service_of_papers: tuple[TestClient, str, str]
) -> None:
    ours = service_of_papers[0]
    asked = {"model": "papers", "messages": [], "n": 2}

    with pytest.raises(openai.NotFoundError) as unknown:
        theirs.models.retrieve("nowhere")
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        theirs.chat.completions.create(**asked)  # type: ignore[call-overload]

    assert (unknown.value.code, unknown.value.type) == ("not-found", "urn:youju:problem:not-found")
    assert refused.value.code == "invalid-input"
    problem = ours.post("/v1/chat/completions", json=asked).json()
    assert "body/n: is not heeded: leave it out, or send 1" in problem["detail"]
    assert refused.value.body["message"] == problem["error"]["message"] == problem["detail"]  # type: ignore[index]
    assert ours.put("/v1/models").json()["error"]["code"] == "method-not-allowed"
    for elsewhere in ("/v1/answers/nowhere", "/v1/modelsx", "/v1/chat"):
        assert "error" not in ours.get(elsewhere).json()


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
