"""`youju ingest`: files and folders into one knowledge base."""

from __future__ import annotations

import errno
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rag_service.bootstrap import Storage
from rag_service.errors import NotFound
from rag_service.listing import EVERYTHING, Patterns, text_of
from rag_service.mirror import SETTLE_SECONDS, Mirror
from rag_service.taking import IngestReport, Source, Taker
from rag_service.types import KnowledgeBase

__all__ = ["FolderIngest", "IngestReport"]


class FolderIngest:
    """`run_job` works on one job until nothing of it is left; `progress` is told (files finished, files in all)."""

    def __init__(self, storage: Storage, run_job: Callable[[str], None], progress: Callable[[int, int], None]) -> None:
        self._storage = storage
        self._run_job = run_job
        self._progress = progress

    def ingest(
        self, tenant: str, name: str, paths: Sequence[Path], patterns: Patterns = EVERYTHING, *, removes: bool = False
    ) -> IngestReport:
        """Every file named, and every file of a known type in every folder named, hidden ones left out.

        What is in a folder is compared with what was there when it was last taken in: changed files become new
        versions of their documents; `removes` also removes the documents of files that are gone.
        """
        begun = time.monotonic()
        taker, report = self._taker(tenant, name), IngestReport()
        files: list[Path] = []
        for path in paths:
            try:
                if path.is_dir():
                    Mirror(taker, path, patterns, removes=removes).update(report)
                else:
                    _demand_file(path)
                    files.append(path)
            except OSError as error:
                report.skip(text_of(path), error)
        taker.expect(len(files))
        for taken in taker.accept([Source(text_of(file), file) for file in files], report):
            taker.work(taken, report)
        report.seconds = time.monotonic() - begun
        return report

    def mirrors(self, tenant: str, name: str, paths: Sequence[Path], patterns: Patterns) -> list[Mirror]:
        """For `mirror.watch`. Raises NotADirectoryError, FileNotFoundError."""
        for path in paths:
            if not path.is_dir():
                kind, code = (NotADirectoryError, errno.ENOTDIR) if path.exists() else (FileNotFoundError, errno.ENOENT)
                raise kind(code, "only folders can be watched", text_of(path))
        taker = self._taker(tenant, name)
        return [Mirror(taker, path, patterns, removes=True, settle_seconds=SETTLE_SECONDS) for path in paths]

    def _taker(self, tenant: str, name: str) -> Taker:
        return Taker(self._storage, self._run_job, self._progress, tenant, self._knowledge_base(tenant, name).id)

    def _knowledge_base(self, tenant: str, name: str) -> KnowledgeBase:
        try:
            return self._storage.knowledge_bases.named(tenant, name)
        except NotFound:
            return self._storage.knowledge_bases.create(tenant, name)


def _demand_file(path: Path) -> None:
    """Raises OSError where it is none."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "neither a file nor a folder")
