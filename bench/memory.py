"""Whether a worker's memory stays where it was over ten thousand documents."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bench.results import Result
from bench.service import serving, wait_until_finished
from bench.small_documents import small_document

_DOCUMENTS = 10_000
_STEP = 1_000
_SETTLED = 2
"""Steps after which caches are full and every parser has been used."""
_GROWTH = 1.05


def run(evaluation: Path, scratch: Path, documents: int = _DOCUMENTS) -> list[Result]:
    series = _ingest(documents, scratch / "memory")
    first, last = series[_SETTLED - 1], series[-1]
    growth = {role: last.get(role, 0) / size for role, size in first.items() if role != "parses"}
    return [
        Result(
            f"{documents:,} small documents of every format by one worker: memory after each {_STEP:,}",
            f"flat: after the first {_SETTLED * _STEP:,} no more than {_GROWTH - 1:.0%} growth of any process",
            "; ".join(map(_shown, series)),
            all(ratio <= _GROWTH for ratio in growth.values()),
        )
    ]


def _ingest(documents: int, data: Path) -> list[dict[str, int]]:
    """Resident bytes of each process of the worker, after each step."""
    series = []
    with serving(data, workers=1) as running:
        client = running.client()
        kb = client.call("POST", "/v1/knowledge-bases", {"name": "bench"})["id"]
        for start in range(0, documents, _STEP):
            jobs = [
                client.upload(kb, dict(small_document(number) for number in range(first, first + 100)))
                for first in range(start, start + _STEP, 100)
            ]
            wait_until_finished(client, jobs)
            series.append(_resident(running.process.pid))
            print(f"  {start + _STEP:,}: {_shown(series[-1])}", flush=True)
    return series


def _resident(service: int) -> dict[str, int]:
    """By role; what processes share is counted for each."""
    found = {"worker": 0, "embedder": 0, "zygote": 0, "parses": 0}
    for pid in _descendants(service):
        # A parse may end between any two looks.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found[_role(pid)] += _bytes(pid)
    return found


def _descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for child in map(int, task.read_text().split()):
                yield child
                yield from _descendants(child)


def _role(pid: int) -> str:
    command = Path(f"/proc/{pid}/cmdline").read_bytes()
    if b"ingest.embedding" in command:
        return "embedder"
    if b"ingest.zygote" not in command:
        return "worker"
    parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    return "parses" if b"ingest.zygote" in Path(f"/proc/{parent}/cmdline").read_bytes() else "zygote"


def _bytes(pid: int) -> int:
    """None of a process that has ended and was not waited for yet."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS")), 0)


def _shown(resident: dict[str, int]) -> str:
    return ", ".join(f"{role} {size // 1_000_000} MB" for role, size in resident.items())
