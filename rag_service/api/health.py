from __future__ import annotations

import logging
import shutil
from collections.abc import Callable

from anyio import to_thread
from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy import text

from rag_service.api.context import SecondsOpen, ServiceOf
from rag_service.bootstrap import Service, Storage
from rag_service.errors import YoujuError
from rag_service.ports import Ready

log = logging.getLogger(__name__)
router = APIRouter(tags=["operating"])

_LEAST_FREE_BYTES = 50_000_000
_LATE_SECONDS = 60
_SILENT_SECONDS = 30


class Alive(BaseModel):
    status: str = "ok"


class Readiness(BaseModel):
    """Each dependency: `ok`, or why not."""

    sql: str
    blobs: str
    index: str
    tokenizer: str
    embedder: str
    generator: str
    worker: str


@router.get("/healthz")
async def healthz() -> Alive:
    return Alive()


@router.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
async def readyz(service: ServiceOf, seconds_open: SecondsOpen) -> JSONResponse:
    readiness = await to_thread.run_sync(_readiness, service, seconds_open)
    ready = all(value == "ok" for value in readiness.model_dump().values())
    return JSONResponse(readiness.model_dump(), 200 if ready else 503)


def _readiness(service: Service, seconds_open: float) -> Readiness:
    return Readiness(
        sql=_checked(lambda: _sql(service.storage)),
        blobs=_checked(lambda: _blobs(service.storage)),
        index="ok" if service.loaded.is_set() else "loading",
        # Loaded at start, in this process: the service would not have come up without it.
        tokenizer="ok",
        embedder=_checked(lambda: _embedder(service)),
        generator=_checked(lambda: _generator(service)),
        worker=_checked(lambda: _worker(service.storage, seconds_open)),
    )


def _checked(check: Callable[[], str]) -> str:
    try:
        return check()
    except YoujuError as error:
        return error.detail
    except Exception as error:
        # Whatever a dependency dies of is what this route is there to tell.
        log.exception("a dependency is not ready")
        return type(error).__name__


def _sql(storage: Storage) -> str:
    with storage.database.read() as connection:
        connection.execute(text("SELECT 1"))
    return "ok"


def _blobs(storage: Storage) -> str:
    free = shutil.disk_usage(storage.settings.data).free
    return "ok" if free >= _LEAST_FREE_BYTES else f"only {free} bytes free in the data folder"


def _embedder(service: Service) -> str:
    """What was loaded into this process at its start is there."""
    return service.embedder.ready() if isinstance(service.embedder, Ready) else "ok"


def _generator(service: Service) -> str:
    """While extracts stand in for a generator that is down, questions are answered."""
    if service.generator is None or service.storage.settings.generator_fallback == "extractive":
        return "ok"
    return service.generator.ready()


def _worker(storage: Storage, seconds_open: float) -> str:
    late = storage.jobs.seconds_since_heartbeat()
    if late is not None and late >= _LATE_SECONDS:
        return f"a document's worker fell silent {late:.0f} s ago"
    silent = storage.workers.seconds_since_beat()
    # Workers begin with the service or after it, and load what they need first.
    if seconds_open < _SILENT_SECONDS or (silent is not None and silent < _SILENT_SECONDS):
        return "ok"
    if silent is None:
        return "no ingestion worker has ever reported"
    return f"no ingestion worker has reported for {silent:.0f} s"
