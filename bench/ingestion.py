"""How much of the embedder's own rate is left when texts come in through the REST API, and by `youju ingest`."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

from bench.evalset import EN, ZH, corpus
from bench.results import Result
from bench.service import serving, wait_until_finished
from rag_service.inference.use_multilingual import UseMultilingualTokens

_TEXTS = 5_000
_MOST_TOKENS = 300
_ALONE = """
import json, sys, time
from rag_service.inference.use_multilingual import UseMultilingual
texts = json.load(sys.stdin)
model = UseMultilingual()
begun = time.perf_counter()
for text in texts:
    model.embed([text])
print(len(texts) / (time.perf_counter() - begun))
"""


def run(evaluation: Path, scratch: Path) -> list[Result]:
    texts = _one_passage_texts(evaluation)
    alone = _embedder_alone(texts)
    through = _through_the_api(texts, scratch / "ingestion")
    by_command = _by_command(texts, scratch / "ingestion-by-command")
    again = _embedder_alone(texts)
    own = max(alone, again)
    share, command_share = through / own, by_command / own
    return [
        Result(
            f"{len(texts):,} one-passage texts by `POST …/documents`, 100 a request, to `ready`, one worker",
            "≥ 80 % of the embedder's own rate, one process",
            f"{through:.0f}/s of {own:.0f}/s = {share:.0%}",
            share >= 0.8,
        ),
        Result(
            f"{len(texts):,} one-passage files by `youju ingest`, from the command's start to its end",
            "≥ 70 % of the embedder's own rate, one process",
            f"{by_command:.0f}/s of {own:.0f}/s = {command_share:.0%}",
            command_share >= 0.7,
        ),
    ]


def _one_passage_texts(evaluation: Path) -> list[str]:
    """Chinese and English, each text once and short enough to stay one chunk, in a fixed random order."""
    texts = list(dict.fromkeys(row["text"] for row in corpus(evaluation, ZH + EN)))
    random.Random(7).shuffle(texts)
    count = UseMultilingualTokens().count
    return list(islice((text for text in texts if count(text) <= _MOST_TOKENS), _TEXTS))


def _embedder_alone(texts: list[str]) -> float:
    """Texts a second, in a process of its own, nothing else running."""
    done = subprocess.run(
        [sys.executable, "-c", _ALONE], input=json.dumps(texts), capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def _through_the_api(texts: list[str], data: Path) -> float:
    with serving(data, workers=1) as running:
        client = running.client()
        kb = client.call("POST", "/v1/knowledge-bases", {"name": "bench"})["id"]
        # One text through the whole way first: the worker loads its model with the first document.
        wait_until_finished(client, [client.upload(kb, {"warm.txt": "A text that only warms the worker up."})])
        begun = time.perf_counter()
        jobs = [
            client.upload(kb, {f"{number}.txt": texts[number] for number in range(start, min(start + 100, len(texts)))})
            for start in range(0, len(texts), 100)
        ]
        wait_until_finished(client, jobs)
        seconds = time.perf_counter() - begun
        found = client.call("GET", f"/v1/knowledge-bases/{kb}")
    if found["chunks"] != len(texts) + 1:
        raise SystemExit(f"{found['chunks']} chunks of {len(texts)} one-passage texts")
    return len(texts) / seconds


def _by_command(texts: list[str], scratch: Path) -> float:
    """Files a second, all included: imports, the model's loading, the search for files, the report."""
    folder = scratch / "folder"
    folder.mkdir(parents=True)
    for number, text in enumerate(texts):
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "rag_service", "ingest", str(folder), "--kb", "bench", "--data", str(scratch)]
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - begun
    if f"{len(texts):,} ready" not in done.stdout and f"{len(texts)} ready" not in done.stdout:
        raise SystemExit(done.stdout[-2_000:])
    return len(texts) / seconds
