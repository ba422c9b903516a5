"""Accepting documents: bytes safe on disk, type known, one transaction, and then the caller is told."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from rag_service import media_types
from rag_service.blobs import BlobStore
from rag_service.db.documents import Documents, Registered, Upload
from rag_service.db.problems import of
from rag_service.errors import BlobMissing, InvalidInput, UnsupportedType
from rag_service.types import Problem

_SNIFFED_BYTES = 4_096
_LONGEST_FILENAME = 255
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Incoming:
    """A file as it was handed in. `content` is seekable and stays open until `accept` returns."""

    filename: str
    declared_type: str | None
    content: BinaryIO
    source_uri: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """One entry for each file, in order: registered, or refused with a problem and without a document."""

    filename: str
    sha256: str | None
    registered: Registered | None
    problem: Problem | None


class Intake:
    def __init__(self, blobs: BlobStore, documents: Documents) -> None:
        self._blobs = blobs
        self._documents = documents

    def accept(self, tenant: str, knowledge_base_id: str, files: Sequence[Incoming]) -> tuple[str, list[Accepted]]:
        """(job id, entries). When this returns, every accepted file survives a power cut and will be ingested.

        A file that is refused never touches the others. Raises NotFound, StorageFull (then nothing was accepted).
        """
        for _ in range(_TRIES):
            checked = [self._check(file) for file in files]
            uploads = [upload for upload in checked if isinstance(upload, Upload)]
            try:
                job_id, registered = self._documents.register(tenant, knowledge_base_id, uploads, self._blobs.exists)
            except BlobMissing:
                # A deletion of the same bytes collected them after they were put: put them again.
                continue
            entries = iter(registered)
            return job_id, [
                Accepted(file.filename, upload.sha256, next(entries), None)
                if isinstance(upload, Upload)
                else Accepted(file.filename, None, None, upload)
                for file, upload in zip(files, checked, strict=True)
            ]
        raise BlobMissing(f"the bytes were collected {_TRIES} times while they were being registered")

    def _check(self, file: Incoming) -> Upload | Problem:
        try:
            filename = safe_filename(file.filename)
            file.content.seek(0)
            head = file.content.read(_SNIFFED_BYTES)
            if not head:
                raise InvalidInput("the file is empty", filename=filename, reason="empty")
            media_type = media_types.detect(filename, file.declared_type, head)
        except (InvalidInput, UnsupportedType) as error:
            return of(error)
        file.content.seek(0)
        blob = self._blobs.put(file.content)
        return Upload(filename, media_type, blob.sha256, blob.bytes, file.source_uri)


def text_file(title: str, text: str, source_uri: str | None) -> Incoming:
    """A text that came without a file: UTF-8 under its title, the `.txt` saying how it is read."""
    return Incoming(f"{title}.txt", "text/plain", io.BytesIO(text.encode("utf-8")), source_uri)


def safe_filename(filename: str) -> str:
    """The name, if it can be shown and stored as it is. Raises InvalidInput; it is never quietly changed.

    Names are labels here and never become paths, but they do become paths wherever the original is saved again.
    """
    name = unicodedata.normalize("NFC", filename)
    if not name.strip() or name in (".", ".."):
        raise InvalidInput("the file has no name", reason="filename")
    if "/" in name or "\\" in name:
        raise InvalidInput("a file name must not contain a path", filename=_shown(name), reason="filename")
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name):
        raise InvalidInput("a file name must not contain control characters", filename=_shown(name), reason="filename")
    if len(name.encode("utf-8", "surrogatepass")) > _LONGEST_FILENAME:
        raise InvalidInput(
            f"a file name has at most {_LONGEST_FILENAME} bytes", filename=_shown(name), reason="filename"
        )
    return name


def _shown(name: str) -> str:
    return name[:80].encode("unicode_escape").decode("ascii")
