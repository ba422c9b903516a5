from __future__ import annotations

from fastapi import APIRouter

from rag_service.api.context import CallerOf, Cursor, Limit, ServiceOf, ordinal
from rag_service.api.shapes import ConversationShape, Listing, MessageShape, NewConversation

router = APIRouter(prefix="/v1/conversations", tags=["asking"])


@router.post("", status_code=201)
def create(body: NewConversation, service: ServiceOf, caller: CallerOf) -> ConversationShape:
    service.storage.knowledge_bases.demand(caller.tenant, body.knowledge_base_ids)
    made = service.conversations.create(caller.tenant, body.title, body.knowledge_base_ids)
    return ConversationShape.model_validate(made)


@router.get("")
def browse(
    service: ServiceOf, caller: CallerOf, limit: Limit = 50, cursor: Cursor = None
) -> Listing[ConversationShape]:
    found = service.conversations.browse(caller.tenant, limit, cursor)
    return Listing.of(found, ConversationShape.model_validate)


@router.get("/{conversation}")
def get(conversation: str, service: ServiceOf, caller: CallerOf) -> ConversationShape:
    return ConversationShape.model_validate(service.conversations.get(caller.tenant, conversation))


@router.get("/{conversation}/messages")
def messages(
    conversation: str, service: ServiceOf, caller: CallerOf, limit: Limit = 50, cursor: Cursor = None
) -> Listing[MessageShape]:
    found = service.conversations.messages(caller.tenant, conversation, limit, ordinal(cursor))
    return Listing.of(found, MessageShape.model_validate)


@router.delete("/{conversation}", status_code=204)
def delete(conversation: str, service: ServiceOf, caller: CallerOf) -> None:
    service.conversations.delete(caller.tenant, conversation)
