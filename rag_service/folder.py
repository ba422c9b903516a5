"""`youju ingest`: files and folders into one knowledge base, through the same intake and queue as uploads."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rag_service import media_types
from rag_service.bootstrap import Storage
from rag_service.errors import NotFound
from rag_service.intake import Incoming
from rag_service.types import KnowledgeBase, Problem

_FILES_AT_ONCE = 200
_LOOK_SECONDS = 0.1


@dataclass
class IngestReport:
    """`failed` holds (path, reason, detail)."""

    ready: int = 0
    duplicates: int = 0
    failed: list[tuple[str, str, str]] = field(default_factory=list)
    seconds: float = 0.0

    def fail(self, path: Path, problem: Problem) -> None:
        self.failed.append((_shown(path), str(problem.data.get("reason", problem.code)), problem.detail))

    def skip(self, path: Path, error: OSError) -> None:
        """A file or folder that could not even be read."""
        reason = "not-found" if isinstance(error, FileNotFoundError) else "unreadable"
        self.failed.append((_shown(path), reason, error.strerror or type(error).__name__))

    def members(self) -> dict[str, Any]:
        rows = [{"path": path, "reason": reason, "detail": detail} for path, reason, detail in self.failed]
        counts = {"ready": self.ready, "duplicates": self.duplicates, "seconds": round(self.seconds, 3)}
        return {**counts, "failed": rows}


class FolderIngest:
    """`run_job` works on one job until nothing of it is left; `progress` is told (files finished, files in all)."""

    def __init__(self, storage: Storage, run_job: Callable[[str], None], progress: Callable[[int, int], None]) -> None:
        self._storage = storage
        self._run_job = run_job
        self._progress = progress

    def ingest(self, tenant: str, name: str, paths: Sequence[Path]) -> IngestReport:
        """Every file named, and every file of a known type in every folder named, hidden ones left out."""
        begun = time.monotonic()
        knowledge_base = self._knowledge_base(tenant, name)
        files, report = [], IngestReport()
        for path in paths:
            try:
                files += sorted(_files(path, report.skip))
            except OSError as error:
                report.skip(path, error)
        for start in range(0, len(files), _FILES_AT_ONCE):
            self._ingest_some(
                tenant, knowledge_base.id, files[start : start + _FILES_AT_ONCE], start, report, len(files)
            )
        report.seconds = time.monotonic() - begun
        return report

    def _knowledge_base(self, tenant: str, name: str) -> KnowledgeBase:
        try:
            return self._storage.knowledge_bases.named(tenant, name)
        except NotFound:
            return self._storage.knowledge_bases.create(tenant, name)

    def _ingest_some(
        self, tenant: str, knowledge_base_id: str, files: Sequence[Path], before: int, report: IngestReport, total: int
    ) -> None:
        with ExitStack() as opened:
            incoming: dict[Path, Incoming] = {}
            for path in files:
                try:
                    incoming[path] = Incoming(path.name, None, opened.enter_context(path.open("rb")))
                except OSError as error:
                    report.skip(path, error)
            job_id, accepted = self._storage.intake.accept(tenant, knowledge_base_id, list(incoming.values()))
        path_of: dict[str, Path] = {}
        duplicates: dict[Path, str] = {}
        for path, entry in zip(incoming, accepted, strict=True):
            if entry.problem is not None:
                report.fail(path, entry.problem)
            elif entry.registered is not None and entry.registered.status == "duplicate":
                duplicates[path] = entry.registered.document_id
            elif entry.registered is not None:
                path_of[entry.registered.document_id] = path
        self._work(tenant, job_id, before + len(files) - len(path_of), total)
        for item in self._storage.jobs.get(tenant, job_id).items:
            if item.state == "ready":
                report.ready += 1
            elif item.problem is not None:
                report.fail(path_of[item.document_id], item.problem)
        for path, document_id in duplicates.items():
            self._report_duplicate(tenant, path, document_id, report)

    def _report_duplicate(self, tenant: str, path: Path, document_id: str, report: IngestReport) -> None:
        """What is there already may be waiting, left by a run that was broken off, or have failed before."""
        for job_id in self._storage.jobs.open_jobs(document_id):
            self._run_job(job_id)
        problem = self._storage.documents.get(tenant, document_id).error
        if problem is None:
            report.duplicates += 1
        else:
            report.fail(path, problem)

    def _work(self, tenant: str, job_id: str, before: int, total: int) -> None:
        with ThreadPoolExecutor(1, thread_name_prefix="ingest-job") as threads:
            working = threads.submit(self._run_job, job_id)
            while not working.done():
                self._progress(before + self._storage.jobs.get(tenant, job_id).done, total)
                time.sleep(_LOOK_SECONDS)
            working.result()
        self._progress(before + self._storage.jobs.get(tenant, job_id).done, total)


def _files(path: Path, skip: Callable[[Path, OSError], None]) -> Iterator[Path]:
    """The file, or all files of a known type in the folder; `skip` is told of folders in it that cannot be read.

    Raises OSError where `path` is neither.
    """
    if not path.is_dir():
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError(errno.EINVAL, "neither a file nor a folder")
        yield path
        return
    for folder, subfolders, names in os.walk(path, onerror=lambda error: skip(Path(error.filename), error)):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        found = (Path(folder, name) for name in names if not name.startswith("."))
        yield from (file for file in found if file.suffix.lower() in media_types.SUFFIXES and file.is_file())


def _shown(path: Path) -> str:
    """File names are bytes, and not all of them are text."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
