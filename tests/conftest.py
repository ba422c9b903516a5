"""Real parts for every test: a SQLite file, FAISS, tantivy, the embedder, a worker where something is ingested."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from ingest.bootstrap import Ingestion, open_ingestion
from rag_service import config
from rag_service.api.app import create_app
from rag_service.bootstrap import Service, Storage, open_service, open_storage
from rag_service.config import Settings
from rag_service.inference.use_multilingual import UseMultilingual
from rag_service.intake import Accepted, Incoming
from rag_service.types import Job

TENANT = "default"
SAMPLES = Path(__file__).parent.parent / "samples"


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("YOUJU_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def embedder() -> UseMultilingual:
    return UseMultilingual()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return config.load(data=tmp_path / "data", compact_after_chunks=20)


@pytest.fixture
def storage(settings: Settings) -> Iterator[Storage]:
    opened = open_storage(settings)
    yield opened
    opened.close()


@pytest.fixture
def service(storage: Storage) -> Service:
    return open_service(storage)


@pytest.fixture
def ingestion(storage: Storage) -> Iterator[Ingestion]:
    opened = open_ingestion(storage.settings)
    yield opened
    opened.close()


@dataclass(frozen=True)
class Shelf:
    """A knowledge base that texts and files can be put into, each call ending when they are ingested."""

    storage: Storage
    ingestion: Ingestion
    kb: str

    def accept(self, files: dict[str, bytes]) -> tuple[str, list[Accepted]]:
        incoming = [Incoming(name, None, io.BytesIO(content)) for name, content in files.items()]
        return self.storage.intake.accept(TENANT, self.kb, incoming)

    def put(self, files: dict[str, str | bytes]) -> Job:
        """File name to text or bytes; returns the finished job."""
        encoded = {name: c.encode() if isinstance(c, str) else c for name, c in files.items()}
        job_id, _ = self.accept(encoded)
        self.ingestion.worker.run(job_id)
        return self.storage.jobs.get(TENANT, job_id)

    def document(self, name: str) -> str:
        """The id of the live document of that name."""
        found = self.storage.documents.browse(TENANT, self.kb, None, 200, None).items
        return next(document.id for document in found if document.filename == name)


@pytest.fixture
def shelf(storage: Storage, ingestion: Ingestion) -> Shelf:
    return Shelf(storage, ingestion, storage.knowledge_bases.create(TENANT, "shelf").id)


@pytest.fixture
def api(service: Service, ingestion: Ingestion) -> Iterator[TestClient]:
    """The application without keys, with one worker beside it."""
    working = threading.Thread(target=ingestion.run)
    working.start()
    with TestClient(create_app(service, auth=False)) as client:
        yield client
    ingestion.worker.stop()
    working.join()


def wait_until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {seconds} s")
        time.sleep(0.02)


def finished(client: TestClient | httpx.Client, job_id: str, seconds: float = 60.0) -> dict[str, object]:
    """The job, once nothing of it is open."""
    wait_until(lambda: client.get(f"/v1/jobs/{job_id}").json()["finished_at"] is not None, seconds)
    job: dict[str, object] = client.get(f"/v1/jobs/{job_id}").json()
    return job


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Served:
    """`youju serve` in its own process."""

    process: subprocess.Popen[bytes]
    port: int
    data: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60)

    def kill(self) -> None:
        """As a power cut would: no warning, and its workers with it."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Starts services; each is ready when the call returns, and gone when the test is."""
    started: list[Served] = []

    def start(*options: str, data: Path | None = None, no_auth: bool = True) -> Served:
        folder, port = data or tmp_path / "served", free_port()
        command = [sys.executable, "-m", "rag_service", "serve", "--data", str(folder), "--port", str(port), *options]
        process = subprocess.Popen(command + (["--no-auth"] if no_auth else []), start_new_session=True)
        served = Served(process, port, folder)
        started.append(served)
        wait_until(lambda: process.poll() is not None or _is_ready(served), 60)
        assert process.poll() is None, f"serve ended with {process.returncode}"
        return served

    yield start
    for served in started:
        if served.process.poll() is None:
            served.process.terminate()
            served.process.wait(60)


def _is_ready(served: Served) -> bool:
    try:
        return httpx.get(f"{served.url}/readyz").status_code == 200
    except httpx.TransportError:
        return False
