from __future__ import annotations

from anyio import to_thread
from fastapi import APIRouter, Response

from rag_service.api.context import CallerOf, SearchingOf, ServiceOf, asked
from rag_service.api.shapes import Filters, RetrievalRequest, RetrievalShape, retrieval_shape
from rag_service.types import PassageFilter

router = APIRouter(prefix="/v1", tags=["asking"])


@router.post("/retrieve", response_model=RetrievalShape)
async def retrieve(body: RetrievalRequest, service: ServiceOf, caller: CallerOf, searching: SearchingOf) -> Response:
    query = asked(service.storage, body.query)

    def search() -> bytes:
        scope = list(dict.fromkeys(body.knowledge_base_ids))
        service.storage.knowledge_bases.demand(caller.tenant, scope)
        found = service.retriever.retrieve(caller.tenant, scope, query, body.top_k, _only(body.filters))
        return retrieval_shape(found, body.explain).model_dump_json().encode()

    # Made here and not by the framework, which would check once more what was just made from its own shapes.
    return Response(await to_thread.run_sync(search, limiter=searching), media_type="application/json")


def _only(filters: Filters) -> PassageFilter:
    return PassageFilter(
        document_ids=None if filters.document_ids is None else frozenset(filters.document_ids),
        languages=None if filters.languages is None else frozenset(filters.languages),
        media_types=None if filters.media_types is None else frozenset(filters.media_types),
        created_from=None if filters.created_from is None else filters.created_from.timestamp(),
        created_before=None if filters.created_before is None else filters.created_before.timestamp(),
    )
