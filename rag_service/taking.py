"""Files of this machine into a knowledge base, through the same intake and queue as uploads, and the report of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rag_service import media_types
from rag_service.bootstrap import Storage
from rag_service.db.problems import of
from rag_service.errors import ContentTaken, InvalidInput, NotFound, UnsupportedType
from rag_service.intake import Accepted, Incoming
from rag_service.listing import text_of
from rag_service.types import Job, Problem

_FILES_AT_ONCE = 200
_LOOK_SECONDS = 0.5
"""At how far it has got: each look takes time from the work."""
Outcome = Literal["ready", "updated", "duplicates", "failed"]


@dataclass
class IngestReport:
    """`failed` holds (path, reason, detail), `formats` outcomes by file name suffix, `skipped` what was left out.

    `ready` are new documents, `updated` ones with a new version, `duplicates` files whose documents were there.
    """

    ready: int = 0
    updated: int = 0
    duplicates: int = 0
    removed: int = 0
    failed: list[tuple[str, str, str]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    formats: dict[str, Counter[Outcome]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, outcome: Literal["ready", "updated", "duplicates"], path: str) -> None:
        setattr(self, outcome, getattr(self, outcome) + 1)
        self._count_format(path, outcome)

    def fail(self, path: str, problem: Problem) -> None:
        self.failed.append((path, str(problem.data.get("reason", problem.code)), problem.detail))
        self._count_format(path, "failed")

    def skip(self, path: str, error: OSError) -> None:
        """A file or folder that could not even be read."""
        reason = "not-found" if isinstance(error, FileNotFoundError) else "unreadable"
        self.failed.append((path, reason, error.strerror or type(error).__name__))

    @property
    def changed(self) -> int:
        """Documents that are not as they were."""
        return self.ready + self.updated + self.removed

    @property
    def trouble(self) -> tuple[str, ...]:
        """Everything that did not go well, to be compared."""
        return (*self.notes, *map("\n".join, self.failed))

    def reasons(self) -> Counter[str]:
        return Counter(reason for _, reason, _ in self.failed)

    def members(self) -> dict[str, Any]:
        rows = [{"path": path, "reason": reason, "detail": detail} for path, reason, detail in self.failed]
        return {
            "ready": self.ready, "updated": self.updated, "duplicates": self.duplicates, "removed": self.removed,
            "seconds": round(self.seconds, 3), "failed": rows, "reasons": dict(self.reasons().most_common()),
            "skipped": dict(self.skipped.most_common()), "notes": self.notes,
            "formats": {suffix: dict(counts) for suffix, counts in sorted(self.formats.items())},
        }  # fmt: skip

    def _count_format(self, path: str, outcome: Outcome) -> None:
        suffix = Path(path).suffix.lower() or "(none)"
        self.formats.setdefault(suffix, Counter())[outcome] += 1


@dataclass(frozen=True, slots=True)
class Source:
    """A file to be taken in; `path` is what it is called by whoever gives it."""

    path: str
    file: Path

    @property
    def may_be_archive(self) -> bool:
        """Then it may become any number of documents."""
        return media_types.SUFFIXES.get(self.file.suffix.lower(), media_types.ZIP) == media_types.ZIP


@dataclass(frozen=True, slots=True)
class Taken:
    """A document that was accepted from `source`, and its `path`: a longer one for a member of an archive.

    `is_new`: there is work to do; else the document was there. `shown` is for the report.
    """

    source: Source
    path: str
    shown: str
    document_id: str
    sha256: str
    job_id: str
    is_new: bool


Remember = Callable[[Sequence[Taken], bool], None]
"""Told of what a batch brought, and whether that is all of it."""


@dataclass(frozen=True, slots=True)
class _Refused:
    source: Source
    shown: str
    problem: Problem


@dataclass(frozen=True, slots=True)
class _Batch:
    """What became of so many `files`, or of the members of one."""

    files: int
    unreadable: list[tuple[Source, OSError]]
    taken: list[Taken]
    refused: list[_Refused]

    @property
    def is_whole(self) -> bool:
        return not self.unreadable and not self.refused


class Taker:
    """Takes files into one knowledge base.

    `run_job` works on one job until nothing of it is left; `progress` is told (files finished, files in all).
    `put_off` are the paths of files that could not be taken just now, and may be any time.
    """

    def __init__(
        self,
        storage: Storage,
        run_job: Callable[[str], None],
        progress: Callable[[int, int], None],
        tenant: str,
        knowledge_base_id: str,
    ) -> None:
        self.storage = storage
        self.tenant = tenant
        self.knowledge_base_id = knowledge_base_id
        self._run_job = run_job
        self._progress = progress
        self._finished = 0
        self._in_all = 0
        self.put_off: set[str] = set()

    def expect(self, files: int) -> None:
        """So many more are to come."""
        self._in_all += files

    def accept(
        self, sources: Sequence[Source], report: IngestReport, remember: Remember | None = None
    ) -> Iterator[list[Taken]]:
        """A batch at a time; while one is worked on the next is being taken in, and whoever leaves waits for that.

        What is refused is in the report. `remember` is given: they are a folder's, which may remove them again. It is
        told of each batch at once, in whatever thread: should the run be broken off, the next one knows whose they are.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="ingest-accept") as threads:
            coming: Future[_Batch] | None = None
            for batch in _batches(sources):
                # Not before the last one is whole: where that found no room, nothing more is stored.
                before = coming.result() if coming is not None else None
                coming = threads.submit(self._take, batch, remember)
                if before is not None:
                    yield self._told(before, report)
            if coming is not None:
                yield self._told(coming.result(), report)

    def accept_one(self, source: Source, report: IngestReport) -> list[Taken]:
        """A folder's file, as documents that its caller will remember: as many as it has, being an archive."""
        return self._told(self._accept([source], mirrored=True), report)

    def replace(self, source: Source, document_id: str, report: IngestReport) -> list[Taken]:
        """A folder's file as its document's next version: one entry, or none where it is refused, which is reported.

        Raises ContentTaken, NotFound.
        """
        try:
            with source.file.open("rb") as content:
                incoming = Incoming(source.file.name, None, content)
                receipt = self.storage.intake.replace(self.tenant, document_id, incoming, None, mirrored=True)
        except OSError as error:
            report.skip(text_of(source.file), error)
        except (InvalidInput, UnsupportedType) as error:
            report.fail(text_of(source.file), of(error))
        else:
            return self._told(_Batch(1, [], *_sorted_out([source], receipt.job_id, receipt.entries)), report)
        self.passed(1)
        return []

    def work(
        self, taken: Sequence[Taken], report: IngestReport, outcome: Literal["ready", "updated"] = "ready"
    ) -> set[str]:
        """Until all are ingested, or have failed; the documents that are ready then."""
        for job_id in dict.fromkeys(entry.job_id for entry in taken if entry.is_new):
            self._work(job_id)
        jobs = {job_id: self.storage.jobs.get(self.tenant, job_id) for job_id in {entry.job_id for entry in taken}}
        ready = set()
        for entry in taken:
            problem = _problem(jobs[entry.job_id], entry) if entry.is_new else self._old_problem(entry.document_id)
            if problem is not None:
                report.fail(entry.shown, problem)
                continue
            report.count(outcome if entry.is_new else "duplicates", entry.shown)
            ready.add(entry.document_id)
        return ready

    def finish(self, job_ids: Iterable[str]) -> None:
        """Work on what a run that was broken off has left."""
        for job_id in job_ids:
            self._run_job(job_id)

    def passed(self, files: int) -> None:
        """So many needed nothing."""
        self._finished += files
        self._progress(self._finished, self._in_all)

    def _take(self, sources: Sequence[Source], remember: Remember | None) -> _Batch:
        batch = self._accept(sources, mirrored=remember is not None)
        if remember is not None:
            remember(batch.taken, batch.is_whole)
        return batch

    def _accept(self, sources: Sequence[Source], *, mirrored: bool) -> _Batch:
        """Changes nothing that the thread which works on the batch before uses."""
        unreadable = []
        with ExitStack() as opened:
            incoming: dict[Source, Incoming] = {}
            for source in sources:
                try:
                    incoming[source] = Incoming(source.file.name, None, opened.enter_context(source.file.open("rb")))
                except OSError as error:
                    unreadable.append((source, error))
            files = list(incoming.values())
            job_id, accepted = self.storage.intake.accept(self.tenant, self.knowledge_base_id, files, mirrored=mirrored)
        # Of an archive, which is always alone, there are as many as it has files.
        origins = list(incoming) if len(incoming) != 1 else list(incoming) * len(accepted)
        return _Batch(len(sources), unreadable, *_sorted_out(origins, job_id, accepted))

    def _told(self, batch: _Batch, report: IngestReport) -> list[Taken]:
        for source, error in batch.unreadable:
            report.skip(text_of(source.file), error)
        for refused in batch.refused:
            report.fail(refused.shown, refused.problem)
            if refused.problem.code == ContentTaken.code:
                self.put_off.add(refused.source.path)
        entries = len(batch.taken) + len(batch.refused)
        self._in_all += entries - batch.files
        self.passed(entries - sum(entry.is_new for entry in batch.taken))
        return batch.taken

    def _work(self, job_id: str) -> None:
        with ThreadPoolExecutor(1, thread_name_prefix="ingest-job") as threads:
            working = threads.submit(self._run_job, job_id)
            while wait([working], _LOOK_SECONDS).not_done:
                self._progress(self._finished + self.storage.jobs.done(job_id), self._in_all)
            working.result()
        self.passed(self.storage.jobs.done(job_id))

    def _old_problem(self, document_id: str) -> Problem | None:
        """What is there already may be waiting, left by a run that was broken off, or have failed before."""
        self.finish(self.storage.jobs.open_jobs(document_id))
        try:
            return self.storage.documents.get(self.tenant, document_id).error
        except NotFound as error:
            return Problem(error.code, error.title, "the document was deleted meanwhile", dict(error.data))


def _batches(sources: Sequence[Source]) -> Iterator[list[Source]]:
    """Archives last, each alone."""
    plain = [source for source in sources if not source.may_be_archive]
    for start in range(0, len(plain), _FILES_AT_ONCE):
        yield plain[start : start + _FILES_AT_ONCE]
    yield from ([source] for source in sources if source.may_be_archive)


def _sorted_out(
    sources: Sequence[Source], job_id: str, accepted: Sequence[Accepted]
) -> tuple[list[Taken], list[_Refused]]:
    taken, refused = [], []
    for source, entry in zip(sources, accepted, strict=True):
        member = entry.filename.partition("/")[2] if source.may_be_archive else ""
        shown = text_of(source.file) + (f"/{member}" if member else "")
        if entry.problem is not None:
            refused.append(_Refused(source, shown, entry.problem))
        elif entry.registered is not None and entry.sha256 is not None:
            path = f"{source.path}/{member}" if member else source.path
            is_new = entry.registered.status == "queued"
            made = Taken(source, path, shown, entry.registered.document_id, entry.sha256, job_id, is_new)
            taken.append(made)
    return taken, refused


def _problem(job: Job, entry: Taken) -> Problem | None:
    """Why it has not become a document; None where it has."""
    items = [item for item in job.items if item.document_id == entry.document_id]
    if any(item.state == "ready" for item in items):
        return None
    told: Collection[Problem] = [item.problem for item in items if item.problem is not None]
    cancelled = Problem("cancelled", "Not ingested", "it was cancelled, deleted or replaced before it was ingested")
    return next(iter(told), cancelled)
