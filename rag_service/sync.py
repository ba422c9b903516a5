"""What a listing of files and a knowledge base lack of each other. Pure: names and hashes in, what to do out.

Done as told (upload what is missing, replace what changed, delete what is to be removed), the two are in sync.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rag_service.db.mirrored_files import KnownFile
from rag_service.errors import InvalidInput

MOST_FILES = 100_000
LONGEST_PATH = 1_024
_SHA256 = re.compile("[0-9a-f]{64}")
# GNU coreutils: a backslash before the hash says that the name is escaped.
_CHECKSUM = re.compile(r"(?P<escaped>\\?)(?P<sha256>[0-9A-Fa-f]{64}) [ *](?P<path>.+)")
_ESCAPES = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}


@dataclass(frozen=True, slots=True)
class FileHash:
    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Present:
    path: str
    document_id: str


@dataclass(frozen=True, slots=True)
class Changed:
    """The path's document has other bytes: those of `etag`, which the file's are to replace."""

    path: str
    document_id: str
    etag: str


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """`missing` are paths to upload; `removed` documents that no file of the listing stands for."""

    present: list[Present] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    changed: list[Changed] = field(default_factory=list)
    removed: list[Present] = field(default_factory=list)

    @property
    def is_in_sync(self) -> bool:
        return not (self.missing or self.changed or self.removed)


def plan(files: Sequence[FileHash], known: Sequence[KnownFile]) -> SyncPlan:
    """Files in their order; bytes decide before names, so that a file that only moved keeps its document.

    A document is the next version of one file at most: of several with the same new bytes the first has it, and the
    others, once uploaded, are the same document. Of an archive only what was in it is kept: it is always missing, and
    what came from it stays while it is listed. Raises InvalidInput for a listing that cannot be one.
    """
    files = demand_listing(files)
    by_hash, by_path = _index(known)
    made = SyncPlan()
    remaining: list[FileHash] = []
    for file in files:
        holders = by_hash.get(file.sha256)
        if holders is None:
            remaining.append(file)
        else:
            made.present.append(Present(file.path, holders.get(file.path) or next(iter(holders.values()))))
    used = {entry.document_id for entry in made.present}
    asked: set[str] = set()
    for file in remaining:
        # Of documents with one name the newest is meant.
        free = [entry for entry in reversed(by_path[file.path]) if entry.document_id not in used]
        if free and file.sha256 not in asked:
            made.changed.append(Changed(file.path, free[0].document_id, free[0].etag))
            used.add(free[0].document_id)
        else:
            made.missing.append(file.path)
        asked.add(file.sha256)
    names = {entry.document_id: entry.path for entry in reversed(known)}
    listed = {file.path for file in files}
    for document_id, path in reversed(names.items()):
        if document_id not in used and not any(folder in listed for folder in _above(path)):
            made.removed.append(Present(path, document_id))
    return made


def demand_listing(files: Sequence[FileHash]) -> list[FileHash]:
    """With hashes in lower case and paths without a leading `./`. Raises InvalidInput."""
    if len(files) > MOST_FILES:
        raise InvalidInput(f"a listing has at most {MOST_FILES} files", reason="too-many-entries", files=len(files))
    checked: dict[str, FileHash] = {}
    for file in files:
        path, sha256 = file.path.removeprefix("./"), file.sha256.lower()
        if not 0 < len(path) <= LONGEST_PATH:
            raise InvalidInput(f"a path has 1 to {LONGEST_PATH} characters", reason="path", path=path[:80])
        if not _SHA256.fullmatch(sha256):
            raise InvalidInput("a sha256 is 64 hexadecimal digits", reason="sha256", path=path[:80])
        if path in checked:
            raise InvalidInput("a path is there twice", reason="duplicate-path", path=path[:80])
        checked[path] = FileHash(path, sha256)
    return list(checked.values())


def read_listing(text: str) -> list[FileHash]:
    """JSON (`{"files": [{"path", "sha256"}]}`, or the list alone), one such object a line, or what `sha256sum` prints.

    Raises InvalidInput, naming the line.
    """
    try:
        whole = json.loads(text)
    except ValueError:
        return [_from_line(line, number) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    except RecursionError as error:
        raise InvalidInput("the listing is nested too deeply", reason="listing") from error
    if isinstance(whole, dict) and whole.keys() == {"files"}:
        whole = whole["files"]
    rows = whole if isinstance(whole, list) else [whole]
    return [_from_json(row, f"entry {number}") for number, row in enumerate(rows, 1)]


def _from_line(line: str, number: int) -> FileHash:
    line = line.rstrip("\r")
    told = _CHECKSUM.fullmatch(line)
    if told is not None:
        path = told["path"]
        if told["escaped"]:
            path = re.sub(r"\\[\\nr]", lambda match: _ESCAPES[match[0]], path)
        return FileHash(path, told["sha256"])
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        detail = f"line {number} is neither JSON nor what sha256sum prints"
        raise InvalidInput(detail, reason="listing", line=number) from error
    return _from_json(row, f"line {number}")


def _from_json(row: Any, where: str) -> FileHash:
    if isinstance(row, dict) and row.keys() == {"path", "sha256"} and all(isinstance(v, str) for v in row.values()):
        return FileHash(row["path"], row["sha256"])
    raise InvalidInput(f'{where} is not {{"path": …, "sha256": …}}', reason="listing")


def _above(path: str) -> Iterator[str]:
    parts = path.split("/")
    return ("/".join(parts[:length]) for length in range(1, len(parts)))


def _index(known: Iterable[KnownFile]) -> tuple[Mapping[str, dict[str, str]], Mapping[str, list[KnownFile]]]:
    """(SHA-256 to the documents that have it, each under its paths; path to what has been there)."""
    by_hash: dict[str, dict[str, str]] = defaultdict(dict)
    by_path: dict[str, list[KnownFile]] = defaultdict(list)
    for entry in known:
        by_hash[entry.etag].setdefault(entry.path, entry.document_id)
        by_path[entry.path].append(entry)
    return dict(by_hash), by_path
