from __future__ import annotations

from fastapi import APIRouter

from rag_service.api.context import CallerOf, Cursor, Limit, ServiceOf, StorageOf
from rag_service.api.shapes import (
    EmbedderChangeShape,
    KnowledgeBaseChange,
    KnowledgeBaseShape,
    Listing,
    NewEmbedder,
    NewKnowledgeBase,
)
from rag_service.bootstrap import Service
from rag_service.errors import (
    EmbedderTimeout,
    EmbedderUnavailable,
    EmbeddingFailed,
    InvalidConfiguration,
    InvalidInput,
)

router = APIRouter(prefix="/v1/knowledge-bases", tags=["knowledge bases"])


@router.post("", status_code=201)
def create(body: NewKnowledgeBase, service: ServiceOf, caller: CallerOf) -> KnowledgeBaseShape:
    if body.embedder is not None:
        _demand(service, body.embedder)
    made = service.storage.knowledge_bases.create(caller.tenant, body.name, body.description, body.embedder)
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


@router.post("/{kb}/embedder", status_code=202)
def change_embedder(kb: str, body: NewEmbedder, service: ServiceOf, caller: CallerOf) -> EmbedderChangeShape:
    """A job embeds everything anew beside what answers, and then lets that answer. One at a time: 409."""
    service.storage.knowledge_bases.demand(caller.tenant, [kb])
    _demand(service, body.embedder)
    return EmbedderChangeShape(job_id=service.storage.reembeddings.begin(caller.tenant, kb, body.embedder))


def _demand(service: Service, embedder: str) -> None:
    """It is one that callers may choose, and here it can be opened. Raises InvalidInput."""
    if embedder not in service.storage.settings.offered:
        raise InvalidInput(f"{embedder!r} is not offered here", offered=sorted(service.storage.settings.offered))
    try:
        service.embedders.dimensions(embedder)
    except (InvalidConfiguration, EmbedderUnavailable, EmbedderTimeout, EmbeddingFailed) as error:
        raise InvalidInput(f"{embedder} is not available: {error.detail}", embedder=embedder) from error
