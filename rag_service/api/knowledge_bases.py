from __future__ import annotations

from fastapi import APIRouter

from rag_service.api.context import CallerOf, Cursor, Limit, ServiceOf, StorageOf
from rag_service.api.shapes import KnowledgeBaseChange, KnowledgeBaseShape, Listing, NewKnowledgeBase

router = APIRouter(prefix="/v1/knowledge-bases", tags=["knowledge bases"])


@router.post("", status_code=201)
def create(body: NewKnowledgeBase, storage: StorageOf, caller: CallerOf) -> KnowledgeBaseShape:
    made = storage.knowledge_bases.create(caller.tenant, body.name, body.description)
    return KnowledgeBaseShape.model_validate(made)


@router.get("")
def browse(
    storage: StorageOf, caller: CallerOf, limit: Limit = 50, cursor: Cursor = None
) -> Listing[KnowledgeBaseShape]:
    found = storage.knowledge_bases.browse(caller.tenant, limit, cursor)
    return Listing.of(found, KnowledgeBaseShape.model_validate)


@router.get("/{kb}")
def get(kb: str, storage: StorageOf, caller: CallerOf) -> KnowledgeBaseShape:
    return KnowledgeBaseShape.model_validate(storage.knowledge_bases.get(caller.tenant, kb))


@router.patch("/{kb}")
def change(kb: str, body: KnowledgeBaseChange, storage: StorageOf, caller: CallerOf) -> KnowledgeBaseShape:
    changed = storage.knowledge_bases.change(caller.tenant, kb, name=body.name, description=body.description)
    return KnowledgeBaseShape.model_validate(changed)


@router.delete("/{kb}", status_code=204)
def delete(kb: str, service: ServiceOf, caller: CallerOf) -> None:
    service.storage.delete_knowledge_base(caller.tenant, kb)
    service.index.drop(kb)
