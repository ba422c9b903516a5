"""Conversations over the API: opened by hand or by an answer, kept, deleted."""

from __future__ import annotations

from calls import ask, ingest
from fastapi.testclient import TestClient


def test_an_answer_asked_without_a_conversation_opens_one(client: TestClient, kb: str) -> None:
    ingest(client, kb, {"a.txt": "The office opens at nine in the morning."})
    answer = ask(client, kb, "When does the office open?")

    conversation = client.get(f"/v1/conversations/{answer['conversation_id']}").json()

    assert conversation["title"] == "When does the office open?"
    assert conversation["knowledge_base_ids"] == [kb]


def test_question_and_answer_become_messages_oldest_first(client: TestClient, kb: str) -> None:
    first = ask(client, kb, "第一个问题是什么？")
    conversation = first["conversation_id"]
    second = ask(client, kb, "And the second?", conversation_id=conversation)

    messages = client.get(f"/v1/conversations/{conversation}/messages").json()["items"]

    assert [(m["role"], m["content"], m["answer_id"]) for m in messages] == [
        ("user", "第一个问题是什么？", None),
        ("assistant", first["text"], first["id"]),
        ("user", "And the second?", None),
        ("assistant", second["text"], second["id"]),
    ]
    times = [message["created_at"] for message in messages]
    assert times == sorted(times)


def test_messages_come_in_pages(client: TestClient, kb: str) -> None:
    conversation = client.post("/v1/conversations", json={}).json()["id"]
    for number in range(3):
        ask(client, kb, f"Question {number}?", conversation_id=conversation)

    seen, cursor = [], ""
    while cursor is not None:
        path = f"/v1/conversations/{conversation}/messages?limit=4" + (cursor and f"&cursor={cursor}")
        page = client.get(path).json()
        seen += [message["content"] for message in page["items"] if message["role"] == "user"]
        cursor = page["next_cursor"]

    assert seen == [f"Question {number}?" for number in range(3)]
    assert client.get(f"/v1/conversations/{conversation}/messages?cursor=nobody").status_code == 422


def test_a_conversation_can_be_opened_before_anything_is_asked(client: TestClient, kb: str) -> None:
    response = client.post("/v1/conversations", json={"title": "保修", "knowledge_base_ids": [kb]})

    assert response.status_code == 201
    made = response.json()
    assert (made["title"], made["knowledge_base_ids"]) == ("保修", [kb])
    assert client.get(f"/v1/conversations/{made['id']}").json() == made
    assert client.get(f"/v1/conversations/{made['id']}/messages").json() == {"items": [], "next_cursor": None}


def test_a_conversation_over_an_unknown_knowledge_base_is_not_opened(client: TestClient, kb: str) -> None:
    response = client.post("/v1/conversations", json={"knowledge_base_ids": [kb, "unknown"]})

    assert response.status_code == 404
    assert response.json()["knowledge_base_ids"] == ["unknown"]


def test_conversations_are_listed_newest_first(client: TestClient) -> None:
    made = [client.post("/v1/conversations", json={"title": str(n)}).json()["id"] for n in range(5)]

    seen: list[str] = []
    cursor = ""
    while cursor is not None and len(seen) < 5:
        page = client.get("/v1/conversations?limit=2" + (cursor and f"&cursor={cursor}")).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]

    assert seen[:5] == made[::-1]


def test_a_deleted_conversation_takes_its_answers_with_it(client: TestClient, kb: str) -> None:
    answer = ask(client, kb, "Is anybody there?")
    conversation = answer["conversation_id"]

    assert client.delete(f"/v1/conversations/{conversation}").status_code == 204

    gone = [f"conversations/{conversation}", f"conversations/{conversation}/messages", f"answers/{answer['id']}"]
    assert [client.get(f"/v1/{path}").status_code for path in gone] == [404] * 3
    assert client.delete(f"/v1/conversations/{conversation}").status_code == 404
    again = {"query": "x", "knowledge_base_ids": [kb], "conversation_id": conversation}
    assert client.post("/v1/answers", json=again).status_code == 404
