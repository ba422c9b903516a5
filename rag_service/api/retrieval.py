from __future__ import annotations

from fastapi import APIRouter

from rag_service.api.context import CallerOf, ServiceOf, asked
from rag_service.api.shapes import Filters, RetrievalRequest, RetrievalShape, retrieval_shape
from rag_service.types import PassageFilter

router = APIRouter(prefix="/v1", tags=["asking"])


@router.post("/retrieve")
def retrieve(body: RetrievalRequest, service: ServiceOf, caller: CallerOf) -> RetrievalShape:
    query = asked(service.storage, body.query)
    scope = list(dict.fromkeys(body.knowledge_base_ids))
    service.storage.knowledge_bases.demand(caller.tenant, scope)
    found = service.retriever.retrieve(caller.tenant, scope, query, body.top_k, _only(body.filters))
    return retrieval_shape(found, body.explain)


def _only(filters: Filters) -> PassageFilter:
    return PassageFilter(
        document_ids=None if filters.document_ids is None else frozenset(filters.document_ids),
        languages=None if filters.languages is None else frozenset(filters.languages),
        media_types=None if filters.media_types is None else frozenset(filters.media_types),
    )
