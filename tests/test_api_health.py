"""What /readyz says of ingestion workers."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from rag_service.api.app import create_app
from rag_service.bootstrap import Service
from rag_service.db.tables import workers


@pytest.fixture
def alone(service: Service) -> Iterator[TestClient]:
    """A service that has run for a minute, with no worker beside it."""
    app = create_app(service, auth=False)
    app.state.opened_at = time.monotonic() - 60
    with TestClient(app) as client:
        yield client


def worker_of(client: TestClient) -> tuple[int, str]:
    response = client.get("/readyz")
    return response.status_code, response.json()["worker"]


def beat(service: Service, seconds_ago: float) -> None:
    service.storage.workers.beat("worker")
    with service.storage.database.write() as connection:
        connection.execute(update(workers).values(heartbeat_at=workers.c.heartbeat_at - seconds_ago))


def test_without_a_worker_a_service_is_not_ready(alone: TestClient) -> None:
    assert worker_of(alone) == (503, "no ingestion worker has ever reported")


def test_a_service_that_has_just_started_does_not_wait_for_its_workers(service: Service) -> None:
    with TestClient(create_app(service, auth=False)) as client:
        assert worker_of(client)[1] == "ok"


def test_a_worker_that_reported_lately_is_alive(alone: TestClient, service: Service) -> None:
    beat(service, 20)
    assert worker_of(alone)[1] == "ok"


def test_a_worker_that_has_not_reported_for_half_a_minute_is_missed(alone: TestClient, service: Service) -> None:
    beat(service, 41)
    assert worker_of(alone) == (503, "no ingestion worker has reported for 41 s")
