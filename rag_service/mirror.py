"""A folder kept equal to its documents in a knowledge base: what is new, changed, moved or gone in it is so there.

What was seen is in SQL (`mirrored_files`), so a run that was broken off, or the next one, takes nothing in twice.
The folder is the truth: a document that was changed otherwise gets the file's content again. Only documents that
mirroring itself put there, and whose bytes nobody has uploaded besides, are ever changed or removed, and only once no
path of any mirrored folder has their content.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import watchfiles

from rag_service import media_types
from rag_service.db.mirrored_files import MirroredFile, MirroredFiles, Standing
from rag_service.errors import ContentTaken, NotFound, Overloaded, StorageFull
from rag_service.listing import Found, Listing, Patterns, above, list_folder, text_of
from rag_service.taking import IngestReport, Source, Taken, Taker

SETTLE_SECONDS = 1.0
"""A file that has not changed for so long is no longer being written."""
RESCAN_SECONDS = 60.0
"""How often a folder is looked through although nothing was told: not every file system tells."""
_TICK_MILLISECONDS = 500
_WAIT_SECONDS = 1.0
_WAIT_FOR_BETTER_SECONDS = 5.0
_NEVER = -1
"""A time of change that no file has."""


@dataclass(frozen=True, slots=True)
class Altered:
    """A file and what is known of it: at its own path or, of an archive, at those of its members."""

    found: Found
    before: Sequence[Standing]


@dataclass(frozen=True, slots=True)
class Comparison:
    """`fresh` and `altered` are to be taken in; `same` need nothing; `gone` are known paths without a file."""

    fresh: list[Found] = field(default_factory=list)
    altered: list[Altered] = field(default_factory=list)
    same: list[Standing] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)


def compare(listing: Listing, known: Mapping[str, Standing], patterns: Patterns) -> Comparison:
    """Paths that are left out by now, or that may be in a part of the folder that could not be read, are not gone."""
    made = Comparison()
    entries: dict[str, list[Standing]] = {}
    for path, standing in known.items():
        source = _source(path, listing.files)
        if source is not None:
            entries.setdefault(source, []).append(standing)
        elif patterns.take(_file_of(path)) and not listing.may_hold(path):
            made.gone.append(path)
    for path, found in listing.files.items():
        before = entries.get(path, [])
        if not before:
            made.fresh.append(found)
        elif all(_is_same(found, standing) for standing in before):
            made.same.extend(before)
        else:
            made.altered.append(Altered(found, before))
    return made


class Settling:
    """Which changes have lasted: the same in two looks, at least `seconds` apart."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: dict[tuple[str, int, int], float] = {}

    def lasting(self, changes: Comparison, now: float) -> Comparison:
        """Those of them; the others have to be looked at again (`is_waiting`)."""
        marks = [*_marks(changes), *map(_absent, changes.gone)]
        self._since = {mark: self._since.get(mark, now) for mark in marks}
        lasting = {mark for mark, since in self._since.items() if now - since >= self._seconds}
        self._since = {mark: since for mark, since in self._since.items() if mark not in lasting}
        return Comparison(
            [found for found in changes.fresh if _mark(found) in lasting],
            [change for change in changes.altered if _mark(change.found) in lasting],
            changes.same,
            [path for path in changes.gone if _absent(path) in lasting],
        )

    @property
    def is_waiting(self) -> bool:
        return bool(self._since)


class Mirror:
    """One folder. `removes`: what is gone from the folder is removed from the knowledge base, too."""

    def __init__(
        self,
        taker: Taker,
        root: Path,
        patterns: Patterns,
        *,
        removes: bool,
        settle_seconds: float = 0.0,
    ) -> None:
        self.root = root.resolve()
        self._taker = taker
        self._patterns = patterns
        self._removes = removes
        self._files = MirroredFiles(taker.storage.database)
        self._key = text_of(self.root)
        self._settling = Settling(settle_seconds)
        self._tried: set[tuple[str, int, int]] = set()
        self._renamed: set[tuple[str, str]] = set()
        self._seen_filled: tuple[int, int] | None = None
        self._is_unfinished = False
        self._told_empty = False
        self._told: set[str] = set()

    def update(self, report: IngestReport) -> None:
        """Look through the folder once. Raises OSError where it cannot be read: then nothing was changed."""
        self._is_unfinished = True
        self._taker.put_off.clear()
        identity = self.identity()
        listing = list_folder(self.root, self._patterns)
        self._taker.finish(self._files.open_jobs(self._kb, self._key))
        known = self._files.of(self._kb, self._key)
        compared = compare(listing, known, self._patterns)
        changes = self._settling.lasting(self._untried(compared), time.monotonic())
        self._tell_unreadable(listing, report)
        self._taker.expect(len(changes.fresh) + len(changes.altered) + len(changes.same))
        self._count_same(changes.same, report)
        self._take_fresh(changes.fresh, report)
        leaving = self._take_altered(changes.altered, report)
        if self._removes and self._may_remove(changes, identity, report):
            leaving.files += [known[path].file for path in changes.gone]
            leaving.paths += changes.gone
        self._remove_unheld(leaving, report)
        self._rename(listing, self._files.of(self._kb, self._key), report)
        self._note_tried(listing, changes, compared)
        self._is_unfinished = False

    def identity(self) -> tuple[int, int] | None:
        """Another one when the folder was unmounted, or made anew; None where there is none."""
        try:
            status = os.stat(self.root)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    @property
    def is_waiting(self) -> bool:
        """Whether something was still in motion, or went wrong, so that `update` has to be called again soon."""
        return self._is_unfinished or self._settling.is_waiting

    @property
    def _kb(self) -> str:
        return self._taker.knowledge_base_id

    def _untried(self, changes: Comparison) -> Comparison:
        """Without what this process has tried just so in vain: it was told once, and would fail again."""
        return replace(
            changes,
            fresh=[found for found in changes.fresh if _mark(found) not in self._tried],
            altered=[change for change in changes.altered if _mark(change.found) not in self._tried],
        )

    def _note_tried(self, listing: Listing, taken: Comparison, compared: Comparison) -> None:
        """What is still not as it should be. A file that was away, or another one, since it was tried is tried anew."""
        attempted = _marks(taken)
        left = compare(listing, self._files.of(self._kb, self._key), self._patterns) if attempted else compared
        tried = (self._tried | attempted) & _marks(left)
        self._tried = {mark for mark in tried if mark[0] not in self._taker.put_off}

    def _count_same(self, same: Sequence[Standing], report: IngestReport) -> None:
        for standing in same:
            report.count("duplicates", standing.file.path)
        self._taker.passed(len(same))

    def _tell_unreadable(self, listing: Listing, report: IngestReport) -> None:
        """Each once: it may stay so for long."""
        report.skipped += listing.skipped
        for path in listing.unreadable.keys() - self._told:
            report.skip(text_of(self.root / path), listing.unreadable[path])
        self._told = set(listing.unreadable)

    def _take_fresh(self, fresh: Sequence[Found], report: IngestReport) -> None:
        by_path = {found.path: found for found in fresh}

        def remember(taken: Sequence[Taken], is_whole: bool) -> None:
            self._remember(((entry, by_path[entry.source.path], False) for entry in taken), is_whole)

        for taken in self._taker.accept([Source(found.path, found.file) for found in fresh], report, remember):
            self._taker.work(taken, report)

    def _take_altered(self, altered: Sequence[Altered], report: IngestReport) -> _Leaving:
        leaving = _Leaving()
        for change in altered:
            before = {standing.file.path: standing.file for standing in change.before}
            [standing, *others] = change.before
            if others or standing.file.path != change.found.path:
                self._take_instead(change.found, before, leaving, report)
            elif self._is_only_touched(change.found, standing, report):
                self._taker.passed(1)
            elif not self._is_ours_alone(standing.file) or not self._take_version(change.found, standing.file, report):
                self._take_instead(change.found, before, leaving, report)
        return leaving

    def _is_only_touched(self, found: Found, standing: Standing, report: IngestReport) -> bool:
        """Or cannot be read, which is reported."""
        try:
            if not standing.is_settled or _sha256(found.file) != standing.file.sha256:
                return False
        except OSError as error:
            report.skip(text_of(found.file), error)
            return True
        touched = replace(standing.file, bytes=found.bytes, modified_ns=found.modified_ns)
        self._files.put(self._kb, self._key, [touched])
        report.count("duplicates", found.path)
        return True

    def _take_version(self, found: Found, before: MirroredFile, report: IngestReport) -> bool:
        """The next version of the document; False where that cannot be: it, or the bytes, is another's, or gone."""
        try:
            taken = self._taker.replace(Source(found.path, found.file), before.document_id, report)
        except (ContentTaken, NotFound):
            return False
        self._remember((entry, found, before.owned) for entry in taken)
        self._taker.work(taken, report, "updated")
        return True

    def _take_instead(
        self, found: Found, before: Mapping[str, MirroredFile], leaving: _Leaving, report: IngestReport
    ) -> None:
        """Other documents at the same paths. Those from before go only once these answer."""
        failures = len(report.failed)
        taken = self._taker.accept_one(Source(found.path, found.file), report)
        refused = {found.path + shown.removeprefix(text_of(found.file)) for shown, _, _ in report.failed[failures:]}
        ready = self._taker.work(taken, report)
        good = [entry for entry in taken if entry.document_id in ready]
        owned = {path for path, file in before.items() if file.owned}
        self._remember(((entry, found, entry.path in owned) for entry in good), len(report.failed) == failures)
        now = {entry.path: entry.document_id for entry in good}
        leaving.files += [file for path, file in before.items() if now.get(path, file.document_id) != file.document_id]
        if taken and self._removes:
            # What was refused is there all the same: its last good version goes on answering, like any file's.
            gone = before.keys() - {entry.path for entry in taken} - refused
            leaving.files += [before[path] for path in gone]
            leaving.paths += gone

    def _remember(self, taken: Iterable[tuple[Taken, Found, bool]], is_whole: bool = True) -> None:
        """What was accepted, of which file, and whether the path's document was ours before.

        Where not all of an archive was taken it is looked at again next time, and told of again.
        """
        entries = list(taken)
        holders = self._files.holders(self._kb, [entry.document_id for entry, _, _ in entries])
        owned = {holder.document_id for holder in holders if holder.owned}
        # Of two files with the same new bytes the first brings the document, and both have it.
        owned |= {entry.document_id for entry, _, was_owned in entries if entry.is_new or was_owned}
        files = [
            MirroredFile(
                entry.path, entry.document_id, entry.sha256, found.bytes,
                found.modified_ns if is_whole or not found.is_archive else _NEVER,
                entry.document_id in owned,
            )
            for entry, found, was_owned in entries
        ]  # fmt: skip
        self._files.put(self._kb, self._key, files)

    def _is_ours_alone(self, file: MirroredFile) -> bool:
        """Else its content is somebody's who has not changed it."""
        here = os.path.join(self._key, file.path)
        holders = self._files.holders(self._kb, [file.document_id])
        return file.owned and all(os.path.join(holder.root, holder.path) == here for holder in holders)

    def _may_remove(self, changes: Comparison, identity: tuple[int, int] | None, report: IngestReport) -> bool:
        """Where nothing known is there any more the folder may only be unmounted, unless this process has seen it
        filled and it is the same still."""
        if changes.same or changes.altered:
            self._seen_filled = identity
        if not changes.gone or (identity is not None and self._seen_filled == identity):
            return True
        if not self._told_empty:
            known = f"none of the {len(changes.gone)} files known of {self._key}"
            report.notes.append(f"{known} is there: is it mounted? Nothing is removed")
        self._told_empty = True
        return False

    def _remove_unheld(self, leaving: _Leaving, report: IngestReport) -> None:
        """The documents first: what is forgotten before would never be removed."""
        places = {(self._key, path) for path in leaving.paths}
        holders = self._files.holders(self._kb, [file.document_id for file in leaving.files])
        held = {holder.document_id for holder in holders if (holder.root, holder.path) not in places}
        for document_id in {file.document_id for file in leaving.files if file.owned} - held:
            # Somebody else may have deleted it already, or just uploaded it, too.
            with suppress(NotFound, ContentTaken):
                self._taker.storage.delete_document(self._taker.tenant, document_id, mirrored=True)
                report.removed += 1
        self._files.forget(self._kb, self._key, leaving.paths)

    def _rename(self, listing: Listing, known: Mapping[str, Standing], report: IngestReport) -> None:
        """A document of one file that has another name now gets a version under that: answers cite what they cited.

        Tried once: the same bytes may be no document of the type that the new name says.
        """
        misnamed = [
            standing
            for path, standing in known.items()
            if path in listing.files and standing.file.owned and standing.is_settled
            and standing.filename != _name(path) and (standing.file.document_id, path) not in self._renamed
        ]  # fmt: skip
        holders = self._files.holders(self._kb, [standing.file.document_id for standing in misnamed])
        held = Counter(holder.document_id for holder in holders)
        for standing in misnamed:
            if held[standing.file.document_id] == 1:
                self._renamed.add((standing.file.document_id, standing.file.path))
                self._taker.expect(1)
                self._take_version(listing.files[standing.file.path], standing.file, report)


@dataclass(slots=True)
class _Leaving:
    """`files` were, before, at paths that have another document now, or at one of `paths`, where nothing is now."""

    files: list[MirroredFile] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


def watch(
    mirrors: Sequence[Mirror], stopped: threading.Event | None = None, rescan_seconds: float = RESCAN_SECONDS
) -> Iterator[IngestReport]:
    """Keep the folders mirrored until `stopped`; one report of the first look, and of each that found something new."""
    stopped, lost, last = stopped or threading.Event(), set[Path](), None
    while not stopped.is_set():
        there = [mirror for mirror in mirrors if mirror.identity() is not None]
        # A folder is gone, with its disk perhaps: that is no reason to remove anything.
        missing = {mirror.root for mirror in mirrors} - {mirror.root for mirror in there}
        if missing - lost:
            names = ", ".join(sorted(map(text_of, missing)))
            yield IngestReport(notes=[f"not there: {names}; nothing is removed of what was in it"])
        lost = missing
        if not there:
            stopped.wait(_WAIT_SECONDS)
            continue
        for _ in _stirs(mirrors, there, stopped, rescan_seconds):
            report = _look(there, stopped)
            # Trouble that lasts is told of once.
            if last is None or report.changed or (report.trouble and report.trouble != last):
                yield report
            last = report.trouble


def _look(mirrors: Sequence[Mirror], stopped: threading.Event) -> IngestReport:
    report, begun = IngestReport(), time.monotonic()
    for mirror in mirrors:
        try:
            mirror.update(report)
        except OSError as error:
            report.skip(text_of(mirror.root), error)
            stopped.wait(_WAIT_FOR_BETTER_SECONDS)
        except (StorageFull, Overloaded) as error:
            # It may pass, and what was not taken is not forgotten.
            report.notes.append(f"{error.title}: {error.detail}")
            stopped.wait(_WAIT_FOR_BETTER_SECONDS)
    report.seconds = time.monotonic() - begun
    return report


def _stirs(
    mirrors: Sequence[Mirror], there: Sequence[Mirror], stopped: threading.Event, rescan_seconds: float
) -> Iterator[None]:
    """Each time when those `there` should be looked through, at first at once; until any is another than it was."""
    identities = [mirror.identity() for mirror in mirrors]
    looked = -rescan_seconds
    stirs = watchfiles.watch(
        *(mirror.root for mirror in there), watch_filter=None, stop_event=stopped, yield_on_timeout=True,
        rust_timeout=_TICK_MILLISECONDS, debounce=_TICK_MILLISECONDS, ignore_permission_denied=True,
    )  # fmt: skip
    for changes in stirs:
        if [mirror.identity() for mirror in mirrors] != identities:
            return
        is_due = time.monotonic() - looked >= rescan_seconds
        if changes or is_due or any(mirror.is_waiting for mirror in there):
            looked = time.monotonic()
            yield


def _source(path: str, files: Mapping[str, Found]) -> str | None:
    """The file that a known path is, or that it is a member of."""
    return next((place for place in (path, *above(path)) if place in files), None)


def _file_of(path: str) -> str:
    """What patterns choose by: of a member, going by the name, its archive."""
    archives = [folder for folder in above(path) if media_types.SUFFIXES.get(_suffix(folder)) == media_types.ZIP]
    return archives[-1] if archives else path


def _name(path: str) -> str:
    """As a document of the file is called."""
    return unicodedata.normalize("NFC", os.path.basename(path))


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _is_same(found: Found, standing: Standing) -> bool:
    file = standing.file
    return standing.is_settled and (file.bytes, file.modified_ns) == (found.bytes, found.modified_ns)


def _mark(found: Found) -> tuple[str, int, int]:
    return found.path, found.bytes, found.modified_ns


def _marks(changes: Comparison) -> set[tuple[str, int, int]]:
    """Of the files that are to be taken in."""
    return {_mark(found) for found in (*changes.fresh, *(change.found for change in changes.altered))}


def _absent(path: str) -> tuple[str, int, int]:
    return path, -1, -1


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
