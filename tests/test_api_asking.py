"""Asking over the API: retrieval, answers with their citations, refusals, answers as they are made."""

from __future__ import annotations

import re
from typing import Any

import pytest
from calls import ask, events, ingest, retrieve
from fastapi.testclient import TestClient

ROUTER = """\
😀😀 Unboxing the Star River router.

The 😀 warranty of the Star River router lasts two years from delivery. \
The 😀 warranty of the Star River router lasts one year longer for the power adapter.
"""
HANDBOOK = "😀员工手册。\n\n员工😀每年享有十五天带薪年假。员工😀每年带薪年假的天数可以累积。病假需要提供医院证明。"
RECIPE = "Boil the potatoes for twenty minutes. Then mash them with butter and warm milk."
ASK_WARRANTY = "How long does the warranty of the Star River router last?"
ASK_LEAVE = "员工每年有多少天带薪年假？"
ASK_FOREIGN_EN = "How deep is the Mariana Trench in the Pacific?"
ASK_FOREIGN_ZH = "马里亚纳海沟在太平洋的哪个位置？"


@pytest.fixture(scope="module")
def shelf_of_three(client: TestClient) -> dict[str, str]:
    """Name of each document to its id, and under `kb` the knowledge base."""
    kb = client.post("/v1/knowledge-bases", json={"name": "asking"}).json()["id"]
    return {"kb": kb} | ingest(client, kb, {"router.txt": ROUTER, "handbook.txt": HANDBOOK, "recipe.md": RECIPE})


@pytest.fixture(scope="module")
def kb3(shelf_of_three: dict[str, str]) -> str:
    return shelf_of_three["kb"]


def test_passages_come_best_first_with_all_a_citation_needs(
    client: TestClient, shelf_of_three: dict[str, str], kb3: str
) -> None:
    found = retrieve(client, kb3, ASK_WARRANTY)

    best = found["passages"][0]
    scores = [passage["score"] for passage in found["passages"]]
    assert found["query_language"] == "en"
    assert (best["document_id"], best["filename"]) == (shelf_of_three["router.txt"], "router.txt")
    assert scores == sorted(scores, reverse=True)
    for passage in found["passages"]:
        span = f"start={passage['char_start']}&end={passage['char_end']}"
        text = client.get(f"/v1/documents/{passage['document_id']}/text?{span}").json()
        assert (text["text"], text["version"]) == (passage["text"], passage["document_version"])


def test_the_revision_says_how_new_the_passages_are(client: TestClient, kb: str) -> None:
    ingest(client, kb, {"a.txt": "The first text."})
    before = retrieve(client, kb, "text")["revision"]
    ingest(client, kb, {"b.txt": "The second text."})
    after = retrieve(client, kb, "text")["revision"]

    assert before[kb] < after[kb] == client.get(f"/v1/knowledge-bases/{kb}").json()["revision"]


def test_no_more_than_top_k_passages_come(client: TestClient, kb3: str) -> None:
    assert len(retrieve(client, kb3, ASK_WARRANTY, top_k=1)["passages"]) == 1
    assert len(retrieve(client, kb3, ASK_WARRANTY, top_k=50)["passages"]) == 3


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"languages": ["zh"]}, {"handbook.txt"}),
        ({"media_types": ["text/markdown"]}, {"recipe.md"}),
        ({"languages": ["en"], "media_types": ["text/plain"]}, {"router.txt"}),
        ({"languages": ["zh"], "media_types": ["text/markdown"]}, set()),
        ({"document_ids": ["unknown"]}, set()),
        ({}, {"router.txt", "handbook.txt", "recipe.md"}),
    ],
    ids=str,
)
def test_filters_let_through_only_what_they_name(
    client: TestClient, kb3: str, filters: dict[str, Any], expected: set[str]
) -> None:
    found = retrieve(client, kb3, ASK_WARRANTY, filters=filters)["passages"]

    assert {passage["filename"] for passage in found} == expected


def test_a_question_can_be_kept_to_some_documents(client: TestClient, shelf_of_three: dict[str, str], kb3: str) -> None:
    wanted = [shelf_of_three["recipe.md"], shelf_of_three["handbook.txt"]]

    found = retrieve(client, kb3, ASK_WARRANTY, filters={"document_ids": wanted})["passages"]

    assert {passage["document_id"] for passage in found} == set(wanted)


def test_scores_are_shown_to_those_who_ask(client: TestClient, kb3: str) -> None:
    plain = retrieve(client, kb3, ASK_WARRANTY)["passages"]
    explained = retrieve(client, kb3, ASK_WARRANTY, explain=True)["passages"]

    assert all(passage["scores"] is None for passage in plain)
    assert [passage["id"] for passage in explained] == [passage["id"] for passage in plain]
    for passage in explained:
        scores = passage["scores"]
        assert set(scores) == {"dense", "lexical", "bilingual", "fused", "rerank"}
        assert scores["rerank"] == passage["score"]
        said = scores["lexical"] + scores["bilingual"] - scores["lexical"] * scores["bilingual"]
        assert scores["fused"] == pytest.approx((scores["dense"] + said) / 2, abs=1e-3)


def test_several_knowledge_bases_are_searched_as_one(client: TestClient, kb: str, kb3: str) -> None:
    ingest(client, kb, {"other.txt": "The warranty of the lamp lasts one year."})
    body = {"query": "warranty", "knowledge_base_ids": [kb, kb3, kb]}

    found = client.post("/v1/retrieve", json=body).json()

    assert set(found["revision"]) == {kb, kb3}
    names = [passage["filename"] for passage in found["passages"]]
    assert {"other.txt", "router.txt"} <= set(names)
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("query", "language"), [(ASK_WARRANTY, "en"), (ASK_LEAVE, "zh")])
def test_every_quote_is_the_text_of_its_document_byte_for_byte(
    client: TestClient, kb3: str, query: str, language: str
) -> None:
    answer = ask(client, kb3, query)

    assert (answer["outcome"], answer["refusal"], answer["language"]) == ("answered", None, language)
    assert answer["citations"]
    for citation in answer["citations"]:
        span = f"start={citation['char_start']}&end={citation['char_end']}"
        text = client.get(f"/v1/documents/{citation['document_id']}/text?{span}").json()
        assert text["text"].encode() == citation["quote"].encode()
        assert text["version"] == citation["document_version"]
        assert citation["verdict"] == "supported"
        assert 0 <= citation["score"] <= 1


@pytest.mark.parametrize("query", [ASK_WARRANTY, ASK_LEAVE])
def test_every_citation_marks_the_sentence_of_the_answer_that_it_supports(
    client: TestClient, kb3: str, query: str
) -> None:
    answer = ask(client, kb3, query)

    sentences = []
    for citation in answer["citations"]:
        sentence = answer["text"][citation["answer_start"] : citation["answer_end"]]
        assert f"[{citation['marker']}]" in sentence
        assert re.sub(r" ?\[\d+\]", "", sentence) == citation["quote"]
        sentences.append(sentence)
    # Before the end of the first sentence, so that offsets in bytes or UTF-16 units would not pass.
    assert "😀" in sentences[0]
    assert len(sentences) > 1
    assert "".join(answer["text"].split()) == "".join("".join(sentences).split())


def test_a_stored_answer_is_the_one_that_was_given(client: TestClient, kb3: str) -> None:
    answer = ask(client, kb3, ASK_WARRANTY)

    assert client.get(f"/v1/answers/{answer['id']}").json() == answer
    assert answer["generator"] == "extractive"
    assert answer["revision"] == {kb3: client.get(f"/v1/knowledge-bases/{kb3}").json()["revision"]}
    assert answer["usage"]["prompt_tokens"] == 0
    assert set(answer["timings_ms"]) == {"retrieve", "pack", "generate", "verify", "total"}


@pytest.mark.parametrize(
    ("query", "language", "said"),
    [
        (ASK_FOREIGN_EN, "auto", "The documents"),
        (ASK_FOREIGN_ZH, "auto", "现有文档"),
        (ASK_FOREIGN_EN, "zh", "现有文档"),
        (ASK_FOREIGN_ZH, "en", "The documents"),
    ],
)
def test_a_refusal_comes_in_the_questions_language_with_a_reason_and_cites_nothing(
    client: TestClient, kb3: str, query: str, language: str, said: str
) -> None:
    answer = ask(client, kb3, query, language=language)

    assert answer["outcome"] == "refused"
    assert answer["refusal"]["reason"] in ("no_evidence", "insufficient")
    assert answer["citations"] == []
    assert answer["text"].startswith(said)
    assert client.get(f"/v1/answers/{answer['id']}").json() == answer


def test_an_empty_knowledge_base_answers_nothing(client: TestClient, kb: str) -> None:
    assert ask(client, kb, ASK_WARRANTY)["refusal"] == {"reason": "no_evidence"}
    assert retrieve(client, kb, ASK_WARRANTY)["passages"] == []


def test_a_deleted_document_is_never_cited(client: TestClient, kb: str) -> None:
    document = ingest(client, kb, {"router.txt": ROUTER})["router.txt"]
    assert ask(client, kb, ASK_WARRANTY)["outcome"] == "answered"

    client.delete(f"/v1/documents/{document}")

    assert ask(client, kb, ASK_WARRANTY)["outcome"] == "refused"


def streamed(client: TestClient, kb: str, query: str, **members: Any) -> list[tuple[str, Any]]:
    body = {"query": query, "knowledge_base_ids": [kb], "stream": True, **members}
    return events(client.post("/v1/answers", json=body))


@pytest.mark.parametrize("query", [ASK_WARRANTY, ASK_LEAVE, ASK_FOREIGN_EN])
def test_a_streamed_answer_comes_in_order_and_ends_in_one_done(client: TestClient, kb3: str, query: str) -> None:
    stream = streamed(client, kb3, query)

    names = "".join({"retrieval": "r", "delta": "d", "citation": "c", "done": "!"}[name] for name, _ in stream)
    assert re.fullmatch("rd+c*!", names), names
    answer = stream[-1][1]
    assert "".join(data["text"] for name, data in stream if name == "delta") == answer["text"]
    assert [data["citation"] for name, data in stream if name == "citation"] == answer["citations"]
    assert client.get(f"/v1/answers/{answer['id']}").json() == answer


def test_a_streamed_answer_is_the_one_that_comes_whole(client: TestClient, kb3: str) -> None:
    stream, whole = streamed(client, kb3, ASK_WARRANTY), ask(client, kb3, ASK_WARRANTY)

    own = {"id", "conversation_id", "timings_ms", "created_at"}
    assert {k: v for k, v in stream[-1][1].items() if k not in own} == {k: v for k, v in whole.items() if k not in own}
    assert [p["id"] for p in stream[0][1]["passages"]] == [
        p["id"] for p in retrieve(client, kb3, ASK_WARRANTY)["passages"]
    ]


def test_what_can_be_refused_before_streaming_is_an_http_error(client: TestClient, kb3: str) -> None:
    unknown_kb = {"query": "x", "knowledge_base_ids": ["unknown"], "stream": True}
    unknown_conversation = {"query": "x", "knowledge_base_ids": [kb3], "conversation_id": "unknown", "stream": True}
    nothing_asked = {"query": " ", "knowledge_base_ids": [kb3], "stream": True}

    answers = [client.post("/v1/answers", json=b) for b in (unknown_kb, unknown_conversation, nothing_asked)]

    assert [answer.status_code for answer in answers] == [404, 404, 422]


@pytest.mark.parametrize(
    "wrong",
    [
        {"top_k": 0},
        {"top_k": 51},
        {"top_k": "many"},
        {"knowledge_base_ids": []},
        {"knowledge_base_ids": ["x"] * 101},
        {"knowledge_base_ids": ["x" * 65]},
        {"filters": {"languages": ["fr"]}},
        {"filters": {"document_ids": []}},
        {"filters": {"colour": "red"}},
        {"explain": "perhaps"},
        {"colour": "red"},
    ],
    ids=lambda wrong: repr(wrong)[:40],
)
def test_a_retrieval_that_makes_no_sense_is_refused(client: TestClient, kb3: str, wrong: dict[str, Any]) -> None:
    body = {"query": ASK_WARRANTY, "knowledge_base_ids": [kb3], **wrong}

    assert client.post("/v1/retrieve", json=body).status_code == 422


@pytest.mark.parametrize(
    "wrong", [{"language": "fr"}, {"stream": "maybe"}, {"conversation_id": ""}, {"colour": "red"}], ids=str
)
def test_a_question_that_makes_no_sense_is_refused(client: TestClient, kb3: str, wrong: dict[str, Any]) -> None:
    body = {"query": ASK_WARRANTY, "knowledge_base_ids": [kb3], **wrong}

    assert client.post("/v1/answers", json=body).status_code == 422


@pytest.mark.parametrize(
    "query", ["!!!", "\u200b", "🙂", "((((", "a AND OR NOT", "text:*", "\x01", "'\"\\", "\u0300" * 500, "长" * 8_000]
)
def test_a_question_of_odd_characters_is_answered_like_any_other(client: TestClient, kb3: str, query: str) -> None:
    assert ask(client, kb3, query)["outcome"] in ("refused", "answered")
    assert isinstance(retrieve(client, kb3, query)["passages"], list)
