"""Calls of the REST contract that many tests begin with."""

from __future__ import annotations

import json
import re
from typing import Any

from conftest import finished
from fastapi.testclient import TestClient


def upload(client: Any, kb: str, files: dict[str, bytes], media_type: str = "application/octet-stream") -> Any:
    """The response to one request with all of `files`."""
    parts = [("files", (name, content, media_type)) for name, content in files.items()]
    return client.post(f"/v1/knowledge-bases/{kb}/documents", files=parts)


def ingest(client: TestClient, kb: str, files: dict[str, str | bytes]) -> dict[str, str]:
    """File name to document id, once all of them are ready."""
    encoded = {name: content.encode() if isinstance(content, str) else content for name, content in files.items()}
    accepted = upload(client, kb, encoded).json()
    job = finished(client, accepted["job_id"])
    assert job["state"] == "succeeded", job
    return {item["filename"]: item["document_id"] for item in accepted["items"]}


def ask(client: TestClient, kb: str, query: str, **members: Any) -> dict[str, Any]:
    response = client.post("/v1/answers", json={"query": query, "knowledge_base_ids": [kb], **members})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def retrieve(client: TestClient, kb: str, query: str, **members: Any) -> dict[str, Any]:
    response = client.post("/v1/retrieve", json={"query": query, "knowledge_base_ids": [kb], **members})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def events(response: Any) -> list[tuple[str, Any]]:
    """(name, data) of a stream of server-sent events, in order, pings left out."""
    assert response.headers["Content-Type"].startswith("text/event-stream"), response.text
    blocks = [block for block in re.split(r"\r?\n\r?\n", response.text) if block and not block.startswith(":")]
    return [_event(block) for block in blocks]


def _event(block: str) -> tuple[str, Any]:
    fields = dict(line.split(": ", 1) for line in re.split(r"\r?\n", block))
    assert set(fields) == {"event", "data"}, block
    return fields["event"], json.loads(fields["data"])
