"""What people say of answers, and the questions that nobody could answer, over the API."""

from __future__ import annotations

from typing import Any

import pytest
from calls import ask, ingest
from fastapi.testclient import TestClient

HANDBOOK = "员工每年享有十五天带薪年假。病假需要提供医院证明。"
ASK_LEAVE = "员工每年有多少天带薪年假？"
UNKNOWN = "01a20992-be13-75da-a3ba-65bc64a14fa7"


@pytest.fixture(scope="module")
def answer(client: TestClient) -> dict[str, Any]:
    kb = client.post("/v1/knowledge-bases", json={"name": "feedback"}).json()["id"]
    ingest(client, kb, {"handbook.txt": HANDBOOK})
    made = ask(client, kb, ASK_LEAVE)
    assert made["citations"]
    return made


def put(client: TestClient, answer_id: str, **members: Any) -> Any:
    return client.put(f"/v1/answers/{answer_id}/feedback", json=members)


def test_feedback_comes_back_as_it_was_stored(client: TestClient, answer: dict[str, Any]) -> None:
    marker = answer["citations"][0]["marker"]

    response = put(client, answer["id"], rating=-1, comment="页码不对 😀", wrong_citations=[marker, marker])

    assert response.status_code == 200
    said = response.json()
    assert said.pop("created_at")
    assert said == {
        "answer_id": answer["id"], "rating": -1, "comment": "页码不对 😀", "wrong_citations": [marker],
    }  # fmt: skip


def test_later_feedback_replaces_earlier_whole(client: TestClient, answer: dict[str, Any]) -> None:
    put(client, answer["id"], rating=-1, comment="wrong", wrong_citations=[1])

    said = put(client, answer["id"], rating=1).json()

    assert (said["rating"], said["comment"], said["wrong_citations"]) == (1, None, [])


def test_a_citation_that_the_answer_does_not_have_is_named(client: TestClient, answer: dict[str, Any]) -> None:
    response = put(client, answer["id"], rating=-1, wrong_citations=[1, 77, 99])

    assert response.status_code == 422
    problem = response.json()
    assert problem["unknown_citations"] == ["77", "99"]
    assert "[77], [99]" in problem["detail"]


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"rating": 0},
        {"rating": 2},
        {"rating": "1"},
        {"rating": 1, "stars": 5},
        {"rating": 1, "comment": "x" * 10_001},
        {"rating": 1, "comment": "a\x00b"},
        {"rating": 1, "wrong_citations": [0]},
        {"rating": 1, "wrong_citations": [10**40]},
        {"rating": 1, "wrong_citations": ["one"]},
        {"rating": 1, "wrong_citations": [1] * 101},
    ],
    ids=lambda members: str(members)[:40],
)
def test_feedback_that_is_none_is_refused(client: TestClient, answer: dict[str, Any], members: dict[str, Any]) -> None:
    assert put(client, answer["id"], **members).status_code == 422


def test_an_unknown_answer_has_no_feedback(client: TestClient) -> None:
    assert put(client, UNKNOWN, rating=1).status_code == 404


def test_refused_questions_are_listed_newest_first_and_answered_ones_are_not(
    client: TestClient, answer: dict[str, Any], kb: str
) -> None:
    asked = [ask(client, kb, f"Question {number}?") for number in range(3)]
    assert {one["outcome"] for one in asked} == {"refused"}

    listed = client.get(f"/v1/unanswered?knowledge_base_id={kb}").json()

    assert listed["next_cursor"] is None
    assert [item["query"] for item in listed["items"]] == ["Question 2?", "Question 1?", "Question 0?"]
    newest = listed["items"][0]
    assert newest == {
        "answer_id": asked[-1]["id"], "query": "Question 2?", "reason": asked[-1]["refusal"]["reason"],
        "knowledge_base_ids": [kb], "conversation_id": asked[-1]["conversation_id"],
        "created_at": asked[-1]["created_at"],
    }  # fmt: skip
    everywhere = {item["answer_id"] for item in client.get("/v1/unanswered?limit=200").json()["items"]}
    assert everywhere >= {one["id"] for one in asked}
    assert answer["id"] not in everywhere


def test_refused_questions_come_in_pages(client: TestClient, kb: str) -> None:
    for number in range(5):
        ask(client, kb, f"Question {number}?")

    seen, cursor = [], ""
    while cursor is not None:
        page = client.get(f"/v1/unanswered?knowledge_base_id={kb}&limit=2" + (cursor and f"&cursor={cursor}")).json()
        seen += [item["query"] for item in page["items"]]
        cursor = page["next_cursor"]

    assert seen == [f"Question {number}?" for number in (4, 3, 2, 1, 0)]


def test_an_unknown_knowledge_base_has_no_list_of_refused_questions(client: TestClient) -> None:
    assert client.get(f"/v1/unanswered?knowledge_base_id={UNKNOWN}").status_code == 404
    assert client.get("/v1/unanswered?knowledge_base_id=%00").status_code == 422
