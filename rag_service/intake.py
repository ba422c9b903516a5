"""Accepting documents: bytes safe on disk, type known, one transaction, and then the caller is told."""

from __future__ import annotations

import hashlib
import io
import json
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

from rag_service import failpoints, media_types
from rag_service.archives import Allowance, Archives, Member
from rag_service.blobs import BlobStore
from rag_service.db.documents import Documents
from rag_service.db.idempotency import Answered, Json, Once, Replayed
from rag_service.db.problems import from_json, of, to_json
from rag_service.db.registration import Registered, Upload
from rag_service.errors import BlobMissing, ContentTaken, InvalidInput, Overloaded, StorageFull, UnsupportedType
from rag_service.types import Problem

_LONGEST_FILENAME = 255
_LONGEST_KEY = 200
_TRIES = 5
_BLOCK_BYTES = 1 << 20
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
    """A file, or an entry of an archive: registered, or refused with a problem and without a document."""

    filename: str
    sha256: str | None
    registered: Registered | None
    problem: Problem | None


@dataclass(frozen=True, slots=True)
class Receipt:
    """One entry for each file, in order; for an archive one for each file in it. `replayed`: it was given before."""

    job_id: str
    entries: tuple[Accepted, ...]
    replayed: bool = False


class Intake:
    """`answered` knows requests that came before under the same key."""

    def __init__(self, blobs: BlobStore, documents: Documents, answered: Answered, archives: Archives) -> None:
        self._blobs = blobs
        self._documents = documents
        self._answered = answered
        self._archives = archives

    def accept(
        self, tenant: str, knowledge_base_id: str, files: Sequence[Incoming], *, mirrored: bool = False
    ) -> tuple[str, list[Accepted]]:
        """(job id, entries), as `receive` without a key."""
        receipt = self.receive(tenant, knowledge_base_id, files, mirrored=mirrored)
        return receipt.job_id, list(receipt.entries)

    def receive(
        self,
        tenant: str,
        knowledge_base_id: str,
        files: Sequence[Incoming],
        key: str | None = None,
        *,
        mirrored: bool = False,
    ) -> Receipt:
        """When this returns, every accepted file survives a power cut and will be ingested.

        A file that is refused never touches the others. Of an archive, every file in it is one of its own; where the
        archive as a whole is refused, that is its only entry. With a key, the same files again get the same receipt,
        and nothing is done for it. `mirrored`: they are a folder's, which may remove them again. Raises NotFound,
        StorageFull (then nothing was accepted), KeyReused.
        """
        asked = None if key is None else _Asked.of(tenant, key, f"upload {knowledge_base_id}", files)
        if asked is not None and (receipt := self._receipt(asked)) is not None:
            return receipt

        def work(put: set[str]) -> Receipt:
            allowance = self._archives.allowance()
            entries = [entry for file in files for entry in self._entries(file, put, allowance)]
            uploads = [entry.upload for entry in entries if entry.upload is not None]
            failpoints.reach("upload.bytes-stored")
            # Where all is refused there is nothing to do twice, and the files may come mended under the same key.
            once = asked.once(entries) if asked is not None and uploads else None
            job_id, registered = self._documents.register(
                tenant, knowledge_base_id, uploads, self._blobs.exists, once, mirrored=mirrored
            )
            failpoints.reach("upload.registered")
            put.difference_update(upload.sha256 for upload in uploads)
            return Receipt(job_id, _accepted(entries, registered))

        return self._insist(work)

    def replace(
        self,
        tenant: str,
        document_id: str,
        file: Incoming,
        etag: str | None,
        key: str | None = None,
        *,
        mirrored: bool = False,
    ) -> Receipt:
        """A new version of a document, for which the same holds. `etag` None: whatever its content is by now.

        Raises what the file is refused with, NotFound, VersionChanged, ContentTaken, StorageFull, KeyReused.
        """
        asked = None if key is None else _Asked.of(tenant, key, f"replace {document_id}", [file])
        if asked is not None and (receipt := self._receipt(asked)) is not None:
            return receipt

        def work(put: set[str]) -> Receipt:
            upload = self._upload(file, put)
            entry = _Entry(file.filename, upload, None)
            failpoints.reach("replace.bytes-stored")
            once = None if asked is None else asked.once([entry])
            made = self._documents.replace(
                tenant, document_id, upload, etag, self._blobs.exists, once, mirrored=mirrored
            )
            failpoints.reach("replace.registered")
            put.discard(upload.sha256)
            put.update(made.superseded)
            return Receipt(made.job_id, _accepted([entry], [made.registered]))

        return self._insist(work)

    def _receipt(self, asked: _Asked) -> Receipt | None:
        answer = self._answered.find(asked.tenant, asked.key, asked.sha256)
        return None if answer is None else _replayed(answer)

    def _insist(self, work: Callable[[set[str]], Receipt]) -> Receipt:
        """`work` is given a set for the SHA-256 of what it stores, and leaves in it what came to no use."""
        put: set[str] = set()
        try:
            for _ in range(_TRIES):
                try:
                    return work(put)
                except BlobMissing:
                    # A deletion of the same bytes collected them after they were put: put them again.
                    continue
                except Replayed as replayed:
                    return _replayed(replayed.answer)
            raise BlobMissing(f"the bytes were collected {_TRIES} times while they were being registered")
        finally:
            self._take_back(put)

    def _take_back(self, put: set[str]) -> None:
        """Bytes that no document came to use: on a disk that has just become full they would keep it full."""
        with suppress(StorageFull, Overloaded):
            for sha256 in put:
                self._documents.collect(sha256, self._blobs.remove)

    def _entries(self, file: Incoming, put: set[str], allowance: Allowance) -> list[_Entry]:
        try:
            filename, media_type = _recognised(file)
            if media_type == media_types.ZIP:
                members = self._archives.members(file.content, filename, allowance)
                return [self._member(member, put) for member in members]
            return [_Entry(file.filename, self._put(filename, media_type, file, put), None)]
        except (InvalidInput, UnsupportedType) as error:
            return [_Entry(file.filename, None, of(error))]

    def _member(self, member: Member, put: set[str]) -> _Entry:
        if member.content is None:
            return _Entry(member.filename, None, member.problem)
        try:
            upload = self._upload(Incoming(member.filename, None, member.content), put, safe_label)
        except (InvalidInput, UnsupportedType) as error:
            return _Entry(member.filename, None, of(error))
        return _Entry(member.filename, upload, None)

    def _upload(self, file: Incoming, put: set[str], safe: Callable[[str], str] | None = None) -> Upload:
        """Of a file that has to be one document. Raises InvalidInput, UnsupportedType, StorageFull."""
        filename, media_type = _recognised(file, safe)
        if media_type == media_types.ZIP:
            raise UnsupportedType("an archive is no document, but holds many", filename=filename, reason="archive")
        return self._put(filename, media_type, file, put)

    def _put(self, filename: str, media_type: str, file: Incoming, put: set[str]) -> Upload:
        file.content.seek(0)
        blob = self._blobs.put(file.content)
        put.add(blob.sha256)
        return Upload(filename, media_type, blob.sha256, blob.bytes, file.source_uri)


@dataclass(frozen=True, slots=True)
class _Entry:
    """What is to be registered, or why it is not."""

    filename: str
    upload: Upload | None
    problem: Problem | None


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request under an `Idempotency-Key`; the hash is of what it is for, its files' names and their contents."""

    tenant: str
    key: str
    sha256: str

    @classmethod
    def of(cls, tenant: str, key: str, target: str, files: Sequence[Incoming]) -> _Asked:
        """Raises InvalidInput."""
        if not 0 < len(key) <= _LONGEST_KEY or not key.isprintable():
            raise InvalidInput(f"an Idempotency-Key has 1 to {_LONGEST_KEY} visible characters", characters=len(key))
        described = [target, *([file.filename, file.source_uri, _sha256(file.content)] for file in files)]
        return cls(tenant, key, hashlib.sha256(json.dumps(described).encode()).hexdigest())

    def once(self, entries: Sequence[_Entry]) -> Once:
        told = [
            {
                "filename": entry.filename,
                "sha256": None if entry.upload is None else entry.upload.sha256,
                "problem": None if entry.problem is None else to_json(entry.problem),
            }
            for entry in entries
        ]
        return Once(self.tenant, self.key, self.sha256, {"files": told})


def _sha256(content: BinaryIO) -> str:
    content.seek(0)
    digest = hashlib.sha256()
    while block := content.read(_BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


def _accepted(entries: Sequence[_Entry], registered: Sequence[Registered]) -> tuple[Accepted, ...]:
    remaining = iter(registered)
    return tuple(
        Accepted(entry.filename, None, None, entry.problem)
        if entry.upload is None
        else _told(entry.filename, entry.upload.sha256, next(remaining))
        for entry in entries
    )


def _told(filename: str, sha256: str, registered: Registered) -> Accepted:
    if registered.status != "refused":
        return Accepted(filename, sha256, registered, None)
    detail = "a document has these bytes that is just being replaced; upload them again once that is done"
    return Accepted(filename, None, None, of(ContentTaken(detail, document_id=registered.document_id)))


def _replayed(answer: Json) -> Receipt:
    registered = iter([Registered(**entry) for entry in answer["registered"]])
    entries = tuple(
        Accepted(file["filename"], None, None, from_json(file["problem"]))
        if file["problem"]
        else _told(file["filename"], file["sha256"], next(registered))
        for file in answer["files"]
    )
    return Receipt(answer["job_id"], entries, replayed=True)


def _recognised(file: Incoming, safe: Callable[[str], str] | None = None) -> tuple[str, str]:
    """Its name as it is stored, and its media type. Raises InvalidInput, UnsupportedType."""
    check = safe or (safe_label if file.media_type else safe_filename)
    filename = check(file.filename)
    file.content.seek(0)
    if not file.content.read(1):
        raise InvalidInput("the file is empty", filename=filename, reason="empty")
    return filename, file.media_type or media_types.detect(filename, file.declared_type, file.content)


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
