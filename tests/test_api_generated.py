"""Answers that a model writes: over the real protocol, checked, streamed, stored, and what happens when it fails."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from calls import ask, events, ingest
from conftest import wait_until
from contract import check_problem
from engine import Engine, Script, Wire, fails, hangs, resets, running_engine, says
from fastapi.testclient import TestClient
from generating import TOKENIZER, generating, listening, number_of, prompt_of

from rag_service.bootstrap import Service
from rag_service.prompting import wording

HANDBOOK = """# Staff handbook

## Leave

Employees have fifteen days of paid leave a year. Sick leave needs a certificate from the third day on.

## Travel

Trips by train are booked in second class. Taxis need the approval of Maria Lindqvist.
"""
MANUAL = "# 产品手册\n\n星河路由器的保修期为两年。电源适配器的保修期为三年。\n"
ASK_LEAVE = "How many days of paid leave do employees have?"
TRUE = "Employees have fifteen days of paid leave a year"
FALSE = "Employees have thirty days of paid leave a year"


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with running_engine() as opened:
        yield opened


@pytest.fixture(scope="module")
def opened(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, TestClient]]:
    limits = {f"generator_{name}_seconds": 1.0 for name in ("connect", "first_token", "between_tokens")}
    data = tmp_path_factory.mktemp("generated") / "data"
    with generating(data, engine.url, generator_total_seconds=20, **limits) as both:
        yield both


@pytest.fixture(scope="module", name="client")
def own_client(opened: tuple[Service, TestClient]) -> TestClient:
    return opened[1]


@pytest.fixture(scope="module")
def kb(client: TestClient) -> str:
    kb = str(client.post("/v1/knowledge-bases", json={"name": "papers"}).json()["id"])
    ingest(client, kb, {"handbook.md": HANDBOOK, "manual.md": MANUAL})
    return kb


def replies(engine: Engine, text: str, **passages: str) -> None:
    """The next replies: `text` with every {name} as the number of the passage that holds that text."""

    def script(wire: Wire) -> None:
        prompt = prompt_of(wire.asked)
        numbers = {name: str(number_of(prompt, held)) for name, held in passages.items()}
        whole = re.sub(r"\{(\w+)\}", lambda match: numbers[match[1]], text)
        says(*[whole[at : at + 2] for at in range(0, len(whole), 2)])(wire)

    engine.plays(script)


def stream(client: TestClient, kb: str, query: str, **members: Any) -> list[tuple[str, Any]]:
    body = {"query": query, "knowledge_base_ids": [kb], "stream": True, **members}
    return events(client.post("/v1/answers", json=body))


def test_an_answer_is_the_models_with_every_citation_checked(client: TestClient, kb: str, engine: Engine) -> None:
    replies(engine, TRUE + " [{leave}].", leave="fifteen days")

    answer = ask(client, kb, ASK_LEAVE)

    [citation] = answer["citations"]
    assert (answer["outcome"], answer["generator"]) == ("answered", "openai:sus-chat")
    assert answer["text"] == f"{TRUE} [{citation['marker']}]."
    assert citation["quote"] == TRUE + "."
    assert citation["verdict"] == "supported"
    assert answer["text"][citation["answer_start"] : citation["answer_end"]] == answer["text"]
    span = f"start={citation['char_start']}&end={citation['char_end']}"
    stored = client.get(f"/v1/documents/{citation['document_id']}/text?{span}").json()
    assert stored["text"] == citation["quote"]
    assert client.get(f"/v1/answers/{answer['id']}").json() == answer


def test_the_prompt_is_the_cards_with_passages_and_question_and_every_sampling_field(
    client: TestClient, kb: str, engine: Engine
) -> None:
    replies(engine, TRUE + " [{leave}].", leave="fifteen days")
    answer = ask(client, kb, ASK_LEAVE, generation={"temperature": 0.7, "top_p": 0.9, "seed": 7, "max_tokens": 64})

    asked = engine.asked[-1].body
    prompt = TOKENIZER.transcript(asked["prompt"])
    assert prompt.startswith("### Human: ")
    assert prompt.endswith(f"Question: {ASK_LEAVE}\n\n### Assistant: ")
    assert TRUE in prompt
    assert (asked["temperature"], asked["top_p"], asked["seed"], asked["max_tokens"]) == (0.7, 0.9, 7, 64)
    assert asked["stop"] == ["### Human", "### Assistant"]
    assert asked["stop_token_ids"] == [2]
    assert answer["usage"]["prompt_tokens"] == len(asked["prompt"])


def test_without_wishes_the_reply_is_greedy(client: TestClient, kb: str, engine: Engine) -> None:
    replies(engine, "Nothing.")
    ask(client, kb, ASK_LEAVE)

    assert (engine.asked[-1].body["temperature"], engine.asked[-1].body["seed"]) == (0.0, 0)


@pytest.mark.parametrize(
    ("reply", "kept"),
    [
        (FALSE + " [{leave}]. Sick leave needs a certificate from the third day on [{leave}].", ["Sick leave"]),
        ("Trips by train are booked in second class [{leave}]. The moon is made of cheese [{leave}].", ["Trips"]),
    ],
)
def test_an_unsupported_sentence_is_taken_out(
    client: TestClient, kb: str, engine: Engine, reply: str, kept: list[str]
) -> None:
    replies(engine, reply, leave="fifteen days")

    answer = ask(client, kb, ASK_LEAVE)

    assert answer["outcome"] == "partial"
    assert [answer["text"].startswith(text) for text in kept] == [True]
    assert "thirty" not in answer["text"]
    assert "moon" not in answer["text"]
    assert all(citation["verdict"] != "unsupported" for citation in answer["citations"])


def test_an_answer_with_nothing_left_is_a_refusal(client: TestClient, kb: str, engine: Engine) -> None:
    replies(engine, FALSE + " [{leave}]. The moon is made of green cheese.", leave="fifteen days")

    answer = ask(client, kb, ASK_LEAVE)

    assert (answer["outcome"], answer["refusal"], answer["citations"]) == ("refused", {"reason": "unsupported"}, [])


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_models_own_refusal_is_one(client: TestClient, kb: str, engine: Engine, language: Any) -> None:
    replies(engine, wording.load()[language].refusal)

    answer = ask(client, kb, ASK_LEAVE, language=language)

    assert (answer["outcome"], answer["refusal"], answer["language"]) == (
        "refused",
        {"reason": "insufficient"},
        language,
    )


def test_a_sentence_without_a_mark_that_a_passage_plainly_supports_gets_one(
    client: TestClient, kb: str, engine: Engine
) -> None:
    replies(engine, TRUE + ".")

    answer = ask(client, kb, ASK_LEAVE)

    assert re.fullmatch(re.escape(TRUE) + r" ?\[\d\]\.", answer["text"])
    assert [citation["quote"] for citation in answer["citations"]] == [TRUE + "."]


@pytest.mark.parametrize("form", ["【{leave}】", "［{leave}］", "[citation:{leave}]", "[{leave}, 99]", ". [{leave}]"])
def test_marks_in_any_form_come_out_in_one(client: TestClient, kb: str, engine: Engine, form: str) -> None:
    replies(engine, TRUE + form + "." * (not form.startswith(".")), leave="fifteen days")

    answer = ask(client, kb, ASK_LEAVE)

    assert re.fullmatch(re.escape(TRUE) + r" ?\[\d\]\.", answer["text"])


def test_only_passages_of_the_prompt_can_be_cited(client: TestClient, kb: str, engine: Engine) -> None:
    replies(engine, TRUE + " [99][{leave}][0].", leave="fifteen days")

    told = stream(client, kb, ASK_LEAVE)

    shown = "".join(data["text"] for name, data in told if name == "delta")
    assert "[99]" not in shown
    assert "[0]" not in shown
    assert len(dict(told)["done"]["citations"]) == 1


def test_a_stream_tells_retrieval_packing_deltas_citations_and_one_end(
    client: TestClient, kb: str, engine: Engine
) -> None:
    replies(engine, TRUE + " [{leave}].", leave="fifteen days")

    told = stream(client, kb, ASK_LEAVE)

    names = [name for name, _ in told]
    assert names[:2] == ["retrieval", "packing"]
    assert names[-2:] == ["citation", "done"]
    assert set(names[2:-2]) == {"delta"}
    assert len(names) > 6
    answer = dict(told)["done"]
    report = dict(told)["packing"]["report"]
    assert report == client.get(f"/v1/answers/{answer['id']}/packing").json()
    assert sum(block["tokens"] for block in report["blocks"]) == report["prompt_tokens"]
    assert report["prompt_sha256"] == answer["prompt_sha256"]


def test_template_text_and_stop_strings_never_reach_the_client(client: TestClient, kb: str, engine: Engine) -> None:
    replies(engine, TRUE + " [{leave}].<|endoftext|>### Human: and now something else", leave="fifteen days")

    told = stream(client, kb, ASK_LEAVE)

    shown = "".join(data["text"] for name, data in told if name == "delta")
    assert shown.strip().endswith("].")
    assert "###" not in dict(told)["done"]["text"]


def test_a_reply_that_used_up_its_tokens_loses_its_torn_sentence(client: TestClient, kb: str, engine: Engine) -> None:
    engine.plays(says(TRUE + ". Sick leave needs a certif", finish="length"))

    answer = ask(client, kb, ASK_LEAVE)

    assert answer["outcome"] == "partial"
    assert "certif" not in answer["text"]
    assert answer["text"].startswith(TRUE)


def test_below_the_floor_no_model_is_asked(client: TestClient, engine: Engine) -> None:
    empty = client.post("/v1/knowledge-bases", json={"name": "empty"}).json()["id"]
    asked = len(engine.asked)

    answer = ask(client, empty, ASK_LEAVE)

    assert (answer["outcome"], answer["refusal"]) == ("refused", {"reason": "no_evidence"})
    assert len(engine.asked) == asked
    assert client.get(f"/v1/answers/{answer['id']}/packing").status_code == 404


FAULTS: dict[str, tuple[Script, int, str]] = {
    "hang at first token": (hangs, 504, "generator-timeout"),
    "reset": (resets, 502, "generator-unavailable"),
    "500": (fails(500), 502, "generator-unavailable"),
    "400": (fails(400), 502, "generation-failed"),
    "malformed": (lambda wire: (wire.head(), wire.send(b"data: {nonsense\n\n")), 502, "generation-failed"),
}


def quiet(service: Service, engine: Engine) -> None:
    """Nothing is under way any more, and the breaker has forgotten what it saw."""
    wait_until(lambda: engine.open == 0, 5)
    service.generator._breaker.__init__(failures=5, open_seconds=10.0, clock=time.monotonic)  # type: ignore


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_before_the_first_byte_has_a_status(
    opened: tuple[Service, TestClient], kb: str, engine: Engine, fault: str
) -> None:
    script, status, code = FAULTS[fault]
    engine.plays(script)
    begun = time.monotonic()

    response = opened[1].post("/v1/answers", json={"query": ASK_LEAVE, "knowledge_base_ids": [kb]})

    assert response.status_code == status
    assert check_problem(response)["type"].endswith(code)
    assert time.monotonic() - begun < 3.0
    quiet(opened[0], engine)


def test_a_fault_after_the_first_byte_is_the_streams_one_error(
    opened: tuple[Service, TestClient], kb: str, engine: Engine
) -> None:
    def half(wire: Wire) -> None:
        wire.head()
        wire.piece("Employees have fifteen days ")
        wire.hang()

    engine.plays(half)
    told = stream(opened[1], kb, ASK_LEAVE)

    names = [name for name, _ in told]
    assert names[-1] == "error"
    assert names.count("error") + names.count("done") == 1
    assert dict(told)["error"]["status"] == 504
    assert dict(told)["error"]["limit"] == "between_tokens"
    quiet(opened[0], engine)


def test_history_goes_into_the_prompt_without_its_marks_and_is_searched_for(
    client: TestClient, kb: str, engine: Engine
) -> None:
    replies(engine, "Trips by train are booked in second class [{train}].", train="second class")
    first = ask(client, kb, "Which class are trips by train booked in?")
    replies(engine, "Taxis need the approval of Maria Lindqvist [{taxi}].", taxi="Maria Lindqvist")
    second = ask(client, kb, "And taxis?", conversation_id=first["conversation_id"])

    prompt = prompt_of(engine.asked[-1])
    assert second["conversation_id"] == first["conversation_id"]
    assert "### Assistant: Trips by train are booked in second class.<|endoftext|>### Human: " in prompt
    assert prompt.endswith("Question: And taxis?\n\n### Assistant: ")


def test_a_window_too_small_for_the_question_is_refused_with_the_sizes(client: TestClient, kb: str) -> None:
    question = {"query": "why " * 1_900, "knowledge_base_ids": [kb]}
    response = client.post("/v1/pack", json={**question, "window_tokens": 1_000, "reply_tokens": 100})

    problem = check_problem(response)
    assert response.status_code == 422
    assert problem["type"].endswith("prompt-too-large")
    assert problem["question_tokens"] > 1_000


def test_packing_says_what_a_question_would_get_and_asks_nobody(client: TestClient, kb: str, engine: Engine) -> None:
    asked = len(engine.asked)

    body = {"query": ASK_LEAVE, "knowledge_base_ids": [kb], "window_tokens": 2_000, "reply_tokens": 200}
    report = client.post("/v1/pack", json=body).json()

    assert len(engine.asked) == asked
    assert (report["window_tokens"], report["reply_tokens"]) == (2_000, 200)
    assert report["prompt_tokens"] == sum(block["tokens"] for block in report["blocks"]) <= 1_800


@pytest.mark.parametrize(
    "members",
    [
        {"generation": {"temperature": 3}}, {"generation": {"top_p": 0}}, {"generation": {"max_tokens": 0}},
        {"generation": {"beams": 2}}, {"generation": {"max_tokens": 8_192}}, {"generation": {"seed": -1}},
    ],
    ids=str,
)  # fmt: skip
def test_wishes_that_cannot_be_are_refused(client: TestClient, kb: str, members: dict[str, Any]) -> None:
    response = client.post("/v1/answers", json={"query": ASK_LEAVE, "knowledge_base_ids": [kb], **members})

    assert response.status_code == 422
    check_problem(response)


def test_extracts_stand_in_for_a_generator_that_is_down_and_say_so(tmp_path: Path) -> None:
    with (
        running_engine() as engine,
        generating(tmp_path / "data", engine.url, generator_fallback="extractive") as (_, client),
    ):
        kb = client.post("/v1/knowledge-bases", json={"name": "papers"}).json()["id"]
        ingest(client, kb, {"handbook.md": HANDBOOK})
        engine.plays(fails(500))

        answer = ask(client, kb, ASK_LEAVE)
        told = stream(client, kb, ASK_LEAVE)

        assert (answer["outcome"], answer["generator"]) == ("answered", "extractive")
        assert TRUE in answer["text"].replace(" [1]", "")
        assert dict(told)["done"]["generator"] == "extractive"
        assert client.get("/readyz").json()["generator"] == "ok"


def test_extracts_stand_in_for_a_reply_that_broke_off_as_long_as_nothing_was_shown(tmp_path: Path) -> None:
    def breaks_off(wire: Wire) -> None:
        wire.head()
        wire.piece("Employees have fifteen ")
        wire.reset()

    with (
        running_engine() as engine,
        generating(tmp_path / "data", engine.url, generator_fallback="extractive") as (_, client),
    ):
        kb = client.post("/v1/knowledge-bases", json={"name": "papers"}).json()["id"]
        ingest(client, kb, {"handbook.md": HANDBOOK})
        engine.plays(breaks_off)

        assert ask(client, kb, ASK_LEAVE)["generator"] == "extractive"
        assert [name for name, _ in stream(client, kb, ASK_LEAVE)][-1] == "error"


def test_a_client_that_leaves_while_a_follow_up_is_rewritten_frees_the_slot(tmp_path: Path) -> None:
    with (
        running_engine() as engine,
        generating(tmp_path / "data", engine.url, rewriting="generator") as (service, client),
        listening(service) as url,
    ):
        kb = client.post("/v1/knowledge-bases", json={"name": "papers"}).json()["id"]
        ingest(client, kb, {"handbook.md": HANDBOOK})
        engine.plays(says(TRUE + " [1]."))
        first = ask(client, kb, ASK_LEAVE)
        engine.plays(hangs)
        body = {"query": "And what does it need then?", "knowledge_base_ids": [kb]}
        for streams in (True, False):
            asked = len(engine.wires)
            members = {"conversation_id": first["conversation_id"], "stream": streams}
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{url}/v1/answers", json=body | members, timeout=1.0)
            left_at = time.monotonic()
            assert engine.wire(asked).left.wait(10.0)
            assert time.monotonic() - left_at < 1.0


def test_unsupported_sentences_can_be_marked_instead(tmp_path: Path) -> None:
    with running_engine() as engine, generating(tmp_path / "data", engine.url, unsupported="mark") as (_, client):
        kb = client.post("/v1/knowledge-bases", json={"name": "papers"}).json()["id"]
        ingest(client, kb, {"handbook.md": HANDBOOK})
        sick = "Sick leave needs a certificate from the third day on [{leave}]."
        replies(engine, FALSE + " [{leave}]. " + sick, leave="fifteen days")

        answer = ask(client, kb, ASK_LEAVE)

        assert answer["outcome"] == "partial"
        assert answer["text"].startswith(FALSE)
        assert [citation["verdict"] for citation in answer["citations"]] == ["unsupported", "supported"]


def test_healed_spacing_leaves_the_blank_to_the_reply(tmp_path: Path) -> None:
    with running_engine() as engine, generating(tmp_path / "data", engine.url, spacing="healed") as (_, client):
        kb = client.post("/v1/knowledge-bases", json={"name": "papers"}).json()["id"]
        ingest(client, kb, {"handbook.md": HANDBOOK})
        engine.plays(says(" ", TRUE + "."))

        told = stream(client, kb, ASK_LEAVE)

        assert prompt_of(engine.asked[-1]).endswith("### Assistant:")
        assert "".join(data["text"] for name, data in told if name == "delta").startswith("Employees")


def test_a_follow_up_is_rewritten_by_the_generator_where_it_is_set_up_to(tmp_path: Path) -> None:
    with (
        running_engine() as engine,
        generating(tmp_path / "data", engine.url, rewriting="generator") as (service, client),
    ):
        kb = client.post("/v1/knowledge-bases", json={"name": "papers"}).json()["id"]
        ingest(client, kb, {"handbook.md": HANDBOOK})
        engine.plays(says(TRUE + " [1]."))
        first = ask(client, kb, ASK_LEAVE)
        conversation = {"conversation_id": first["conversation_id"]}
        engine.plays(says("What does sick leave of employees need?"), says("Sick leave needs a certificate [1]."))
        second = ask(client, kb, "And what does it need when they are sick?", **conversation)
        engine.plays(fails(500), fails(500), fails(500), says("Sick leave needs a certificate [1]."))
        third = ask(client, kb, "And what does it need when they are sick?", **conversation)

        origins = [service.answers.origin("default", answer["id"]) for answer in (second, third)]
        rewritten = [origin.provenance.retrieval_query for origin in origins]
        assert rewritten[0] == "What does sick leave of employees need?"
        # The generator was down for the rewriting: the rules did it.
        assert rewritten[1].endswith("And what does it need when they are sick?")
        assert [second["outcome"], third["outcome"]] == ["answered", "answered"]
        assert [message["content"] for message in client.get(
            f"/v1/conversations/{first['conversation_id']}/messages").json()["items"]][2] == (
                "And what does it need when they are sick?")  # fmt: skip
