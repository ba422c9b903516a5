from __future__ import annotations

import re
from collections.abc import AsyncIterator
from io import BufferedReader
from typing import Annotated, Any, Literal
from urllib.parse import quote

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.datastructures import FormData, UploadFile

from rag_service.api import multipart
from rag_service.api.context import CallerOf, Cursor, IdempotencyKey, Limit, StorageOf, ordinal
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
from rag_service.bootstrap import Storage
from rag_service.errors import BlobMissing, InvalidInput, VersionRequired
from rag_service.intake import Accepted, Incoming, Receipt, text_file
from rag_service.types import Document

router = APIRouter(prefix="/v1", tags=["documents"])

_MOST_FILES = 20_000
_BLOCK_BYTES = 1 << 18
_ETAGS = re.compile(r'(?:W/)?"[^"]*"(?:\s*,\s*(?:W/)?"[^"]*")*')
_ETAG_PARTS = re.compile(r'(W/)?"([^"]*)"')
IfMatch = Annotated[
    str | None, Header(alias="If-Match", description="The `ETag` of what is to be replaced, or `*`; required.")
]


def _multipart(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    form = {"type": "object", "required": [name], "properties": {name: schema}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}}}


_FILE: dict[str, Any] = {"type": "string", "format": "binary"}
_ETAG = {"ETag": {"description": "Its newest accepted content, for `If-Match`", "schema": {"type": "string"}}}
_REPLAYED = {
    "Idempotent-Replayed": {
        "description": "`true`: this was answered before, under the same Idempotency-Key",
        "schema": {"type": "string"},
    }
}
_ORIGINAL: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The bytes as they were uploaded, with the document's own media type",
        "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post(
    "/knowledge-bases/{kb}/documents", status_code=202, responses={202: {"headers": _REPLAYED}},
    openapi_extra=_multipart("files", {"type": "array", "items": _FILE}),
)  # fmt: skip
async def upload(
    kb: str, request: Request, response: Response, storage: StorageOf, caller: CallerOf, key: IdempotencyKey = None
) -> Uploaded:
    """Every file becomes a document of its own, and so does every file in a ZIP archive."""
    # Read here and not by the framework, which would read a body before it looks up the knowledge base.
    await to_thread.run_sync(storage.knowledge_bases.get, caller.tenant, kb)
    async with multipart.files(request, _MOST_FILES) as form:
        files = _files(form, "files")
        if not files:
            raise InvalidInput("send one or more parts named 'files', each with a file name, and no other")
        receipt = await to_thread.run_sync(storage.intake.receive, caller.tenant, kb, files, key)
    return _uploaded(receipt, response)


@router.post("/knowledge-bases/{kb}/texts", status_code=202, responses={202: {"headers": _REPLAYED}})
def add_text(
    kb: str, body: NewText, response: Response, storage: StorageOf, caller: CallerOf, key: IdempotencyKey = None
) -> Uploaded:
    file = text_file(body.title, body.text, body.source_uri)
    return _uploaded(storage.intake.receive(caller.tenant, kb, [file], key), response)


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


@router.get("/documents/{document}", responses={200: {"headers": _ETAG}})
def get(document: str, response: Response, storage: StorageOf, caller: CallerOf) -> DocumentShape:
    found = storage.documents.get(caller.tenant, document)
    response.headers["ETag"] = f'"{found.etag}"'
    return document_shape(found)


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
    found, file = _opened(storage, caller.tenant, document)
    name = found.filename.replace("/", "_").replace("\\", "_")
    headers = {
        # Never shown in place: a document is not a page of this service, whatever it contains.
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        "Content-Length": str(found.bytes),
        "ETag": f'"{found.sha256}"',
    }
    return StreamingResponse(_blocks(file), media_type=found.media_type, headers=headers)


@router.put(
    "/documents/{document}/content", status_code=202, responses={202: {"headers": {**_ETAG, **_REPLAYED}}},
    openapi_extra=_multipart("file", _FILE),
)  # fmt: skip
async def replace(
    document: str,
    request: Request,
    response: Response,
    storage: StorageOf,
    caller: CallerOf,
    if_match: IfMatch = None,
    key: IdempotencyKey = None,
) -> Uploaded:
    """A new version; the present one answers until it is ready. Of several that wait, the last accepted is made."""
    found = await to_thread.run_sync(storage.documents.get, caller.tenant, document)
    etag = _wanted(if_match, found)
    async with multipart.files(request, _MOST_FILES) as form:
        files = _files(form, "file")
        if len(files) != 1:
            raise InvalidInput("send one part named 'file', with a file name, and no other")
        receipt = await to_thread.run_sync(storage.intake.replace, caller.tenant, document, files[0], etag, key)
    response.headers["ETag"] = f'"{receipt.entries[0].sha256}"'
    return _uploaded(receipt, response)


@router.delete("/documents/{document}", status_code=204)
def delete(document: str, storage: StorageOf, caller: CallerOf) -> None:
    storage.delete_document(caller.tenant, document)


async def _blocks(file: BufferedReader) -> AsyncIterator[bytes]:
    with file:
        while block := await to_thread.run_sync(file.read, _BLOCK_BYTES):
            yield block


def _opened(storage: Storage, tenant: str, document_id: str) -> tuple[Document, BufferedReader]:
    """A document and its live version's bytes. Raises NotFound, BlobMissing."""
    found = storage.documents.get(tenant, document_id)
    while True:
        try:
            return found, storage.blobs.open(found.sha256)
        except BlobMissing:
            # Deleted between the two, it is simply not there any more; and a new version has other bytes.
            latest = storage.documents.get(tenant, document_id)
            if latest.sha256 == found.sha256:
                raise
            found = latest


def _wanted(if_match: str | None, document: Document) -> str | None:
    """The one of the entity tags that holds, if one does; None for any. Raises VersionRequired, InvalidInput."""
    if if_match is None:
        raise VersionRequired("send If-Match with the document's ETag, or with * for whatever it has by now")
    if if_match.strip() == "*":
        return None
    if not _ETAGS.fullmatch(if_match.strip()):
        raise InvalidInput("If-Match is * or entity tags in double quotes", reason="if-match")
    # A weak one never matches here (RFC 9110, 13.1.1).
    given = [etag for weak, etag in _ETAG_PARTS.findall(if_match) if not weak]
    return document.etag if document.etag in given else next(iter(given), "")


def _files(form: FormData, name: str) -> list[Incoming]:
    """Its parts of that name; empty where there are others, too."""
    parts = form.getlist(name)
    return [_incoming(part) for part in parts] if len(parts) == len(form.multi_items()) else []


def _incoming(part: UploadFile | str) -> Incoming:
    if isinstance(part, str):
        raise InvalidInput("a part has no file name")
    return Incoming(part.filename or "", part.content_type, part.file)


def _uploaded(receipt: Receipt, response: Response) -> Uploaded:
    """202, unless nothing was accepted: then the first refusal is the answer, with all of them in `items`."""
    first = receipt.entries[0].problem
    if first is not None and all(entry.registered is None for entry in receipt.entries):
        raise Refused(first, [_item(entry).model_dump() for entry in receipt.entries])
    if receipt.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return Uploaded(job_id=receipt.job_id, items=[_item(entry) for entry in receipt.entries])


def _item(entry: Accepted) -> UploadedItem:
    registered = entry.registered
    return UploadedItem(
        document_id=registered.document_id if registered else None,
        filename=entry.filename,
        sha256=entry.sha256,
        status=registered.status if registered else "rejected",
        problem=problem_shape(entry.problem),
    )
