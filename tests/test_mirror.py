"""Mirrored folders: what stands in a folder is what stands in the knowledge base, and nothing else is touched."""

from __future__ import annotations

import io
import itertools
import os
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from conftest import TENANT, wait_until
from hypothesis import given
from hypothesis import strategies as st

from ingest.bootstrap import Ingestion, open_ingestion
from rag_service import config, taking
from rag_service.bootstrap import Storage, open_storage
from rag_service.db.documents import Documents
from rag_service.db.mirrored_files import MirroredFile, MirroredFiles, Standing
from rag_service.errors import NotFound, StorageFull
from rag_service.intake import Incoming
from rag_service.listing import EVERYTHING, Found, Listing, Patterns, list_folder
from rag_service.mirror import Comparison, Mirror, Settling, compare, watch
from rag_service.taking import IngestReport, Taker
from rag_service.types import Document

# What is in a folder.


def test_files_of_known_types_are_listed_and_everything_else_is_counted(tmp_path: Path) -> None:
    for folder in ("sub", ".git"):
        (tmp_path / folder).mkdir()
    for name in ("a.md", "sub/b.PDF", ".git/c.md", ".d.md", "~$e.docx", "f.md~", "g.exe", "none"):
        (tmp_path / name).write_text("text")
    (tmp_path / "linked").symlink_to(tmp_path / "sub")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "gone.md").symlink_to("nowhere.md")
    (tmp_path / "good.md").symlink_to("a.md")
    os.mkfifo(tmp_path / "pipe.md")

    listing = list_folder(tmp_path, EVERYTHING)

    assert set(listing.files) == {"a.md", "sub/b.PDF", "good.md"}
    assert listing.skipped == {
        "hidden": 2, "temporary": 2, "unknown type": 2, "linked folder": 2, "not a file": 2,
    }  # fmt: skip
    assert listing.files["a.md"].bytes == 4


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (Patterns(include=("*.md",)), {"a.md", "sub/b.md", "sub/deep/c.md"}),
        (Patterns(exclude=("sub",)), {"a.md", "a.txt"}),
        (Patterns(exclude=("sub/*.md",)), {"a.md", "a.txt", "sub/b.txt"}),
        (Patterns(include=("sub/*",), exclude=("deep",)), {"sub/b.md", "sub/b.txt"}),
        (Patterns(include=("[!a]*.txt",)), {"sub/b.txt"}),
    ],
    ids=str,
)
def test_patterns_choose_by_names_and_by_paths(tmp_path: Path, patterns: Patterns, names: set[str]) -> None:
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    for name in ("a.md", "a.txt", "sub/b.md", "sub/b.txt", "sub/deep/c.md"):
        (tmp_path / name).write_text("text")

    listing = list_folder(tmp_path, patterns)

    assert set(listing.files) == names
    assert listing.skipped["excluded"] > 0


def test_a_folder_that_is_not_there_is_an_error_and_not_an_empty_one(tmp_path: Path) -> None:
    for root in (tmp_path / "missing", tmp_path / "file"):
        (tmp_path / "file").touch()
        with pytest.raises((FileNotFoundError, NotADirectoryError)):
            list_folder(root, EVERYTHING)


# What has changed.


def _found(path: str, size: int = 1, modified_ns: int = 1) -> Found:
    return Found(path, Path(path), size, modified_ns)


def _standing(path: str, size: int = 1, modified_ns: int = 1, state: str = "ready", live: str = "a") -> Standing:
    return Standing(MirroredFile(path, f"document {path}", "a", size, modified_ns, True), state, live, path)  # type: ignore[arg-type]


_FILES = st.dictionaries(st.sampled_from(["a.md", "b.md", "x.zip", "sub/c.md"]), st.integers(1, 2))
_KNOWN = st.dictionaries(
    st.sampled_from(["a.md", "b.md", "x.zip/m.md", "x.zip/sub/n.md", "sub/c.md", "old.md"]), st.integers(1, 2)
)


@given(_FILES, _KNOWN)
def test_every_file_and_every_known_path_is_in_one_part_of_a_comparison(
    files: dict[str, int], known: dict[str, int]
) -> None:
    listing = Listing({path: _found(path, size) for path, size in files.items()})
    found = compare(listing, {path: _standing(path, size) for path, size in known.items()}, EVERYTHING)

    same = [standing.file.path for standing in found.same]
    before = [standing.file.path for change in found.altered for standing in change.before]
    assert sorted([*same, *before, *found.gone]) == sorted(known)
    taken = {entry.path for entry in found.fresh} | {change.found.path for change in found.altered}
    assert taken | {path if path in files else "x.zip" for path in same} == set(files)


@pytest.mark.parametrize(
    "standing",
    [
        _standing("a.md", size=2), _standing("a.md", modified_ns=2), _standing("a.md", state="failed"),
        _standing("a.md", live="b"), _standing("a.md", state="queued"),
    ],
    ids=["size", "time", "failed", "another version answers", "waits"],
)  # fmt: skip
def test_a_file_is_looked_at_again_unless_its_document_answers_with_just_it(standing: Standing) -> None:
    found = compare(Listing({"a.md": _found("a.md")}), {"a.md": standing}, EVERYTHING)

    assert [change.found.path for change in found.altered] == ["a.md"]


def test_what_is_excluded_or_could_not_be_read_is_not_gone() -> None:
    known = {path: _standing(path) for path in ("a.md", "locked/b.md", "drafts/c.md")}
    listing = Listing(unreadable={"locked": PermissionError()})

    assert compare(listing, known, Patterns(exclude=("drafts",))).gone == ["a.md"]
    assert compare(Listing(unreadable={".": PermissionError()}), known, EVERYTHING).gone == []


@pytest.mark.parametrize(
    "patterns",
    [
        Patterns(include=("*.txt",)),
        Patterns(exclude=("x.zip",)),
        Patterns(exclude=("sub/x.zip",)),
        Patterns(exclude=("sub",)),
        Patterns(exclude=("s*/*.zip",)),
    ],
    ids=str,
)
def test_what_is_in_an_archive_or_a_folder_that_is_left_out_is_not_gone(patterns: Patterns) -> None:
    known = {"sub/x.zip/a.txt": _standing("sub/x.zip/a.txt"), "b.txt": _standing("b.txt")}

    assert compare(Listing(), known, patterns).gone == ["b.txt"]


def test_what_was_in_an_archive_that_was_asked_for_is_gone_with_it() -> None:
    known = {"sub/x.zip/a.txt": _standing("sub/x.zip/a.txt")}

    assert compare(Listing(), known, Patterns(include=("sub/x.zip",))).gone == ["sub/x.zip/a.txt"]


def test_only_what_stays_as_it_is_for_a_while_is_taken_to_be_finished() -> None:
    settling = Settling(1.0)

    def look(size: int, now: float) -> bool:
        return bool(settling.lasting(Comparison(fresh=[_found("a.md", size)]), now).fresh)

    assert not look(1, now=0.0)
    assert settling.is_waiting
    assert not look(1, now=0.9)
    assert not look(2, now=1.1)
    assert not look(2, now=2.0)
    assert look(2, now=2.1)
    assert not settling.is_waiting


# A folder and a knowledge base.


@dataclass(frozen=True)
class Rooms:
    storage: Storage
    ingestion: Ingestion


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rooms]:
    settings = config.load(data=tmp_path_factory.mktemp("mirror") / "data")
    storage, ingestion = open_storage(settings), open_ingestion(settings)
    yield Rooms(storage, ingestion)
    ingestion.close()
    storage.close()


_numbers = itertools.count()


@dataclass(frozen=True)
class Place:
    """A folder, and the knowledge base it is mirrored into."""

    rooms: Rooms
    root: Path
    kb: str

    def write(self, files: dict[str, str | bytes]) -> None:
        for name, content in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    def taker(self, run: Callable[[str], None] | None = None) -> Taker:
        work = run or self.rooms.ingestion.worker.run
        return Taker(self.rooms.storage, work, lambda done, total: None, TENANT, self.kb)

    def mirror(
        self,
        *,
        removes: bool = True,
        root: Path | None = None,
        patterns: Patterns = EVERYTHING,
        run: Callable[[str], None] | None = None,
    ) -> Mirror:
        return Mirror(self.taker(run), root or self.root, patterns, removes=removes)

    def update(self, *, removes: bool = True, root: Path | None = None) -> IngestReport:
        """As a run of its own."""
        report = IngestReport()
        self.mirror(removes=removes, root=root).update(report)
        return report

    def documents(self) -> dict[str, Document]:
        found = self.rooms.storage.documents.browse(TENANT, self.kb, None, 200, None).items
        return {document.filename: document for document in found}

    def text(self, name: str) -> str:
        return self.rooms.storage.documents.text(TENANT, self.documents()[name].id, 0, None).text

    def upload(self, name: str, content: str) -> str:
        job_id, document_id = self.accept(name, content)
        self.rooms.ingestion.worker.run(job_id)
        return document_id

    def accept(self, name: str, content: str) -> tuple[str, str]:
        """By somebody who is no folder; (job id, document id)."""
        file = Incoming(name, None, io.BytesIO(content.encode()))
        job_id, [accepted] = self.rooms.storage.intake.accept(TENANT, self.kb, [file])
        assert accepted.registered is not None
        return job_id, accepted.registered.document_id


@pytest.fixture
def place(rooms: Rooms, tmp_path: Path) -> Place:
    root = tmp_path / "folder"
    root.mkdir()
    return Place(rooms, root, rooms.storage.knowledge_bases.create(TENANT, f"kb {next(_numbers)}").id)


def zipped(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def counts(report: IngestReport) -> tuple[int, int, int, int, int]:
    """(new, next versions, there already, removed, failed)"""
    return report.ready, report.updated, report.duplicates, report.removed, len(report.failed)


def test_what_is_added_changed_and_removed_in_a_folder_is_so_in_the_knowledge_base(place: Place) -> None:
    place.write({"a.md": "First.", "sub/b.md": "Second.", "c.md": "Third."})
    assert counts(place.update()) == (3, 0, 0, 0, 0)
    ids = {name: document.id for name, document in place.documents().items()}

    assert counts(place.update()) == (0, 0, 3, 0, 0)
    place.write({"a.md": "First, changed.", "d.md": "Fourth."})
    (place.root / "c.md").unlink()

    assert counts(place.update()) == (1, 1, 1, 1, 0)
    assert set(place.documents()) == {"a.md", "b.md", "d.md"}
    assert (place.documents()["a.md"].id, place.documents()["a.md"].version) == (ids["a.md"], 2)
    assert place.text("a.md") == "First, changed."


def test_while_one_batch_is_worked_on_the_next_is_taken_in(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taking, "_FILES_AT_ONCE", 2)
    place.write({f"{number}.md": f"Number {number}." for number in range(6)})
    seen = []

    def run(job_id: str) -> None:
        expected = min(4 + 2 * len(seen), 6)
        wait_until(lambda: len(place.documents()) >= expected)
        seen.append(len(place.documents()))
        place.rooms.ingestion.worker.run(job_id)

    report = IngestReport()
    place.mirror(run=run).update(report)

    assert seen == [4, 6, 6]
    assert counts(report) == (6, 0, 0, 0, 0)


def test_what_was_taken_in_ahead_is_the_folders_though_the_run_is_broken_off(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking, "_FILES_AT_ONCE", 2)
    place.write({f"{number}.md": f"Number {number}." for number in range(6)})

    def broken_off(job_id: str) -> None:
        wait_until(lambda: len(place.documents()) == 4)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.mirror(run=broken_off).update(IngestReport())
    one, *others = place.documents()
    for name in others:
        (place.root / name).unlink()

    assert place.update().removed == 3
    assert set(place.documents()) == {path.name for path in place.root.iterdir()} >= {one}


def test_after_a_batch_that_found_no_room_nothing_more_is_stored(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taking, "_FILES_AT_ONCE", 2)
    place.write({f"{number}.md": f"Number {number}." for number in range(8)})
    intake, calls = place.rooms.storage.intake, itertools.count(1)
    accept = type(intake).accept

    def full_at_second(self: object, *arguments: Any, **named: Any) -> object:
        if next(calls) == 2:
            raise StorageFull("no space left")
        return accept(intake, *arguments, **named)

    monkeypatch.setattr(type(intake), "accept", full_at_second)
    with pytest.raises(StorageFull):
        place.update()

    assert next(calls) == 3
    assert [document.state for document in place.documents().values()] == ["ready", "ready"]
    assert counts(place.update()) == (6, 0, 2, 0, 0)


def test_without_mirroring_nothing_is_ever_removed(place: Place) -> None:
    place.write({"a.md": "First.", "b.md": "Second."})
    place.update(removes=False)
    (place.root / "b.md").unlink()
    place.write({"a.md": "First, changed."})

    assert counts(place.update(removes=False)) == (0, 1, 0, 0, 0)
    assert set(place.documents()) == {"a.md", "b.md"}


def test_a_file_that_moves_keeps_its_document(place: Place) -> None:
    place.write({"a.md": "First.", "b.md": "Second."})
    place.update()
    before = place.documents()["a.md"]
    (place.root / "sub").mkdir()
    (place.root / "a.md").rename(place.root / "sub" / "a.md")

    assert counts(place.update()) == (0, 0, 2, 0, 0)
    assert place.documents()["a.md"] == before
    (place.root / "sub" / "a.md").unlink()
    assert counts(place.update()) == (0, 0, 1, 1, 0)


def test_a_file_with_a_new_name_gives_its_document_a_version_under_it(place: Place) -> None:
    place.write({"a.md": "First.", "b.md": "Second."})
    place.update()
    before = place.documents()["a.md"]
    (place.root / "a.md").rename(place.root / "ne\u0301w.txt")

    assert counts(place.update()) == (0, 1, 2, 0, 0)

    after = place.documents()["n\u00e9w.txt"]
    assert (after.id, after.version, after.sha256) == (before.id, 2, before.sha256)
    assert after.media_type == "text/plain"
    assert set(place.documents()) == {"n\u00e9w.txt", "b.md"}
    assert counts(place.update()) == (0, 0, 2, 0, 0)
    assert place.documents()["n\u00e9w.txt"] == after


def test_a_document_of_two_files_is_called_as_one_of_them(place: Place) -> None:
    place.write({"a.md": "Same.", "b.md": "Same."})
    place.update()
    assert counts(place.update()) == (0, 0, 2, 0, 0)
    [before] = place.documents().values()
    (place.root / before.filename).unlink()

    assert counts(place.update()) == (0, 1, 1, 0, 0)

    [after] = place.documents().values()
    assert (after.id, {before.filename, after.filename}) == (before.id, {"a.md", "b.md"})


def test_a_new_name_whose_type_the_bytes_are_not_is_tried_once_and_the_document_stays(place: Place) -> None:
    place.write({"a.md": "First."})
    place.update()
    (place.root / "a.md").rename(place.root / "a.pdf")
    mirror = place.mirror()

    reports = [IngestReport() for _ in range(3)]
    for report in reports:
        mirror.update(report)

    assert place.documents()["a.md"].state == "ready"
    assert [len(report.failed) for report in reports[1:]] == [0, 0]


def test_a_document_that_was_uploaded_too_outlives_its_file(place: Place) -> None:
    place.write({"a.md": "Both.", "b.md": "Other."})
    place.update()
    assert place.upload("mine.md", "Both.") == place.documents()["a.md"].id
    (place.root / "a.md").unlink()

    assert place.update().removed == 0
    assert place.text("a.md") == "Both."
    assert place.update().removed == 0


def test_a_document_that_was_uploaded_too_keeps_its_content_when_its_file_changes(place: Place) -> None:
    place.write({"a.md": "Both."})
    place.update()
    document = place.upload("mine.md", "Both.")
    place.write({"a.md": "Changed, longer."})

    assert counts(place.update()) == (1, 0, 0, 0, 0)
    texts = place.rooms.storage.documents
    assert texts.text(TENANT, document, 0, None).text == "Both."


def test_an_upload_that_comes_before_the_mirror_has_noted_its_file_counts_too(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember = Mirror._remember

    def late(*arguments: Any) -> None:
        place.accept("mine.md", "Both.")
        remember(*arguments)

    monkeypatch.setattr(Mirror, "_remember", late)
    place.write({"a.md": "Both.", "b.md": "Other."})
    place.update()
    (place.root / "a.md").unlink()

    assert place.update().removed == 0
    assert place.text("a.md") == "Both."


@pytest.mark.parametrize("change", ["removed", "changed"])
def test_an_upload_in_the_last_moment_before_a_mirror_acts_keeps_the_document(
    place: Place, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    place.write({"a.md": "Both.", "b.md": "Other."})
    place.update()
    document = place.documents()["a.md"].id
    act = {"removed": "delete", "changed": "replace"}[change]
    plain = getattr(Documents, act)

    def late(*arguments: Any, **named: Any) -> Any:
        place.accept("mine.md", "Both.")
        return plain(*arguments, **named)

    monkeypatch.setattr(Documents, act, late)
    if change == "removed":
        (place.root / "a.md").unlink()
    else:
        place.write({"a.md": "Changed, longer."})

    assert counts(place.update())[1:4:2] == (0, 0)
    assert place.rooms.storage.documents.text(TENANT, document, 0, None).text == "Both."


def test_bytes_that_are_just_being_replaced_are_taken_in_when_that_is_over(place: Place) -> None:
    document = place.upload("theirs.md", "Old.")
    storage = place.rooms.storage
    job_id = storage.intake.replace(TENANT, document, Incoming("theirs.md", None, io.BytesIO(b"New.")), None).job_id
    place.write({"a.md": "Old."})
    mirror, first, second = place.mirror(), IngestReport(), IngestReport()

    mirror.update(first)
    place.rooms.ingestion.worker.run(job_id)
    mirror.update(second)

    assert [reason for _, reason, _ in first.failed] == ["content-taken"]
    assert counts(second) == (1, 0, 0, 0, 0)
    assert {place.text(name) for name in place.documents()} == {"Old.", "New."}


def test_two_paths_with_the_same_bytes_are_one_document_until_both_are_gone(place: Place) -> None:
    place.write({"a.md": "Same.", "b.md": "Same.", "c.md": "Other."})
    assert counts(place.update()) == (2, 0, 1, 0, 0)
    (place.root / "a.md").unlink()
    assert counts(place.update()) == (0, 1, 2, 0, 0)
    place.write({"b.md": "Changed."})
    assert counts(place.update()) == (0, 1, 1, 0, 0)
    (place.root / "b.md").unlink()
    assert counts(place.update()) == (0, 0, 1, 1, 0)


def test_one_of_two_equal_files_that_changes_leaves_the_other_its_document(place: Place) -> None:
    place.write({"a.md": "Same.", "b.md": "Same."})
    place.update()
    place.write({"b.md": "Changed."})

    assert counts(place.update()) == (1, 0, 1, 0, 0)
    assert sorted(document.version for document in place.documents().values()) == [1, 1]


def test_files_that_swap_their_contents_swap_their_documents(place: Place) -> None:
    place.write({"a.md": "First.", "b.md": "Second."})
    place.update()
    before = place.documents()
    place.write({"a.md": "Second.", "b.md": "First."})

    assert place.update().removed == 0
    after = place.documents()
    assert {name: document.id for name, document in after.items()} == {
        "a.md": before["b.md"].id, "b.md": before["a.md"].id,
    }  # fmt: skip
    assert (place.text("a.md"), place.text("b.md")) == ("Second.", "First.")
    place.write({"a.md": "Third."})
    assert counts(place.update()) == (0, 1, 1, 0, 0)


def test_the_last_of_two_equal_files_takes_the_document_with_it(place: Place) -> None:
    place.write({"a.md": "Same.", "b.md": "Same.", "c.md": "Third."})
    place.update()
    place.write({"a.md": "Other."})
    place.update()
    (place.root / "b.md").unlink()

    assert place.update().removed == 1
    assert {place.text(name) for name in place.documents()} == {"Other.", "Third."}


def test_a_document_of_two_folders_is_removed_with_the_second(place: Place, tmp_path: Path) -> None:
    other = tmp_path / "other"
    place.write({"a.md": "Shared.", "b.md": "Own."})
    shutil.copytree(place.root, other)
    place.update()
    place.update(root=other)
    (place.root / "a.md").unlink()
    assert place.update().removed == 0

    (other / "a.md").unlink()

    assert place.update(root=other).removed == 1
    assert set(place.documents()) == {"b.md"}


def test_a_folder_within_a_mirrored_folder_may_be_mirrored_as_well(place: Place) -> None:
    place.write({"sub/a.md": "First.", "b.md": "Second."})
    place.update()
    place.update(root=place.root / "sub")
    place.write({"sub/a.md": "First, changed."})

    assert counts(place.update()) == (0, 1, 1, 0, 0)
    assert counts(place.update(root=place.root / "sub")) == (0, 0, 1, 0, 0)
    assert len(place.documents()) == 2


def test_a_document_that_somebody_else_put_there_is_not_removed(place: Place) -> None:
    mine = place.upload("mine.md", "Also in the folder.")
    place.write({"a.md": "Also in the folder.", "b.md": "Second."})
    assert counts(place.update()) == (1, 0, 1, 0, 0)
    (place.root / "a.md").unlink()

    assert place.update().removed == 0
    assert place.documents()["mine.md"].id == mine


def test_a_document_that_somebody_else_put_there_keeps_its_content_when_the_file_changes(place: Place) -> None:
    place.upload("mine.md", "Also in the folder.")
    place.write({"a.md": "Also in the folder.", "b.md": "Second."})
    place.update()
    place.write({"a.md": "Changed in the folder."})

    assert counts(place.update()) == (1, 0, 1, 0, 0)
    assert (place.text("mine.md"), place.text("a.md")) == ("Also in the folder.", "Changed in the folder.")


def test_documents_of_somebody_else_are_not_removed_when_a_file_changes_from_one_to_another(place: Place) -> None:
    mine = {place.upload("x.md", "First."), place.upload("y.md", "Second.")}
    for content in ("First.", "Second."):
        place.write({"a.md": content, "b.md": "Other."})
        place.update()
    (place.root / "a.md").unlink()

    assert place.update().removed == 0
    assert mine <= {document.id for document in place.documents().values()}


def test_a_file_only_touched_is_not_taken_in_again(place: Place) -> None:
    place.write({"a.md": "First."})
    place.update()
    before = place.documents()
    os.utime(place.root / "a.md", ns=(1, 1))

    assert counts(place.update()) == (0, 0, 1, 0, 0)
    assert place.documents() == before
    known = MirroredFiles(place.rooms.storage.database).of(place.kb, str(place.root))
    assert known["a.md"].file.modified_ns == 1


def test_a_file_that_fails_is_told_of_in_every_run_and_its_last_good_version_answers(place: Place) -> None:
    place.write({"a.txt": "Good."})
    place.update()
    place.write({"a.txt": " \n \n"})

    for _ in range(2):
        assert counts(place.update()) == (0, 0, 0, 0, 1)
    assert place.text("a.txt") == "Good."
    place.write({"a.txt": "Good again."})
    assert counts(place.update()) == (0, 1, 0, 0, 0)


def test_refused_files_are_told_of_in_every_run_but_once_in_one(place: Place) -> None:
    place.write({"a.md": "Good.", "lie.pdf": "No PDF."})
    mirror = place.mirror()
    first, second = IngestReport(), IngestReport()
    mirror.update(first)
    mirror.update(second)

    assert [reason for _, reason, _ in first.failed] == ["unsupported-type"]
    assert second.failed == []
    assert counts(place.update())[4] == 1


def test_a_document_deleted_by_hand_comes_back_with_the_next_run(place: Place) -> None:
    place.write({"a.md": "First."})
    place.update()
    place.rooms.storage.delete_document(TENANT, place.documents()["a.md"].id)

    assert counts(place.update()) == (1, 0, 0, 0, 0)


def test_a_run_broken_off_before_the_work_is_finished_by_the_next(place: Place) -> None:
    place.write({"a.md": "First.", "b.md": "Second."})

    def broken(job_id: str) -> None:
        raise KeyboardInterrupt

    taker = Taker(place.rooms.storage, broken, lambda done, total: None, TENANT, place.kb)
    with pytest.raises(KeyboardInterrupt):
        Mirror(taker, place.root, EVERYTHING, removes=True).update(IngestReport())

    assert counts(place.update()) == (0, 0, 2, 0, 0)
    assert {document.state for document in place.documents().values()} == {"ready"}
    (place.root / "a.md").unlink()
    assert place.update().removed == 1


# Archives.


def test_the_files_of_an_archive_follow_the_archive(place: Place) -> None:
    place.write({"x.zip": zipped({"a.md": "First.", "sub/b.md": "Second.", "c.md": "Third."}), "d.md": "Fourth."})
    assert counts(place.update()) == (4, 0, 0, 0, 0)
    assert counts(place.update()) == (0, 0, 4, 0, 0)
    place.write({"x.zip": zipped({"a.md": "First.", "sub/b.md": "Second, changed."})})

    assert counts(place.update()) == (1, 0, 2, 2, 0)
    assert set(place.documents()) == {"d.md", "x.zip/a.md", "x.zip/sub/b.md"}
    assert place.text("x.zip/sub/b.md") == "Second, changed."
    (place.root / "x.zip").unlink()
    assert counts(place.update()) == (0, 0, 1, 2, 0)


def test_what_an_archive_holds_in_vain_is_told_of_in_every_run(place: Place) -> None:
    place.write({"x.zip": zipped({"a.md": "First.", "b.exe": "Unknown.", "../c.md": "Astray."})})

    for ready, duplicates in ((1, 0), (0, 1)):
        report = place.update()
        assert counts(report) == (ready, 0, duplicates, 0, 2)
        assert {reason for _, reason, _ in report.failed} == {"unsupported-type", "filename"}


def test_a_file_of_an_archive_that_is_refused_leaves_its_last_good_version_answering(place: Place) -> None:
    place.write({"x.zip": zipped({"a.md": "First.", "b.md": "Second.", "c.md": "Third."})})
    place.update()
    place.write({"x.zip": zipped({"a.md": "First.", "b.md": "\0\0"})})

    assert counts(place.update()) == (0, 0, 1, 1, 1)
    assert set(place.documents()) == {"x.zip/a.md", "x.zip/b.md"}
    assert place.text("x.zip/b.md") == "Second."


def test_an_archive_that_is_being_written_takes_nothing_away(place: Place) -> None:
    whole = zipped({"a.md": "First.", "b.md": "Second."})
    place.write({"x.zip": whole, "c.md": "Third."})
    place.update()
    place.write({"x.zip": whole[:-20]})

    assert counts(place.update()) == (0, 0, 1, 0, 1)
    assert len(place.documents()) == 3


# Folders that are away.


def test_a_folder_that_vanished_is_no_reason_to_remove_anything(place: Place) -> None:
    place.write({"a.md": "First."})
    place.update()
    away = place.root.rename(place.root.with_name("away"))

    with pytest.raises(FileNotFoundError):
        place.update()
    place.root.mkdir()
    report = place.update()
    assert counts(report) == (0, 0, 0, 0, 0)
    assert "is it mounted?" in report.notes[0]

    assert set(place.documents()) == {"a.md"}
    place.root.rmdir()
    away.rename(place.root)
    assert counts(place.update()) == (0, 0, 1, 0, 0)


def test_a_folder_emptied_before_our_eyes_is_empty(place: Place) -> None:
    place.write({"a.md": "First."})
    mirror = place.mirror()
    mirror.update(IngestReport())
    mirror.update(IngestReport())
    (place.root / "a.md").unlink()
    report = IngestReport()
    mirror.update(report)

    assert (report.removed, report.notes) == (1, [])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_subfolder_that_may_not_be_read_keeps_its_documents(place: Place) -> None:
    place.write({"a.md": "First.", "sub/b.md": "Second."})
    place.update()
    (place.root / "sub").chmod(0)
    try:
        report = place.update()
    finally:
        (place.root / "sub").chmod(0o755)

    assert (report.removed, [reason for _, reason, _ in report.failed]) == (0, ["unreadable"])


# Watching.


@dataclass(frozen=True)
class Watched:
    place: Place
    reports: list[IngestReport]
    alive: Callable[[], bool]

    def total(self, what: str) -> int:
        return sum(getattr(report, what) for report in self.reports)


@pytest.fixture
def watched(place: Place) -> Iterator[Watched]:
    """A folder with one file that is being watched."""
    place.write({"a.md": "First."})
    stopped, reports = threading.Event(), list[IngestReport]()
    mirror = Mirror(place.taker(), place.root, EVERYTHING, removes=True, settle_seconds=0.3)

    def follow() -> None:
        for report in watch([mirror], stopped):
            reports.append(report)

    thread = threading.Thread(target=follow)
    thread.start()
    watched = Watched(place, reports, thread.is_alive)
    wait_until(lambda: watched.total("ready") == 1, 60)
    yield watched
    stopped.set()
    thread.join(30)
    assert not thread.is_alive()


def test_a_watched_folder_is_followed(watched: Watched) -> None:
    place = watched.place
    place.write({"sub/b.md": "Second.", "a.md": "First, changed."})
    wait_until(lambda: (watched.total("ready"), watched.total("updated")) == (2, 1), 60)
    kept = place.documents()["b.md"]

    (place.root / "sub" / "b.md").rename(place.root / "moved.md")
    shutil.rmtree(place.root / "sub")
    (place.root / "a.md").unlink()
    wait_until(lambda: watched.total("removed") == 1, 60)

    wait_until(lambda: set(place.documents()) == {"moved.md"}, 60)
    assert place.documents()["moved.md"].id == kept.id
    assert watched.total("ready") == 2


def test_a_file_put_back_as_it_was_is_seen_by_the_mirror_that_had_taken_it(place: Place, tmp_path: Path) -> None:
    mirror = place.mirror()
    place.write({"a.md": "First.", "b.md": "Second.", "c.md": "Third."})
    for name in ("a.md", "b.md"):
        shutil.copy2(place.root / name, tmp_path / name)
    mirror.update(IngestReport())
    place.write({"a.md": "Other, and longer."})
    (place.root / "b.md").unlink()
    mirror.update(IngestReport())
    for name in ("a.md", "b.md"):
        shutil.copy2(tmp_path / name, place.root / name)
    report = IngestReport()
    mirror.update(report)

    assert counts(report) == (1, 1, 1, 0, 0)
    assert {name: place.text(name) for name in place.documents()} == {
        "a.md": "First.", "b.md": "Second.", "c.md": "Third.",
    }  # fmt: skip


def test_a_document_deleted_by_hand_comes_back_while_its_folder_is_watched(watched: Watched) -> None:
    place = watched.place
    place.rooms.storage.delete_document(TENANT, place.documents()["a.md"].id)
    place.write({"b.md": "Second."})
    wait_until(lambda: watched.total("ready") == 3, 60)

    assert set(place.documents()) == {"a.md", "b.md"}


def test_a_file_saved_by_way_of_another_is_one_change(watched: Watched) -> None:
    place = watched.place
    document = place.documents()["a.md"].id
    for number in range(3):
        # As editors do: write beside, move away, move in place.
        place.write({".a.md.swp": f"Edit {number}.", "a.md~": "First."})
        os.replace(place.root / ".a.md.swp", place.root / "a.md")
    wait_until(lambda: watched.total("updated") >= 1, 60)

    assert (place.documents()["a.md"].id, place.text("a.md")) == (document, "Edit 2.")
    assert (watched.total("removed"), watched.total("ready")) == (0, 1)


def test_a_file_that_is_still_being_written_waits(watched: Watched) -> None:
    path = watched.place.root / "slow.md"
    with path.open("w") as file:
        for _ in range(12):
            file.write("A sentence of a long file. ")
            file.flush()
            threading.Event().wait(0.15)
        assert "slow.md" not in watched.place.documents()
    wait_until(lambda: watched.total("ready") == 2, 60)

    assert watched.place.documents()["slow.md"].version == 1
    assert watched.total("updated") == 0


def test_a_watched_folder_that_goes_away_and_comes_back_has_lost_nothing(watched: Watched) -> None:
    root = watched.place.root
    root.rename(root.with_name("away"))
    wait_until(lambda: any("not there" in note for report in watched.reports for note in report.notes), 60)
    assert set(watched.place.documents()) == {"a.md"}

    root.with_name("away").rename(root)
    watched.place.write({"b.md": "Second."})
    wait_until(lambda: watched.total("ready") == 2, 60)

    assert watched.total("removed") == 0
    assert set(watched.place.documents()) == {"a.md", "b.md"}


def test_a_full_disk_is_told_of_and_waited_for(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    intake = watched.place.rooms.storage.intake
    accept = type(intake).accept
    full = threading.Event()
    full.set()

    def maybe(self: object, *arguments: Any, **named: Any) -> object:
        if full.is_set():
            raise StorageFull("no space left")
        return accept(intake, *arguments, **named)

    monkeypatch.setattr(type(intake), "accept", maybe)
    monkeypatch.setattr("rag_service.mirror._WAIT_FOR_BETTER_SECONDS", 0.1)
    watched.place.write({"b.md": "Second."})
    wait_until(lambda: any("no space left" in note for report in watched.reports for note in report.notes), 60)
    full.clear()
    wait_until(lambda: watched.total("ready") == 2, 60)

    assert watched.alive()


# What is known, in SQL.


def test_what_is_known_of_paths_is_replaced_and_forgotten(place: Place) -> None:
    files = MirroredFiles(place.rooms.storage.database)
    document = place.upload("a.md", "First.")
    entry = MirroredFile("a.md", document, "a" * 64, 1, 2, True)
    files.put(place.kb, "/r", [entry, replace(entry, path="b.md")])
    files.put(place.kb, "/r", [replace(entry, bytes=3)])
    files.put(place.kb, "/other", [entry])
    files.put(place.kb, "/r", [])

    assert {path: standing.file.bytes for path, standing in files.of(place.kb, "/r").items()} == {"a.md": 3, "b.md": 1}
    assert len(files.holders(place.kb, [document])) == 3
    files.forget(place.kb, "/r", ["a.md", "unknown"])
    assert set(files.of(place.kb, "/r")) == {"b.md"}
    place.rooms.storage.delete_document(TENANT, document)
    assert files.of(place.kb, "/other") == {}


def test_known_names_are_mirrored_paths_or_else_file_names(place: Place) -> None:
    files = MirroredFiles(place.rooms.storage.database)
    one, two = place.upload("a.md", "First."), place.upload("b.md", "Second.")
    digest = place.documents()["a.md"].sha256
    files.put(place.kb, "/r", [MirroredFile(f"sub/{name}", one, digest, 1, 2, True) for name in ("a.md", "c.md")])

    assert [(k.path, k.document_id) for k in files.known(TENANT, place.kb)] == [
        ("sub/a.md", one), ("sub/c.md", one), ("b.md", two),
    ]  # fmt: skip
    with pytest.raises(NotFound):
        files.known("red", place.kb)
