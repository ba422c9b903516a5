"""The real service with its workers under load over HTTP, killed without warning, started again on the same data.

`python tests/crash/served.py --cycles 500` is the long tier.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

HERE = Path(__file__).parent
_CYCLES_A_FOLDER = 25
_CYCLES_A_CHECK = 5
FAILPOINTS = (
    "blob.written", "blob.renamed", "upload.bytes-stored", "upload.written", "upload.registered",
    "replace.bytes-stored", "replace.written", "replace.registered", "delete.written", "delete.committed",
    "delete.bytes-removed", "claim.committed", "ingest.parsed", "ingest.chunked", "ingest.embedded",
    "publish.written", "publish.committed", "publish.bytes-removed", "segment.sealed", "segment.renamed",
    "compact.written", "compact.named", "recover.bytes-removed", "recover.segment-removed",
)  # fmt: skip
KINDS = ("everything", "service", "worker", "failpoint")


@dataclass
class Promises:
    """What the service has acknowledged. An operation under way at a kill may have happened or not."""

    holds: dict[str, set[bytes]] = field(default_factory=dict)
    deleting: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)

    def kept(self) -> dict[str, set[bytes]]:
        return {document: contents for document, contents in dict(self.holds).items() if document not in self.deleting}


class Running:
    """`youju serve` with two workers in a process group of its own."""

    def __init__(self, data: Path, crash_at: str | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("YOUJU_")}
        environment |= {"YOUJU_LEASE_SECONDS": "2", "YOUJU_COMPACT_AFTER_CHUNKS": "5"}
        if crash_at is not None:
            environment |= {"CRASH_AT": crash_at, "PYTHONPATH": str(HERE / "armed")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rag_service", "serve", "--data", str(data), "--port", str(self.port),
             "--workers", "2", "--no-auth"],
            start_new_session=True, env=environment, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60)

    def wait(self, seconds: float = 60.0) -> bool:
        """Whether it answers; False once it is dead."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(httpx.TransportError):
                if httpx.get(f"http://127.0.0.1:{self.port}/healthz").status_code == 200:
                    return True
            time.sleep(0.02)
        return False

    def workers(self) -> list[int]:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(FileNotFoundError, ProcessLookupError):
                parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[1]
                if int(parent) == self.process.pid and b"ingest" in (entry / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
        return found

    def kill(self) -> None:
        """As a power cut would: no warning, and its workers with it."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass
class Report:
    cycles: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    deleted: int = 0
    replaced: int = 0
    breaches: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kills = ", ".join(f"{name} {count}" for name, count in sorted(self.kills.items()))
        return (
            f"{self.cycles} kills ({kills}), {self.acknowledged} uploads, {self.replaced} replacements and "
            f"{self.deleted} deletions acknowledged: {len(self.breaches)} breaches"
        )


class Cycles:
    def __init__(self, root: Path, seed: int) -> None:
        self._root = root
        self._dice = random.Random(seed)
        self._numbers = itertools.count(seed * 1_000_000)
        self.report = Report()
        self._begin()

    def _begin(self) -> None:
        """An empty folder and no promises."""
        self._data = self._root / f"data-{self.report.cycles}"
        self._promises, self._kb = Promises(), ""

    def run(self, cycles: int, seconds: float = float("inf")) -> Report:
        deadline = time.monotonic() + seconds
        for number in range(1, cycles + 1):
            self._cycle()
            last = number == cycles or time.monotonic() > deadline
            if last or number % _CYCLES_A_CHECK == 0:
                self._check()
            if last:
                break
            if number % _CYCLES_A_FOLDER == 0:
                shutil.rmtree(self._data)
                self._begin()
        return self.report

    def _cycle(self) -> None:
        kind = self._dice.choice(KINDS)
        at = f"{self._dice.choice(FAILPOINTS)}:{self._dice.randint(1, 6)}" if kind == "failpoint" else None
        running = Running(self._data, at)
        try:
            if running.wait():
                self._load(running, kind)
            self.report.kills[kind] += 1
        finally:
            running.kill()
        self.report.cycles += 1

    def _load(self, running: Running, kind: str) -> None:
        """Work until the service is killed, which ends each thread with a transport error."""
        if not self._kb:
            with suppress(httpx.TransportError), running.client() as client:
                self._kb = self._base(client)
        if not self._kb:
            return
        stop = threading.Event()
        threads = [
            threading.Thread(target=self._until_it_dies, args=(running, work, stop))
            for work in (self._uploads, self._deletions, self._replacements, self._searches)
        ]
        for thread in threads:
            thread.start()
        time.sleep(self._dice.uniform(0.1, 2.0) + (1.5 if kind == "failpoint" else 0.0))
        if kind == "service":
            running.process.kill()
        elif kind == "worker":
            for pid in running.workers():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(self._dice.uniform(0.0, 1.5))
        running.kill()
        stop.set()
        for thread in threads:
            thread.join(90)

    def _base(self, client: httpx.Client) -> str:
        """The knowledge base, made unless an earlier life was killed after making it."""
        for found in client.get("/v1/knowledge-bases").json()["items"]:
            return str(found["id"])
        return str(client.post("/v1/knowledge-bases", json={"name": "crash"}).json()["id"])

    def _until_it_dies(
        self, running: Running, work: Callable[[httpx.Client], Iterator[None]], stop: threading.Event
    ) -> None:
        try:
            with running.client() as client:
                for _ in work(client):
                    if stop.is_set():
                        return
        except httpx.TransportError:
            return
        except AssertionError as error:
            self.report.breaches.append(f"under load: {error}")

    def _uploads(self, client: httpx.Client) -> Iterator[None]:
        while True:
            contents = [content_of(next(self._numbers)) for _ in range(1 + next(self._numbers) % 3)]
            files = [("files", (f"{n}.txt", content, "text/plain")) for n, content in enumerate(contents)]
            response = client.post(f"/v1/knowledge-bases/{self._kb}/documents", files=files)
            assert response.status_code == 202, response.text
            for item, content in zip(response.json()["items"], contents, strict=True):
                self._promises.holds[item["document_id"]] = {content}
                self.report.acknowledged += 1
            yield

    def _replacements(self, client: httpx.Client) -> Iterator[None]:
        while True:
            yield from self._pause(client, 10)
            document = random.choice(list(self._promises.kept()))
            present = client.get(f"/v1/documents/{document}")
            if present.status_code == 404 and document in self._promises.deleting:
                continue
            content = content_of(next(self._numbers))
            self._promises.holds[document] = self._promises.holds[document] | {content}
            response = client.put(
                f"/v1/documents/{document}/content",
                files={"file": ("new.txt", content, "text/plain")}, headers={"If-Match": present.headers["ETag"]},
            )  # fmt: skip
            if response.status_code == 202:
                self._promises.holds[document] = {content}
                self.report.replaced += 1
            else:
                assert document in self._promises.deleting, response.text
            yield

    def _deletions(self, client: httpx.Client) -> Iterator[None]:
        while True:
            yield from self._pause(client, 20)
            victim = random.choice(list(self._promises.kept()))
            self._promises.deleting.add(victim)
            response = client.delete(f"/v1/documents/{victim}")
            assert response.status_code == 204, response.text
            self._promises.deleted.add(victim)
            self.report.deleted += 1
            yield

    def _pause(self, client: httpx.Client, least: int) -> Iterator[None]:
        """Until there are so many documents; a look at the service too, so that its death ends this."""
        time.sleep(0.05)
        while len(self._promises.kept()) < least:
            client.get("/healthz")
            time.sleep(0.02)
            yield

    def _searches(self, client: httpx.Client) -> Iterator[None]:
        while True:
            gone = self._promises.deleted.copy()
            back = retrieved(client, self._kb) & gone
            assert not back, f"deleted and found: {back}"
            yield

    def _check(self) -> None:
        """Everything acknowledged is there with its bytes and ends `ready` or `failed`; SQL, bytes and index agree."""
        running = Running(self._data)
        try:
            assert running.wait(), "the service did not come up again"
            with running.client() as client:
                self.report.breaches += self._breaches(client)
            running.process.terminate()
            running.process.wait(60)
        finally:
            running.kill()
        command = [sys.executable, "-m", "rag_service", "verify", "--deep", "--data", str(self._data)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            self.report.breaches.append(f"verify: {done.stdout}{done.stderr}")

    def _breaches(self, client: httpx.Client) -> Iterator[str]:
        deadline = time.monotonic() + 120
        while self._kb and waiting(client, self._kb, self._promises.kept()):
            if time.monotonic() > deadline:
                yield "documents wait for ever"
                return
            time.sleep(0.1)
        for document, contents in self._promises.kept().items():
            shown = client.get(f"/v1/documents/{document}")
            if shown.status_code != 200:
                yield f"{document} was acknowledged and is lost"
                continue
            error = shown.json()["error"]
            gave_up = error is not None and error["type"].endswith("worker-died")
            if shown.json()["state"] != "ready" and not gave_up:
                yield f"{document} is {shown.json()['state']}: {error}"
            if client.get(f"/v1/documents/{document}/content").content not in contents and not gave_up:
                yield f"{document} does not have the bytes it was given last"
        for document in self._promises.deleted:
            if client.get(f"/v1/documents/{document}").status_code != 404:
                yield f"{document} was deleted and is back"
        if self._kb:
            yield from (f"deleted and found: {d}" for d in retrieved(client, self._kb) & self._promises.deleted)


def content_of(number: int) -> bytes:
    """Unlike any other, in two paragraphs."""
    word, value = f"item{number}", number * 7
    return f"The number of {word} is {value}.\n\n{word} 的编号是 {value}，存放在第 {number % 9} 号仓库。\n".encode()


def retrieved(client: httpx.Client, kb: str) -> set[str]:
    body = {"query": "编号是多少", "knowledge_base_ids": [kb], "top_k": 50}
    response = client.post("/v1/retrieve", json=body)
    assert response.status_code == 200, response.text
    return {passage["document_id"] for passage in response.json()["passages"]}


def waiting(client: httpx.Client, kb: str, documents: Iterable[str]) -> bool:
    listings = [client.get(f"/v1/knowledge-bases/{kb}/documents?state={s}").json() for s in ("queued", "processing")]
    return any(listing["items"] for listing in listings) or any(is_replaced(client, one) for one in documents)


def is_replaced(client: httpx.Client, document: str) -> bool:
    """It answers, and is `ready`, with the version before while the bytes that its entity tag names are made ready."""
    shown = client.get(f"/v1/documents/{document}")
    return shown.status_code == 200 and shown.headers["ETag"].strip('"') != shown.json()["sha256"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="youju-served-") as root:
        report = Cycles(Path(root), given.seed).run(given.cycles)
    print(f"{report}, {time.monotonic() - begun:.0f} s")
    for breach in report.breaches[:20]:
        print(f"  {breach}")
    return 1 if report.breaches else 0


if __name__ == "__main__":
    sys.exit(main())
