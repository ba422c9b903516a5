"""Power loss: what was written and not yet synced may be anything. Kill −9 alone never tests an fsync."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path

FATES = ("deleted", "zeroed", "halved", "unchanged", "flipped", "emptied")


@dataclass(frozen=True)
class Life:
    """What one process did: files there before it, inodes with the moment they were last synced, entries it made."""

    before: dict[str, int]
    synced: dict[int, int]
    made: dict[str, int]


def inodes(root: Path) -> dict[str, int]:
    """Of every file, by its path."""
    return {str(path): path.stat().st_ino for path in _files(root)}


def lose(root: Path, life: Life, dice: random.Random) -> list[str]:
    """Deal a fate to each file of `root`'s blobs and index that had not reached the disk; the fates dealt out.

    The database is left alone: SQLite syncs its log before a commit returns.
    """
    return [deal(path, dice) for path in _files(root) if _is_at_risk(path, life)]


def _files(root: Path) -> list[Path]:
    return sorted(path for top in ("blobs", "index") for path in (root / top).rglob("*") if path.is_file())


def _is_at_risk(path: Path, life: Life) -> bool:
    """Whether its bytes, or its entry or that of a folder above it, were made in this life and not synced since."""
    inode = path.stat().st_ino
    if inode not in life.before.values() and inode not in life.synced:
        return True
    if str(path) in life.before:
        # A name that was there leads to the file of before or, renamed over it, to this one: both have their bytes.
        return False
    for entry in (path, *path.parents):
        made = life.made.get(str(entry))
        if made is not None and life.synced.get(entry.parent.stat().st_ino, -1) < made:
            return True
    return False


def deal(path: Path, dice: random.Random, fates: tuple[str, ...] = FATES) -> str:
    """One fate for one file."""
    fate = dice.choice(fates)
    size = path.stat().st_size
    if fate == "deleted":
        path.unlink()
    elif fate == "zeroed":
        path.write_bytes(bytes(size))
    elif fate == "halved":
        os.truncate(path, size // 2)
    elif fate == "emptied":
        os.truncate(path, 0)
    elif fate == "flipped" and size:
        content = bytearray(path.read_bytes())
        content[dice.randrange(size)] ^= 1 << dice.randrange(8)
        path.write_bytes(content)
    return fate
