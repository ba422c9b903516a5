from __future__ import annotations

from fastapi import APIRouter

from rag_service.api.context import CallerOf, ServiceOf
from rag_service.api.shapes import FeedbackRequest, FeedbackShape

router = APIRouter(prefix="/v1/answers", tags=["asking"])


@router.put("/{answer}/feedback")
def put(answer: str, body: FeedbackRequest, service: ServiceOf, caller: CallerOf) -> FeedbackShape:
    """Replaces what was said of the answer before."""
    said = service.feedback.put(caller.tenant, answer, body.rating, body.comment, body.wrong_citations)
    return FeedbackShape.model_validate(said)
