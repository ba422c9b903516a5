"""The application: routes, what every request passes before them, and the page at `/`."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, FastAPI
from fastapi.responses import FileResponse
from fastapi.security import HTTPBearer
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline

from rag_service import __version__
from rag_service.api import (
    answers,
    chat,
    conversations,
    documents,
    eval_runs,
    feedback,
    health,
    jobs,
    knowledge_bases,
    problems,
    retrieval,
    sync,
    unanswered,
)
from rag_service.api.middleware import Admission, Authentication, BodyLimit, Identified
from rag_service.bootstrap import Service
from rag_service.evaluation.evaluations import Background, Evaluations

DEFAULT_TENANT = "default"
_WEB = Path(__file__).parent / "web"
_PAGE_POLICY = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
# Checked by `middleware.Authentication`; stands here so that /docs and clients made from /openapi.json know of it.
_BEARER = HTTPBearer(auto_error=False, description="An API key from `youju keys create`: `yj_…`")


def create_app(service: Service, *, auth: bool) -> FastAPI:
    """`auth=False`: every caller is the default tenant; only for loopback addresses, which `serve` makes sure of."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        threading.Thread(target=service.preload, name="preload", daemon=True).start()
        yield
        await to_thread.run_sync(app.state.background.close)

    app = FastAPIOffline(
        title="Youju 有据", version=__version__, lifespan=lifespan, docs_url="/docs", redoc_url=None,
        responses=problems.RESPONSES,
    )  # fmt: skip
    app.state.service = service
    app.state.opened_at = time.monotonic()
    app.state.background = Background(Evaluations(service), service.eval_runs)
    # More searches at once than cores only take turns at the interpreter (eight at once on two cores: a fifth fewer
    # requests a second); the others wait in order, and `Admission` bounds how many.
    app.state.searching = CapacityLimiter(len(os.sched_getaffinity(0)))
    problems.install(app)
    app.include_router(health.router)
    for module in (
        knowledge_bases, documents, sync, jobs, retrieval, answers, feedback, unanswered, conversations, chat,
        eval_runs,
    ):  # fmt: skip
        app.include_router(module.router, dependencies=[Depends(_BEARER)])
    _add_page(app)
    settings = service.storage.settings
    # The last one added is the first one passed.
    app.add_middleware(Admission, most=settings.max_concurrent_questions)
    app.add_middleware(Authentication, caller_of=service.storage.keys.caller if auth else None, tenant=DEFAULT_TENANT)
    app.add_middleware(BodyLimit, most_bytes=settings.max_upload_bytes)
    app.add_middleware(Identified)
    return app


def _add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(_WEB / "index.html", headers={"Content-Security-Policy": _PAGE_POLICY})

    app.mount("/static", StaticFiles(directory=_WEB), name="static")
