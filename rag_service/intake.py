"""Accepting documents: bytes safe on disk, type known, one transaction, and then the caller is told."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

from rag_service import media_types
from rag_service.blobs import BlobStore
from rag_service.db.documents import Documents, Registered, Upload
from rag_service.db.problems import of
from rag_service.errors import BlobMissing, InvalidInput, Overloaded, StorageFull, UnsupportedType
from rag_service.types import Problem

_LONGEST_FILENAME = 255
_TRIES = 5
# Explicit directions: with them a name is shown as another one than it is (`fdp.exe` reads `exe.pdf`).
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True, slots=True)
class Incoming:
    """A file as it was handed in. `content` is seekable and stays open until `accept` returns."""

    filename: str
    declared_type: str | None
    content: BinaryIO
    source_uri: str | None = None
    media_type: str | None = None
    """Known by whoever made the content: then the name is a title, and says nothing of the type."""


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
        put: set[str] = set()
        try:
            return self._accept(tenant, knowledge_base_id, files, put)
        except Exception:
            self._take_back(put)
            raise

    def _accept(
        self, tenant: str, knowledge_base_id: str, files: Sequence[Incoming], put: set[str]
    ) -> tuple[str, list[Accepted]]:
        for _ in range(_TRIES):
            checked = [self._check(file, put) for file in files]
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

    def _take_back(self, put: set[str]) -> None:
        """Bytes that no document came to use: on a disk that has just become full they would keep it full."""
        with suppress(StorageFull, Overloaded):
            for sha256 in put:
                self._documents.collect(sha256, self._blobs.remove)

    def _check(self, file: Incoming, put: set[str]) -> Upload | Problem:
        try:
            filename = safe_label(file.filename) if file.media_type else safe_filename(file.filename)
            file.content.seek(0)
            head = file.content.read(media_types.HEAD_BYTES)
            if not head:
                raise InvalidInput("the file is empty", filename=filename, reason="empty")
            media_type = file.media_type or media_types.detect(filename, file.declared_type, head)
        except (InvalidInput, UnsupportedType) as error:
            return of(error)
        file.content.seek(0)
        blob = self._blobs.put(file.content)
        put.add(blob.sha256)
        return Upload(filename, media_type, blob.sha256, blob.bytes, file.source_uri)


def text_file(title: str, text: str, source_uri: str | None) -> Incoming:
    """A text that came without a file: UTF-8 under its title."""
    return Incoming(title, None, io.BytesIO(text.encode("utf-8")), source_uri, media_types.TEXT)


def safe_filename(filename: str) -> str:
    """The name, if it can be shown and stored as it is. Raises InvalidInput; it is never quietly changed.

    Names are labels here and never become paths, but they do become paths wherever the original is saved again.
    """
    if filename in (".", "..") or "/" in filename or "\\" in filename:
        raise InvalidInput("a file name must not contain a path", filename=_shown(filename), reason="filename")
    name = safe_label(filename)
    if len(name.encode("utf-8", "surrogatepass")) > _LONGEST_FILENAME:
        raise InvalidInput(
            f"a file name has at most {_LONGEST_FILENAME} bytes", filename=_shown(name), reason="filename"
        )
    return name


def safe_label(name: str) -> str:
    """A name or title that is one visible line. Raises InvalidInput."""
    name = unicodedata.normalize("NFC", name)
    if not name.strip():
        raise InvalidInput("the file has no name", reason="filename")
    if any(c in _BIDI or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name):
        raise InvalidInput("a file name must not contain control characters", filename=_shown(name), reason="filename")
    return name


def _shown(name: str) -> str:
    return name[:80].encode("unicode_escape").decode("ascii")
