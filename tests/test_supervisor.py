"""Workers beside the service: one that is killed is replaced, and what it was working on is finished."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from conftest import Served, wait_until


def content_of(number: int) -> bytes:
    """Unlike any other, in two paragraphs."""
    word, value = f"item{number}", number * 7
    return f"The number of {word} is {value}.\n\n{word} 的编号是 {value}，存放在第 {number % 9} 号仓库。\n".encode()


def state_of(client: httpx.Client, document: str) -> str:
    return str(client.get(f"/v1/documents/{document}").json()["state"])


def worker_of(served: Served) -> int | None:
    """The process id of the service's worker."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[1]
            if int(parent) == served.process.pid and b"ingest" in (entry / "cmdline").read_bytes().split(b"\0"):
                return int(entry.name)
    return None


def test_a_killed_worker_is_replaced_and_its_document_finished(
    serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YOUJU_LEASE_SECONDS", "2")
    served = serve()
    with served.client() as client:
        kb = client.post("/v1/knowledge-bases", json={"name": "crash"}).json()["id"]
        large = b"\n\n".join(content_of(number) * 6 for number in range(250))
        response = client.post(f"/v1/knowledge-bases/{kb}/documents", files={"files": ("large.txt", large)})
        [item] = response.json()["items"]
        wait_until(lambda: state_of(client, item["document_id"]) == "processing", 30)
        first = worker_of(served)
        assert first is not None
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: state_of(client, item["document_id"]) != "processing", 60)
        assert state_of(client, item["document_id"]) == "ready"
        assert client.get(f"/v1/documents/{item['document_id']}").json()["chunks"] > 20
        assert client.get("/readyz").status_code == 200
        wait_until(lambda: worker_of(served) not in (None, first), 10)
