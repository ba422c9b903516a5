from __future__ import annotations

from collections.abc import AsyncIterator
from io import BufferedReader
from typing import Annotated, Any, Literal
from urllib.parse import quote

from anyio import to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from starlette.datastructures import UploadFile

from rag_service.api import multipart
from rag_service.api.context import CallerOf, Cursor, Limit, StorageOf, ordinal
from rag_service.api.problems import Refused
from rag_service.api.shapes import (
    ChunkShape,
    DocumentShape,
    Listing,
    NewText,
    TextShape,
    Uploaded,
    UploadedItem,
    document_shape,
    problem_shape,
)
from rag_service.errors import BlobMissing, InvalidInput
from rag_service.intake import Accepted, Incoming, text_file

router = APIRouter(prefix="/v1", tags=["documents"])

_MOST_FILES = 1_000
_BLOCK_BYTES = 1 << 18
_MULTIPART = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            }
        },
    }
}

_ORIGINAL: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The bytes as they were uploaded, with the document's own media type",
        "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post("/knowledge-bases/{kb}/documents", status_code=202, openapi_extra=_MULTIPART)
async def upload(kb: str, request: Request, storage: StorageOf, caller: CallerOf) -> Uploaded:
    # Read here and not by the framework, which would read a body before it looks up the knowledge base.
    await to_thread.run_sync(storage.knowledge_bases.get, caller.tenant, kb)
    async with multipart.files(request, _MOST_FILES) as form:
        files = [_incoming(part) for part in form.getlist("files")]
        if not files or len(files) != len(form.multi_items()):
            raise InvalidInput("send one or more parts named 'files', each with a file name, and no other")
        job_id, accepted = await to_thread.run_sync(storage.intake.accept, caller.tenant, kb, files)
    return _uploaded(job_id, accepted)


@router.post("/knowledge-bases/{kb}/texts", status_code=202)
def add_text(kb: str, body: NewText, storage: StorageOf, caller: CallerOf) -> Uploaded:
    file = text_file(body.title, body.text, body.source_uri)
    return _uploaded(*storage.intake.accept(caller.tenant, kb, [file]))


@router.get("/knowledge-bases/{kb}/documents")
def browse(
    kb: str,
    storage: StorageOf,
    caller: CallerOf,
    state: Literal["queued", "processing", "ready", "failed"] | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Listing[DocumentShape]:
    found = storage.documents.browse(caller.tenant, kb, state, limit, cursor)
    return Listing.of(found, document_shape)


@router.get("/documents/{document}")
def get(document: str, storage: StorageOf, caller: CallerOf) -> DocumentShape:
    return document_shape(storage.documents.get(caller.tenant, document))


@router.get("/documents/{document}/text")
def text(
    document: str,
    storage: StorageOf,
    caller: CallerOf,
    start: Annotated[int, Query(ge=0)] = 0,
    end: Annotated[int | None, Query(ge=0)] = None,
) -> TextShape:
    return TextShape.model_validate(storage.documents.text(caller.tenant, document, start, end))


@router.get("/documents/{document}/chunks")
def chunks(
    document: str, storage: StorageOf, caller: CallerOf, limit: Limit = 50, cursor: Cursor = None
) -> Listing[ChunkShape]:
    found = storage.documents.chunks(caller.tenant, document, limit, ordinal(cursor))
    return Listing.of(found, ChunkShape.model_validate)


@router.get("/documents/{document}/content", response_class=StreamingResponse, responses=_ORIGINAL)
def content(document: str, storage: StorageOf, caller: CallerOf) -> StreamingResponse:
    found = storage.documents.get(caller.tenant, document)
    try:
        file = storage.blobs.open(found.sha256)
    except BlobMissing:
        # Deleted between the two, it is simply not there any more.
        storage.documents.get(caller.tenant, document)
        raise
    name = found.filename.replace("/", "_").replace("\\", "_")
    headers = {
        # Never shown in place: a document is not a page of this service, whatever it contains.
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        "Content-Length": str(found.bytes),
    }
    return StreamingResponse(_blocks(file), media_type=found.media_type, headers=headers)


@router.delete("/documents/{document}", status_code=204)
def delete(document: str, storage: StorageOf, caller: CallerOf) -> None:
    storage.delete_document(caller.tenant, document)


async def _blocks(file: BufferedReader) -> AsyncIterator[bytes]:
    with file:
        while block := await to_thread.run_sync(file.read, _BLOCK_BYTES):
            yield block


def _incoming(part: UploadFile | str) -> Incoming:
    if isinstance(part, str):
        raise InvalidInput("the part named 'files' has no file name")
    return Incoming(part.filename or "", part.content_type, part.file)


def _uploaded(job_id: str, accepted: list[Accepted]) -> Uploaded:
    """202, unless nothing was accepted: then the first refusal is the answer, with all of them in `items`."""
    first = accepted[0].problem
    if first is not None and all(entry.registered is None for entry in accepted):
        raise Refused(first, [_item(entry).model_dump() for entry in accepted])
    return Uploaded(job_id=job_id, items=[_item(entry) for entry in accepted])


def _item(entry: Accepted) -> UploadedItem:
    registered = entry.registered
    return UploadedItem(
        document_id=registered.document_id if registered else None,
        filename=entry.filename,
        sha256=entry.sha256,
        status=registered.status if registered else "rejected",
        problem=problem_shape(entry.problem),
    )
