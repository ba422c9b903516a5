"""Every step a process takes towards its disk, intercepted: to die at one, to fail at one, to know what was synced.

A step is a named failpoint of the code, or one of `write`, `fsync`, `rename`, `unlink`, `execute`, `commit`, `embed`.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pysqlite3
from sqlalchemy import Engine, event

from rag_service import failpoints

KINDS = ("write", "fsync", "rename", "mkdir", "unlink", "execute", "commit", "embed")
Step = Callable[[str], None]


@dataclass
class Synced:
    """What has reached the disk for sure: files whose bytes, and folders whose entries, were synced, by inode.

    Numbers are those of the steps, so that a write after a sync counts as not synced.
    """

    clock: int = 0
    files: dict[int, int] = field(default_factory=dict)
    """Inode (of files and of folders) to when it was last synced."""
    made: dict[str, int] = field(default_factory=dict)
    """Path to when its entry was last made: created or renamed to."""

    def note(self, kind: str, detail: object) -> None:
        self.clock += 1
        if kind == "fsync":
            assert isinstance(detail, int)
            self.files[os.fstat(detail).st_ino] = self.clock
        elif kind in ("write", "rename", "mkdir"):
            self.made[str(detail)] = self.clock


class Interception:
    """Installed once in a forked child, for good. `step` is told of each step before it is taken; it may raise."""

    def __init__(self, root: Path, step: Step) -> None:
        self._root = str(root)
        self._step = step
        self.synced = Synced()

    def install(self, engine: Engine) -> None:
        failpoints.arm(self._step)
        os.fsync = self._told(os.fsync, "fsync", after=lambda arguments: arguments[0])
        os.replace = self._told(os.replace, "rename", after=lambda arguments: arguments[1])
        os.rename = self._told(os.rename, "rename", after=lambda arguments: arguments[1])
        os.mkdir = self._told(os.mkdir, "mkdir", after=lambda arguments: arguments[0])
        os.unlink = self._told(os.unlink, "unlink", after=lambda arguments: arguments[0])
        builtins.open = io.open = self._opening(builtins.open)  # type: ignore[assignment]
        event.listen(engine, "do_execute", self._executing)
        event.listen(engine, "do_executemany", self._executing)
        engine.dialect.do_commit = self._told(engine.dialect.do_commit, "commit", after=None)  # type: ignore[method-assign]

    def embedding(self, embed: Callable[..., Any]) -> Callable[..., Any]:
        return self._told(embed, "embed", after=None)

    def _told(
        self, call: Callable[..., Any], kind: str, after: Callable[[tuple[Any, ...]], object] | None
    ) -> Callable[..., Any]:
        def told(*arguments: Any, **named: Any) -> Any:
            self._step(kind)
            result = call(*arguments, **named)
            if after is not None:
                self.synced.note(kind, after(arguments))
            return result

        return told

    def _opening(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        def opening(file: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
            if not isinstance(file, (str, os.PathLike)) or not os.fspath(file).startswith(self._root):
                return plain(file, mode, *arguments, **named)
            if any(letter in mode for letter in "wxa"):
                self._step("write")
                self.synced.note("write", file)
            return plain(file, mode, *arguments, **named)

        return opening

    def _executing(self, cursor: Any, statement: str, parameters: Any, context: Any) -> None:
        self._step("execute")


def failing(kinds: tuple[str, ...], at: int, fired: list[str]) -> Step:
    """Fails the `at`-th step of `kinds` as the system would, unless something is in `fired`, which gets its name."""
    count = 0

    def step(name: str) -> None:
        nonlocal count
        if name not in kinds or fired:
            return
        count += 1
        if count == at:
            fired.append(name)
            raise fault_of(name)

    return step


def fault_of(name: str) -> Exception:
    if name in ("execute", "commit"):
        return pysqlite3.OperationalError("database or disk is full")
    if name == "embed":
        return ChildProcessError("the embedding process died twice over the same texts")
    number = errno.ENOSPC if name in ("write", "fsync") else errno.EIO
    return OSError(number, os.strerror(number))
