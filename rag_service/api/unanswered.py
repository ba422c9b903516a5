from __future__ import annotations

from fastapi import APIRouter

from rag_service.api.context import CallerOf, Cursor, Limit, ServiceOf
from rag_service.api.shapes import Id, Listing, UnansweredShape

router = APIRouter(prefix="/v1/unanswered", tags=["asking"])


@router.get("")
def browse(
    service: ServiceOf,
    caller: CallerOf,
    knowledge_base_id: Id | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Listing[UnansweredShape]:
    """Questions that were refused, newest first."""
    found = service.unanswered.browse(caller.tenant, knowledge_base_id, limit, cursor)
    return Listing.of(found, UnansweredShape.model_validate)
