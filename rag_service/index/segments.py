"""Base segments on disk: `<root>/<knowledge base>/<segment>/` with `dense.faiss`, `lexical/…`, `attributes.npz` and
`meta.json`.

Immutable once published, and never trusted: SQL names every file with its SHA-256, and `load` reads nothing that does
not match. FAISS finds no damage by itself (one zeroed page changed the results of 282 of 300 searches, shared
measurements), and its own writer reports success on a full disk.

`meta.json` says by which version of `index_terms` the terms in it were made. Questions are cut by today's: a segment of
another version would find less without a word, so it counts as damaged and is rebuilt from SQL when it is next used. So
does one of another format.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from rag_service import failpoints
from rag_service.errors import IndexDamaged, StorageFull
from rag_service.index.attributes import AttributeRows
from rag_service.index.dense import Bytes, DenseBase, DenseBuilder
from rag_service.index.lexical import LexicalBase, LexicalWriter
from rag_service.ports import Attributes, IndexRow, Segment, SegmentFile, VectorSpace
from rag_service.text import TERMS_VERSION

_BATCH_ROWS = 1024
FORMAT_VERSION = 2
"""Goes up whenever files are written that a release before could not have. 2: what filters ask of chunks."""
_VERSIONS = {"terms": TERMS_VERSION, "format": FORMAT_VERSION}
_READ_WHOLE = ("meta.json", "dense.faiss", "attributes.npz")


@dataclass(frozen=True, slots=True)
class Base:
    """A loaded segment; `segment_id` is None for the empty base of a knowledge base that has none (revision 0).

    What is searched over it is of its `space`, and of no other.
    """

    segment_id: str | None
    revision: int
    space: VectorSpace
    dense: DenseBase
    lexical: LexicalBase
    attributes: AttributeRows

    @classmethod
    def empty(cls, space: VectorSpace) -> Base:
        # While there are no vectors yet their length is of no account.
        dense = DenseBase.empty(space.dimensions or 1)
        return cls(None, 0, space, dense, LexicalBase.empty(), AttributeRows.empty())

    def attributes_of(self, chunk_id: int) -> Attributes:
        """Of a chunk that is in this base."""
        return self.attributes.of_row(int(np.searchsorted(self.dense.ids, chunk_id)))


@dataclass(frozen=True, slots=True)
class SegmentFolder:
    """A folder under the root. `modified_at` (Unix seconds) tells a leftover from one that is being written."""

    knowledge_base_id: str
    name: str
    modified_at: float


def build(
    root: Path,
    knowledge_base_id: str,
    segment_id: str,
    revision: int,
    embedder: str,
    dimensions: int,
    rows: Iterator[IndexRow],
) -> Segment:
    """Write a new segment from `rows`, by ascending chunk id; durable and complete under its name when this returns.

    Nothing refers to it until the returned value is committed to SQL. Texts are streamed. Raises StorageFull.
    """
    home = root / knowledge_base_id
    draft = home / f"{segment_id}.tmp"
    with _full_disk_named(root):
        home.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(draft, ignore_errors=True)
        try:
            chunks = _write(draft, revision, embedder, dimensions, rows)
            files = tuple(_sealed(draft, path) for path in _paths(draft))
            for folder in (draft / "lexical", draft):
                _sync(folder)
            failpoints.reach("segment.sealed")
            draft.rename(home / segment_id)
            failpoints.reach("segment.renamed")
            for folder in (home, root, root.parent):
                _sync(folder)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
    return Segment(segment_id, knowledge_base_id, revision, chunks, embedder, files)


def load(root: Path, segment: Segment, dense_base: Callable[[Bytes], DenseBase] = DenseBase.deserialised) -> Base:
    """The verified segment in memory; IndexDamaged names the file that is missing, superfluous or not as recorded, or
    that was made by another version of the terms."""
    folder = root / segment.knowledge_base_id / segment.id
    recorded = {file.path: file for file in segment.files}
    present = _paths(folder)
    for path in sorted(recorded.keys() ^ set(present)):
        raise _damaged(segment, path, "is missing" if path in recorded else "is not part of the segment")
    contents = {path: _verified(folder, segment, file) for path, file in recorded.items() if path in _READ_WHOLE}
    for path in recorded.keys() - contents.keys():
        _verified(folder, segment, recorded[path])
    meta = json.loads(contents["meta.json"])
    for what, version in _VERSIONS.items():
        made_by = meta.get(what, 1)
        if made_by != version:
            raise _damaged(segment, "meta.json", f"has {what} of version {made_by}, not {version}: to be rebuilt")
    dense = dense_base(np.frombuffer(contents["dense.faiss"], dtype=np.uint8))
    lexical = LexicalBase.opened(folder / "lexical", meta["tokens"])
    attributes = AttributeRows.deserialised(contents["attributes.npz"])
    if not len(dense) == lexical.chunks == len(attributes) == meta["chunks"] == segment.chunks:
        raise _damaged(segment, "meta.json", "does not have the number of chunks recorded")
    space = VectorSpace(segment.embedder, dense.dimensions)
    return Base(segment.id, segment.revision, space, dense, lexical, attributes)


def remove(root: Path, knowledge_base_id: str, name: str) -> None:
    """Delete a segment's folder, or what is left of it. A base loaded from it stays usable: the files are mapped."""
    shutil.rmtree(root / knowledge_base_id / name, ignore_errors=True)


def remove_all(root: Path, knowledge_base_id: str) -> None:
    """Delete every segment of a knowledge base that is gone."""
    shutil.rmtree(root / knowledge_base_id, ignore_errors=True)


def folders(root: Path) -> Iterator[SegmentFolder]:
    """Every segment folder there is, published, abandoned or being written (`….tmp`)."""
    if not root.is_dir():
        return
    for home in root.iterdir():
        for folder in home.iterdir() if home.is_dir() else ():
            try:
                modified_at = folder.stat().st_mtime
            except FileNotFoundError:
                continue  # Renamed or removed by another process since it was listed.
            yield SegmentFolder(home.name, folder.name, modified_at)


def _write(draft: Path, revision: int, embedder: str, dimensions: int, rows: Iterator[IndexRow]) -> int:
    (draft / "lexical").mkdir(parents=True)
    dense, attributes = DenseBuilder(dimensions), [AttributeRows.empty()]
    chunks = tokens = last = 0
    with LexicalWriter(draft / "lexical") as lexical:
        while batch := list(islice(rows, _BATCH_ROWS)):
            ids = np.array([row.chunk_id for row in batch], dtype=np.int64)
            if np.any(np.diff(ids, prepend=last) <= 0):
                raise ValueError("rows must come by ascending chunk id, each once")
            dense.add(ids, np.stack([row.vector for row in batch]))
            tokens += sum(lexical.add(row) for row in batch)
            attributes.append(AttributeRows.of([row.attributes for row in batch]))
            chunks, last = chunks + len(batch), int(ids[-1])
        lexical.finish()
    (draft / "dense.faiss").write_bytes(dense.serialised().data)
    (draft / "attributes.npz").write_bytes(AttributeRows.joined(attributes).serialised())
    facts = {
        "chunks": chunks,
        "tokens": tokens,
        "revision": revision,
        "embedder": embedder,
        "dimensions": dimensions,
        **_VERSIONS,
    }
    (draft / "meta.json").write_text(json.dumps(facts), encoding="utf-8")
    return chunks


def _paths(folder: Path) -> list[str]:
    """Files below `folder`, sorted, without tantivy's locks: empty files it makes anew whenever it opens an index."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not (path.name.startswith(".tantivy-") and path.name.endswith(".lock"))
    )


def _sealed(draft: Path, path: str) -> SegmentFile:
    """The file's hash as read back, after its bytes have reached the disk."""
    with open(draft / path, "rb") as file:
        os.fsync(file.fileno())
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return SegmentFile(path, sha256, file.tell())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _verified(folder: Path, segment: Segment, file: SegmentFile) -> bytes:
    """The file's bytes, read once: what was hashed is what is used."""
    try:
        content = (folder / file.path).read_bytes()
    except OSError as error:
        raise _damaged(segment, file.path, f"cannot be read: {error.strerror}") from error
    if len(content) != file.bytes or hashlib.sha256(content).hexdigest() != file.sha256:
        raise _damaged(segment, file.path, "does not have its recorded hash")
    return content


def _damaged(segment: Segment, path: str, what: str) -> IndexDamaged:
    return IndexDamaged(
        f"segment {segment.id}: {path} {what}",
        knowledge_base_id=segment.knowledge_base_id,
        segment_id=segment.id,
        file=path,
    )


@contextmanager
def _full_disk_named(root: Path) -> Iterator[None]:
    """Raise StorageFull for the errors that mean it."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"no space left for an index segment in {root}", folder=str(root)) from error
        raise
