"""Fixtures of one service that many tests share; `conftest` makes them known everywhere."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterator

import pytest
from contract import Contract
from fastapi.testclient import TestClient

from ingest.bootstrap import open_ingestion
from rag_service import config
from rag_service.api.app import create_app
from rag_service.bootstrap import Service, open_service, open_storage


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service with its worker, for all tests that keep to knowledge bases of their own."""
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.upper().startswith("YOUJU_")]:
            environment.delenv(name)
        settings = config.load(data=tmp_path_factory.mktemp("running") / "data", compact_after_chunks=20)
    storage, ingestion = open_storage(settings), open_ingestion(settings)
    working = threading.Thread(target=ingestion.run)
    working.start()
    yield open_service(storage)
    ingestion.worker.stop()
    working.join()
    ingestion.close()
    storage.close()


@pytest.fixture(scope="session", name="client")
def shared_client(running: Service) -> Iterator[TestClient]:
    """The application without keys; every one of its responses is held against /openapi.json."""
    with TestClient(create_app(running, auth=False)) as opened:
        Contract.watch(opened)
        yield opened


@pytest.fixture(name="kb")
def own_knowledge_base(client: TestClient) -> str:
    """A knowledge base of the test's own."""
    made = client.post("/v1/knowledge-bases", json={"name": uuid.uuid4().hex})
    return str(made.json()["id"])
