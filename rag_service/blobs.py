"""Uploaded bytes by SHA-256: written beside, fsynced, renamed; the name is the proof of the content."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from rag_service import failpoints
from rag_service.errors import BlobMissing, StorageFull

_BLOCK = 1 << 20
_STALE_SECONDS = 3_600


@dataclass(frozen=True, slots=True)
class Blob:
    sha256: str
    bytes: int


class BlobStore:
    """A folder `<root>/<first two hex digits>/<sha256>`; half-written files live in `<root>/incoming` until renamed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)
        # All folders now and for good: one made by an upload would have to be durable before the next relies on it.
        for number in range(256):
            (root / f"{number:02x}").mkdir(exist_ok=True)
        for folder in (root, root.parent):
            _fsync_folder(folder)

    def put(self, source: BinaryIO) -> Blob:
        """Store what `source` holds from where it stands. When this returns, the bytes survive a power cut.

        Raises StorageFull; nothing is left behind then.
        """
        temporary = self._incoming / uuid.uuid4().hex
        digest, size = hashlib.sha256(), 0
        try:
            with open(temporary, "xb") as file:
                while block := source.read(_BLOCK):
                    digest.update(block)
                    size += len(block)
                    file.write(block)
                file.flush()
                os.fsync(file.fileno())
            failpoints.reach("blob.written")
            blob = Blob(digest.hexdigest(), size)
            self._settle(temporary, self.path(blob.sha256))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull("the upload could not be stored: no space left in the data folder") from error
            raise
        finally:
            temporary.unlink(missing_ok=True)
        return blob

    def path(self, sha256: str) -> Path:
        return self._root / sha256[:2] / sha256

    def exists(self, sha256: str) -> bool:
        return self.path(sha256).is_file()

    def open(self, sha256: str) -> BufferedReader:
        """Raises BlobMissing."""
        try:
            return open(self.path(sha256), "rb")
        except FileNotFoundError as error:
            raise BlobMissing("the stored bytes are gone", sha256=sha256) from error

    def is_intact(self, sha256: str) -> bool:
        """Whether the bytes there are the bytes named; reads all of them. Raises BlobMissing."""
        with self.open(sha256) as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256

    def remove(self, sha256: str) -> None:
        self.path(sha256).unlink(missing_ok=True)

    def clear_incoming(self) -> None:
        """Remove what interrupted uploads left, older than any upload still under way can be."""
        oldest = time.time() - _STALE_SECONDS
        for file in self._incoming.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if file.stat().st_mtime < oldest:
                    file.unlink()

    def all(self) -> Iterator[str]:
        """Every stored SHA-256, in no order."""
        for folder in self._root.iterdir():
            if len(folder.name) == 2:
                yield from (file.name for file in folder.iterdir())

    def _settle(self, temporary: Path, target: Path) -> None:
        # The same bytes are written again rather than trusted: a damaged file at rest is mended by its re-upload.
        os.replace(temporary, target)
        failpoints.reach("blob.renamed")
        _fsync_folder(target.parent)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
