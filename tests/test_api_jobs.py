"""Jobs over the API: asked for, and followed as they go."""

from __future__ import annotations

import threading
import time
import uuid
from typing import Any

from calls import events, ingest, upload
from conftest import finished
from fastapi.testclient import TestClient


def test_a_finished_job_tells_what_became_of_every_document(client: TestClient, kb: str) -> None:
    files = {"good.txt": b"A good file.", "broken.pdf": b"%PDF-1.7 and no more"}
    accepted = upload(client, kb, files).json()

    job = finished(client, accepted["job_id"])

    assert (job["kind"], job["state"], job["stage"]) == ("ingest", "partial", "finished")
    assert (job["done"], job["total"]) == (2, 2)
    assert [item["document_id"] for item in job["items"]] == [item["document_id"] for item in accepted["items"]]
    assert [item["state"] for item in job["items"]] == ["ready", "failed"]
    problem = job["items"][1]["problem"]
    assert (problem["type"], problem["status"], problem["reason"]) == ("urn:youju:problem:parse-failed", 422, "broken")
    assert job["created_at"] <= job["finished_at"]


def test_a_job_whose_documents_all_failed_has_failed(client: TestClient, kb: str) -> None:
    job = finished(client, upload(client, kb, {"broken.pdf": b"%PDF-1.7 and no more"}).json()["job_id"])

    assert job["state"] == "failed"


def test_a_job_can_be_followed_to_its_end(client: TestClient, kb: str) -> None:
    files = {f"{n}.txt": f"Document {n}. {uuid.uuid4()} ".encode() * 200 for n in range(5)}
    job_id = upload(client, kb, files).json()["job_id"]

    followed = events(client.get(f"/v1/jobs/{job_id}/events"))

    names = [name for name, _ in followed]
    assert names[:-1] == ["progress"] * (len(names) - 1)
    assert names[-1] == "done"
    done = [job["done"] for _, job in followed]
    assert done == sorted(done)
    assert followed[-1][1] == client.get(f"/v1/jobs/{job_id}").json()
    assert followed[-1][1]["state"] == "succeeded"


def test_a_finished_job_is_followed_at_once(client: TestClient, kb: str) -> None:
    ingest(client, kb, {"a.txt": "Ingested long ago."})
    job_id = upload(client, kb, {"a.txt": b"Ingested long ago."}).json()["job_id"]

    begun = time.monotonic()
    followed = events(client.get(f"/v1/jobs/{job_id}/events"))

    assert [name for name, _ in followed] == ["progress", "done"]
    assert followed[0][1] == followed[1][1]
    assert time.monotonic() - begun < 2


def test_following_a_job_ends_with_an_error_when_its_knowledge_base_is_deleted(client: TestClient, kb: str) -> None:
    files = {f"{n}.txt": f"Document {n}. {uuid.uuid4()} ".encode() * 300 for n in range(10)}
    job_id = upload(client, kb, files).json()["job_id"]
    followed: list[Any] = []
    following = threading.Thread(target=lambda: followed.extend(events(client.get(f"/v1/jobs/{job_id}/events"))))

    following.start()
    time.sleep(0.2)
    client.delete(f"/v1/knowledge-bases/{kb}")
    following.join(20)

    name, problem = followed[-1]
    assert name == "error"
    assert (problem["type"], problem["status"]) == ("urn:youju:problem:not-found", 404)
    assert problem["instance"]


def test_a_job_can_be_cancelled_and_tried_again(client: TestClient, kb: str) -> None:
    files = {f"{n}.txt": f"Document {n}. {uuid.uuid4()} ".encode() * 300 for n in range(20)}
    job_id = upload(client, kb, files).json()["job_id"]

    cancelled = client.delete(f"/v1/jobs/{job_id}")

    assert cancelled.status_code == 202
    job = cancelled.json()
    assert job["finished_at"] is not None
    assert {item["state"] for item in job["items"]} <= {"ready", "cancelled"}
    for item in job["items"]:
        if item["state"] == "cancelled":
            document = client.get(f"/v1/documents/{item['document_id']}").json()
            assert (document["state"], document["error"]["type"], document["error"]["status"]) == (
                "failed", "urn:youju:problem:cancelled", 422,
            )  # fmt: skip

    again = client.post(f"/v1/jobs/{job_id}/retry")

    assert again.status_code == 202
    assert finished(client, job_id)["state"] == "succeeded"


def test_a_job_that_failed_can_be_tried_again(client: TestClient, kb: str) -> None:
    job_id = upload(client, kb, {"broken.pdf": b"%PDF-1.7 and no more"}).json()["job_id"]
    finished(client, job_id)

    again = client.post(f"/v1/jobs/{job_id}/retry").json()

    assert (again["state"], again["finished_at"]) in [("queued", None), ("running", None)]
    assert finished(client, job_id)["state"] == "failed"


def test_a_finished_job_has_nothing_to_cancel_or_to_try_again(client: TestClient, kb: str) -> None:
    job_id = upload(client, kb, {"a.txt": f"Finished {kb}.".encode()}).json()["job_id"]
    job = finished(client, job_id)

    assert client.delete(f"/v1/jobs/{job_id}").json() == job
    assert client.post(f"/v1/jobs/{job_id}/retry").json() == job


def test_no_such_job_can_be_cancelled_or_tried_again(client: TestClient) -> None:
    assert client.delete("/v1/jobs/none").status_code == 404
    assert client.post("/v1/jobs/none/retry").status_code == 404
