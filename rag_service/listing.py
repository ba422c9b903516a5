"""What is in a folder: files of known types, and a count of everything that is left out, so that nobody thinks it in.

Links to files are followed, links to folders are not: a folder that contains itself ends like any other.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from rag_service import media_types

_NOTHING_THERE = (errno.ENOENT, errno.ELOOP)
"""Gone since, a link to nothing, or to itself."""
_TEMPORARY = ("~$", ".~", "#")
"""Beginnings of the names that office programs and editors give to what they lock or have not yet saved."""


@dataclass(frozen=True, slots=True)
class Found:
    """`path` is below the folder, its parts joined by `/`; as text, whatever bytes the name has."""

    path: str
    file: Path
    bytes: int
    modified_ns: int

    @property
    def is_archive(self) -> bool:
        return media_types.SUFFIXES[self.file.suffix.lower()] == media_types.ZIP


@dataclass(frozen=True, slots=True)
class Patterns:
    """Shell patterns, case and all; no `include` includes everything.

    One with a `/` is for the whole path below the folder, and its `*` matches `/`, too. One without is for the name of
    a file, and of any folder above it. What excludes a folder, or an archive, excludes all that is in it.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def take(self, path: str) -> bool:
        included = not self.include or any(_matches(path, pattern) for pattern in self.include)
        return included and not self.excludes(path)

    def excludes(self, path: str) -> bool:
        return any(_matches(place, pattern) for pattern in self.exclude for place in (path, *above(path)))


EVERYTHING = Patterns()


@dataclass(slots=True)
class Listing:
    """`skipped` counts what was left out, by why; `unreadable` are paths below the folder, and what the system said."""

    files: dict[str, Found] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    unreadable: dict[str, OSError] = field(default_factory=dict)

    def may_hold(self, path: str) -> bool:
        """Whether `path` may be there, unseen, in a part of the folder that could not be read."""
        return any(folder == "." or path == folder or path.startswith(f"{folder}/") for folder in self.unreadable)


def list_folder(root: Path, patterns: Patterns) -> Listing:
    """Raises OSError where `root` itself is no folder that can be read."""
    listing = Listing()
    # The walk would tell of it like of any folder below, which are no reason to give up.
    os.scandir(root).close()

    def note(error: OSError) -> None:
        listing.unreadable[_below(root, Path(error.filename))] = error

    for folder, subfolders, names in os.walk(root, onerror=note):
        here = Path(folder)
        subfolders[:] = [name for name in sorted(subfolders) if _is_entered(here / name, root, patterns, listing)]
        for name in sorted(names):
            _add(listing, here / name, root, patterns)
    return listing


def above(path: str) -> Iterator[str]:
    """The folders, or the archive, that something below a folder is in; the innermost first."""
    parts = path.split("/")
    return ("/".join(parts[:length]) for length in range(len(parts) - 1, 0, -1))


def text_of(path: Path) -> str:
    """File names are bytes, and not all of them are text."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _is_entered(folder: Path, root: Path, patterns: Patterns, listing: Listing) -> bool:
    reason = None
    if folder.name.startswith("."):
        reason = "hidden"
    elif patterns.excludes(_below(root, folder)):
        reason = "excluded"
    elif folder.is_symlink():
        reason = "linked folder"
    if reason is not None:
        listing.skipped[reason] += 1
    return reason is None


def _add(listing: Listing, file: Path, root: Path, patterns: Patterns) -> None:
    path = _below(root, file)
    reason = _left_out(file.name) or (None if patterns.take(path) else "excluded")
    if reason is not None:
        listing.skipped[reason] += 1
        return
    try:
        status = file.stat()
    except OSError as error:
        if error.errno in _NOTHING_THERE:
            listing.skipped["not a file"] += 1
        else:
            listing.unreadable[path] = error
    else:
        if stat.S_ISREG(status.st_mode):
            listing.files[path] = Found(path, file, status.st_size, status.st_mtime_ns)
        else:
            listing.skipped["not a file"] += 1


def _left_out(name: str) -> str | None:
    if name.startswith(_TEMPORARY) or name.endswith("~"):
        return "temporary"
    if name.startswith("."):
        return "hidden"
    return None if os.path.splitext(name)[1].lower() in media_types.SUFFIXES else "unknown type"


def _below(root: Path, path: Path) -> str:
    return text_of(path.relative_to(root))


def _matches(path: str, pattern: str) -> bool:
    names: Iterable[str] = (path,) if "/" in pattern else path.split("/")
    return any(fnmatchcase(name, pattern) for name in names)
