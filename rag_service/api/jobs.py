from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from anyio import to_thread
from fastapi import APIRouter, Request
from sse_starlette import EventSourceResponse, ServerSentEvent

from rag_service.api import problems, sse
from rag_service.api.context import CallerOf, StorageOf
from rag_service.api.shapes import JobShape, job_shape
from rag_service.bootstrap import Storage
from rag_service.errors import YoujuError
from rag_service.types import Job

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

_LOOK_AGAIN_SECONDS = 0.3
_OPEN = ("queued", "running")


@router.get("/{job}")
def get(job: str, storage: StorageOf, caller: CallerOf) -> JobShape:
    return job_shape(storage.jobs.get(caller.tenant, job))


@router.delete("/{job}", status_code=202)
def cancel(job: str, storage: StorageOf, caller: CallerOf) -> JobShape:
    """Documents of it that are not ready by now will not be, until it is retried."""
    return job_shape(storage.jobs.cancel(caller.tenant, job))


@router.post("/{job}/retry", status_code=202)
def retry(job: str, storage: StorageOf, caller: CallerOf) -> JobShape:
    """What of it failed or was cancelled is ingested again."""
    return job_shape(storage.jobs.retry(caller.tenant, job))


@router.get("/{job}/events", response_class=EventSourceResponse, responses=sse.RESPONSES)
async def events(job: str, request: Request, storage: StorageOf, caller: CallerOf) -> EventSourceResponse:
    """`progress` whenever something changed, then one `done`; both carry the job. `error` where the job is gone."""
    first = await to_thread.run_sync(storage.jobs.get, caller.tenant, job)
    return sse.response(_progress(storage, caller.tenant, first, problems.request_id(request)))


async def _progress(storage: Storage, tenant: str, job: Job, request_id: str) -> AsyncIterator[ServerSentEvent]:
    yield sse.event("progress", job_shape(job))
    while job.state in _OPEN:
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        try:
            latest = await to_thread.run_sync(storage.jobs.get, tenant, job.id)
        except YoujuError as error:
            # It went with its knowledge base, say.
            yield sse.error(error, request_id)
            return
        if latest != job:
            job = latest
            yield sse.event("progress", job_shape(job))
    yield sse.event("done", job_shape(job))
