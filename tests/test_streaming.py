"""Streams under way: what they occupy, and what becomes of it when a client leaves. On a real port."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Iterator

import httpx
import pytest
from calls import ingest
from conftest import wait_until
from engine import Engine, Wire, hangs, running_engine, says
from fastapi.testclient import TestClient
from generating import generating, listening

from rag_service.api import sse
from rag_service.bootstrap import Service

HANDBOOK = "# Staff handbook\n\nEmployees have fifteen days of paid leave a year. Sick leave needs a certificate.\n"
ASK_LEAVE = "How many days of paid leave do employees have?"
STREAMS = 200


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with running_engine() as opened:
        yield opened


@pytest.fixture(scope="module")
def opened(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, TestClient]]:
    data = tmp_path_factory.mktemp("streaming") / "data"
    with generating(data, engine.url, generator_queue=STREAMS, generator_between_tokens_seconds=60) as both:
        yield both


@pytest.fixture(scope="module")
def question(opened: tuple[Service, TestClient]) -> dict[str, object]:
    kb = opened[1].post("/v1/knowledge-bases", json={"name": "papers"}).json()["id"]
    ingest(opened[1], kb, {"handbook.md": HANDBOOK})
    return {"query": ASK_LEAVE, "knowledge_base_ids": [kb], "stream": True}


@pytest.fixture(scope="module")
def url(opened: tuple[Service, TestClient]) -> Iterator[str]:
    with listening(opened[0]) as at:
        yield at


def begins(wire: Wire) -> None:
    wire.head()
    wire.piece("Employees have ")
    wire.hang()


def last(engine: Engine) -> Wire:
    return engine.wires[-1]


def test_a_client_that_leaves_a_stream_frees_the_slot_within_a_second(
    url: str, question: dict[str, object], engine: Engine
) -> None:
    engine.plays(begins)
    with httpx.stream("POST", f"{url}/v1/answers", json=question, timeout=30) as response:
        for line in response.iter_lines():
            if line == "event: delta":
                break

    assert last(engine).left.wait(1.0)


def test_a_client_that_leaves_before_the_first_token_frees_it_too(
    url: str, question: dict[str, object], engine: Engine
) -> None:
    engine.plays(hangs)
    asked = len(engine.wires)
    with httpx.stream("POST", f"{url}/v1/answers", json=question, timeout=30) as response:
        # Kept: an iterator that is let go of closes the connection.
        lines = response.iter_lines()
        next(lines)
        wire = engine.wire(asked)

    assert wire.left.wait(1.0)


def test_a_client_that_leaves_without_a_stream_frees_it_too(
    url: str, question: dict[str, object], engine: Engine
) -> None:
    engine.plays(begins)
    asked = len(engine.wires)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/v1/answers", json={**question, "stream": False}, timeout=1.0)
    left_at = time.monotonic()

    assert engine.wire(asked).left.wait(10.0)
    assert time.monotonic() - left_at < 1.0


def test_a_client_that_leaves_a_replay_frees_the_slot_too(
    url: str, question: dict[str, object], engine: Engine
) -> None:
    engine.plays(says("Employees have fifteen days of paid leave a year [1]."))
    answer = httpx.post(f"{url}/v1/answers", json={**question, "stream": False}, timeout=30).json()
    engine.plays(hangs)
    asked = len(engine.wires)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/v1/answers/{answer['id']}/replay", json={}, timeout=1.0)
    left_at = time.monotonic()

    assert engine.wire(asked).left.wait(10.0)
    assert time.monotonic() - left_at < 1.0


def test_replays_over_a_hanging_engine_leave_the_rest_of_the_service_alone(
    url: str, question: dict[str, object], engine: Engine
) -> None:
    engine.plays(says("Employees have fifteen days of paid leave a year [1]."))
    answer = httpx.post(f"{url}/v1/answers", json={**question, "stream": False}, timeout=30).json()
    engine.plays(hangs)
    asked = len(engine.wires)

    async def run() -> None:
        async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=50)) as client:
            at = f"{url}/v1/answers/{answer['id']}/replay"
            hanging = [asyncio.create_task(client.post(at, json={})) for _ in range(45)]
            await asyncio.to_thread(wait_until, lambda: len(engine.wires) == asked + 45)
            assert (await client.get(f"{url}/v1/knowledge-bases", timeout=5)).status_code == 200
            for task in hanging:
                task.cancel()
            await asyncio.gather(*hanging, return_exceptions=True)

    asyncio.run(run())
    wait_until(lambda: engine.open == 0, 5)


def test_heartbeats_are_sent_while_nothing_comes(
    url: str, question: dict[str, object], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "_PING_SECONDS", 0.1)
    engine.plays(hangs)
    with httpx.stream("POST", f"{url}/v1/answers", json=question, timeout=30) as response:
        pings = 0
        for line in response.iter_lines():
            pings += line == ": ping"
            if pings == 3:
                break

    assert pings == 3


def test_two_hundred_open_streams_hold_no_thread_and_no_database_session(
    url: str, question: dict[str, object], engine: Engine, opened: tuple[Service, TestClient]
) -> None:
    engine.plays(begins)
    wait_until(lambda: engine.open == 0)
    before = _threads()

    async def run() -> None:
        limits = httpx.Limits(max_connections=STREAMS + 1)
        async with httpx.AsyncClient(timeout=60, limits=limits) as client:
            begun = [asyncio.create_task(_opened(client, url, question)) for _ in range(STREAMS)]
            streams = await asyncio.gather(*begun)
            assert await asyncio.to_thread(_settled, engine)
            assert _threads() - before <= 60
            assert opened[0].storage.database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
            # One more finds the generator full, and is told so before the first byte.
            refused = await client.post(f"{url}/v1/answers", json=question)
            assert (refused.status_code, refused.json()["type"]) == (503, "urn:youju:problem:overloaded")
            assert int(refused.headers["Retry-After"]) > 0
            await asyncio.gather(*(lines.aclose() for lines in streams))

    asyncio.run(run())
    wait_until(lambda: engine.open == 0, 5)


async def _opened(client: httpx.AsyncClient, url: str, question: dict[str, object]) -> AsyncGenerator[str]:
    """The lines of a stream, read as far as its first delta: letting go of them would close it."""
    response = await client.send(client.build_request("POST", f"{url}/v1/answers", json=question), stream=True)
    assert response.status_code == 200
    lines = response.aiter_lines()
    while await anext(lines) != "event: delta":
        pass
    return lines  # type: ignore[return-value]


def _settled(engine: Engine) -> bool:
    wait_until(lambda: engine.open == STREAMS)
    time.sleep(0.5)
    return True


def _threads() -> int:
    """Those of the service: the engine's own are one a question."""
    return sum(not thread.name.startswith("engine") for thread in threading.enumerate())
