"""How soon an upload answers, and that a deleted document never does."""

from __future__ import annotations

import random
import statistics
import time
from pathlib import Path

from bench.evalset import EN, ZH, corpus
from bench.results import Result
from bench.service import Client, serving, wait_until_finished

_PAGES = 20
_OPERATIONS = 10_000


def run(evaluation: Path, scratch: Path) -> list[Result]:
    texts = [row["text"] for row in corpus(evaluation, ZH + EN)]
    with serving(scratch / "freshness", workers=1) as running:
        client = running.client()
        waits = _searchable_after(client, texts[:_PAGES])
        leaks, deletions, searches = _interleaved(client, texts[_PAGES:])
    worst = max(waits)
    return [
        Result(
            f"one page uploaded while idle is searchable, {_PAGES} times",
            "within 1 s",
            f"median {statistics.median(waits):.2f} s, worst {worst:.2f} s",
            worst <= 1.0,
        ),
        Result(
            f"{_OPERATIONS:,} interleaved uploads, searches and deletions",
            "0 leaks",
            f"{leaks} leaks ({deletions:,} deletions, {searches:,} searches)",
            leaks == 0,
        ),
    ]


def _searchable_after(client: Client, pages: list[str]) -> list[float]:
    kb = client.call("POST", "/v1/knowledge-bases", {"name": "pages"})["id"]
    waits = []
    # The worker loads its model with its first document; the service is idle and warm from then on.
    first = client.call("POST", f"/v1/knowledge-bases/{kb}/texts", {"title": "first", "text": "The first page."})
    wait_until_finished(client, [first["job_id"]])
    for number, page in enumerate(pages):
        time.sleep(0.5)
        begun = time.perf_counter()
        made = client.call("POST", f"/v1/knowledge-bases/{kb}/texts", {"title": f"page {number}", "text": page})
        while made["items"][0]["document_id"] not in _found(client, kb, page[:100]):
            time.sleep(0.01)
        waits.append(time.perf_counter() - begun)
    return waits


def _interleaved(client: Client, texts: list[str]) -> tuple[int, int, int]:
    """Every search after a deletion asks for the very text that was deleted."""
    kb = client.call("POST", "/v1/knowledge-bases", {"name": "interleaved"})["id"]
    choice = random.Random(11)
    live: dict[str, str] = {}
    deleted: list[tuple[str, str]] = []
    leaks = searches = at = 0
    for number in range(_OPERATIONS):
        kind = choice.choices(("upload", "delete", "search"), (3, 2, 5))[0]
        if kind == "upload" or not live:
            text = f"{texts[at % len(texts)]} ({number})"
            made = client.call("POST", f"/v1/knowledge-bases/{kb}/texts", {"title": f"t{number}", "text": text})
            live[made["items"][0]["document_id"]] = text
            at += 1
        elif kind == "delete":
            document = choice.choice(list(live)[-200:])
            client.call("DELETE", f"/v1/documents/{document}")
            deleted.append((document, live.pop(document)))
            leaks += document in _found(client, kb, deleted[-1][1][:100])
        elif deleted:
            gone = {document for document, _ in deleted}
            leaks += bool(gone & _found(client, kb, choice.choice(deleted[-50:])[1][:100]))
            searches += 1
    return leaks, len(deleted), searches


def _found(client: Client, kb: str, query: str) -> set[str]:
    body = {"query": query, "knowledge_base_ids": [kb], "top_k": 50}
    return {passage["document_id"] for passage in client.call("POST", "/v1/retrieve", body)["passages"]}
