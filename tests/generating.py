"""A service whose generator is a completions server of the test's own, over the real protocol."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from conftest import wait_until
from contract import Contract
from engine import Asked
from fastapi.testclient import TestClient

from ingest.bootstrap import open_ingestion
from rag_service import config
from rag_service.api.app import create_app
from rag_service.bootstrap import Service, open_service, open_storage
from rag_service.prompting import tokenizer

TOKENIZER = tokenizer.load("sus-chat-34b")


def prompt_of(asked: Asked) -> str:
    """What the server was asked, as text."""
    return TOKENIZER.transcript(asked.body["prompt"])


def number_of(prompt: str, text: str) -> int:
    """The number of the passage of the prompt that holds `text`."""
    at = prompt.index(text)
    return int(re.findall(r"^\[(\d+)\] ", prompt[:at], re.MULTILINE)[-1])


@contextmanager
def generating(data: Path, url: str, **settings: Any) -> Iterator[tuple[Service, TestClient]]:
    """The service with its worker; every response is held against /openapi.json."""
    loaded = config.load(data=data, generator="openai", generator_url=url, generator_model="sus-chat", **settings)
    with closing(open_storage(loaded)) as storage, closing(open_ingestion(loaded)) as ingestion:
        working = threading.Thread(target=ingestion.run)
        working.start()
        try:
            with closing(open_service(storage)) as service, TestClient(create_app(service, auth=False)) as client:
                Contract.watch(client)
                yield service, client
        finally:
            ingestion.worker.stop()
            working.join()


@contextmanager
def listening(service: Service) -> Iterator[str]:
    """The service on a port of its own, in a thread: the URL. What clients do to connections is real."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(create_app(service, auth=False), log_level="warning"))
        running = threading.Thread(target=server.run, args=([bound],))
        running.start()
        try:
            wait_until(lambda: server.started)
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            server.should_exit = True
            running.join()
