"""The real service with its worker under load, killed without warning, started again on the same data."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Served, wait_until

CYCLES, MOST_SECONDS = 8, 15.0


@dataclass
class Ledger:
    """What the service has acknowledged. An operation under way at a kill may have happened or not."""

    uploaded: dict[str, bytes] = field(default_factory=dict)
    deleting: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)

    def kept(self) -> dict[str, bytes]:
        return {document: content for document, content in self.uploaded.items() if document not in self.deleting}


@pytest.fixture(autouse=True)
def _quick_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOUJU_LEASE_SECONDS", "2")
    monkeypatch.setenv("YOUJU_COMPACT_AFTER_CHUNKS", "5")


def content_of(number: int) -> bytes:
    """Unlike any other, in two paragraphs."""
    word, value = f"item{number}", number * 7
    return f"The number of {word} is {value}.\n\n{word} 的编号是 {value}，存放在第 {number % 9} 号仓库。\n".encode()


def upload(client: httpx.Client, kb: str, ledger: Ledger, numbers: Any) -> None:
    choice = random.Random(next(numbers))
    while True:
        contents = [content_of(next(numbers)) for _ in range(choice.randint(1, 3))]
        files = [("files", (f"{n}.txt", content, "text/plain")) for n, content in enumerate(contents)]
        response = client.post(f"/v1/knowledge-bases/{kb}/documents", files=files)
        assert response.status_code == 202, response.text
        for item, content in zip(response.json()["items"], contents, strict=True):
            ledger.uploaded[item["document_id"]] = content


def delete(client: httpx.Client, ledger: Ledger) -> None:
    choice = random.Random(3)
    while True:
        left = list(ledger.kept())
        if len(left) < 40:
            # A look at the service too, so that its death ends this.
            client.get("/healthz")
            time.sleep(0.02)
            continue
        victim = choice.choice(left)
        ledger.deleting.add(victim)
        response = client.delete(f"/v1/documents/{victim}")
        assert response.status_code == 204, response.text
        ledger.deleted.add(victim)


def search(client: httpx.Client, kb: str, ledger: Ledger) -> None:
    while True:
        gone = set(ledger.deleted)
        assert not retrieved(client, kb, "编号是多少") & gone


def retrieved(client: httpx.Client, kb: str, query: str) -> set[str]:
    body = {"query": query, "knowledge_base_ids": [kb], "top_k": 50}
    response = client.post("/v1/retrieve", json=body)
    assert response.status_code == 200, response.text
    return {passage["document_id"] for passage in response.json()["passages"]}


def under_load(served: Served, seconds: float, *works: Callable[[httpx.Client], None]) -> list[Exception]:
    """Every work in a thread until the service is killed, which ends it with a transport error."""
    faults: list[Exception] = []

    def run(work: Callable[[httpx.Client], None]) -> None:
        try:
            with served.client() as client:
                work(client)
        except httpx.TransportError:
            return
        except Exception as error:  # noqa: BLE001 - handed to the test
            faults.append(error)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    served.kill()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return faults


def state_of(client: httpx.Client, document: str) -> str:
    response = client.get(f"/v1/documents/{document}")
    return str(response.json()["state"]) if response.status_code == 200 else str(response.status_code)


def verified(data: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rag_service", "verify", "--deep", "--data", str(data)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_nothing_acknowledged_is_lost_and_nothing_deleted_comes_back(serve: Callable[..., Served]) -> None:
    served, ledger, choice = serve(), Ledger(), random.Random(11)
    numbers = iter(range(10**9))
    with served.client() as client:
        kb = client.post("/v1/knowledge-bases", json={"name": "crash"}).json()["id"]
    begun = time.monotonic()
    for _ in range(CYCLES):
        faults = under_load(
            served, choice.uniform(0.1, 2.0),
            lambda client: upload(client, kb, ledger, numbers),
            lambda client: delete(client, ledger),
            lambda client: search(client, kb, ledger),
        )  # fmt: skip
        assert faults == []
        served = serve()
        if time.monotonic() - begun > MOST_SECONDS:
            break
    with served.client() as client:
        kept = ledger.kept()
        wait_until(lambda: not waiting(client, kb), 60)
        states = {document: state_of(client, document) for document in kept}
        assert set(states.values()) <= {"ready", "failed"}
        for document, state in states.items():
            stored = client.get(f"/v1/documents/{document}")
            assert state == "ready" or stored.json()["error"]["type"].endswith("worker-died"), stored.text
            assert client.get(f"/v1/documents/{document}/content").content == kept[document]
        assert {state_of(client, document) for document in ledger.deleted} <= {"404"}
        assert not retrieved(client, kb, "编号是多少") & ledger.deleted
    assert len(kept) >= 30
    assert len(ledger.deleted) >= 5
    served.process.terminate()
    served.process.wait(60)
    done = verified(served.data)
    assert done.returncode == 0, done.stdout


def waiting(client: httpx.Client, kb: str) -> bool:
    listings = [client.get(f"/v1/knowledge-bases/{kb}/documents?state={s}").json() for s in ("queued", "processing")]
    return any(listing["items"] for listing in listings)


def worker_of(served: Served) -> int | None:
    """The process id of the service's worker."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[1]
            if int(parent) == served.process.pid and b"ingest" in (entry / "cmdline").read_bytes().split(b"\0"):
                return int(entry.name)
    return None


def test_a_killed_worker_is_replaced_and_its_document_finished(serve: Callable[..., Served]) -> None:
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
