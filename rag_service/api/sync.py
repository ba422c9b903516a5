from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field, StringConstraints

from rag_service import sync
from rag_service.api.context import CallerOf, StorageOf
from rag_service.api.shapes import Request, Response, Text
from rag_service.db.mirrored_files import MirroredFiles
from rag_service.sync import FileHash

router = APIRouter(prefix="/v1/knowledge-bases", tags=["documents"])


class FileHashShape(Request):
    path: Annotated[Text, StringConstraints(min_length=1, max_length=sync.LONGEST_PATH)]
    sha256: Annotated[str, StringConstraints(pattern="^[0-9A-Fa-f]{64}$")]


class SyncRequest(Request):
    files: list[FileHashShape] = Field(max_length=sync.MOST_FILES)


class PresentShape(Response):
    path: str
    document_id: str


class ChangedShape(Response):
    path: str
    document_id: str
    etag: str


class SyncShape(Response):
    """`missing`: upload them. `changed`: `PUT …/content` with `If-Match: "<etag>"`. `removed`: delete them."""

    present: list[PresentShape]
    missing: list[str]
    changed: list[ChangedShape]
    removed: list[PresentShape]


@router.post("/{kb}/sync")
def compare(kb: str, body: SyncRequest, storage: StorageOf, caller: CallerOf) -> SyncShape:
    """What a listing of files and the knowledge base lack of each other; nothing is changed."""
    known = MirroredFiles(storage.database).known(caller.tenant, kb)
    return SyncShape.model_validate(sync.plan([FileHash(file.path, file.sha256) for file in body.files], known))
