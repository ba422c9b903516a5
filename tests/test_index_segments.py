from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from legs import SOME_TEXT, always, in_words, one_way

from rag_service.errors import IndexDamaged, StorageFull
from rag_service.index import segments
from rag_service.index.bm25 import Statistics, weigh
from rag_service.index.compaction import is_due
from rag_service.index.dense import Ids
from rag_service.index.lexical import LexicalBase, LexicalWriter
from rag_service.index.live_view import LiveIndex
from rag_service.index.rebuild import Rebuilder
from rag_service.ports import Head, IndexRow, Segment, SegmentFile, VectorSpace
from rag_service.text import TERMS_VERSION
from rag_service.types import PassageFilter

DIMENSIONS = 16
SPACE = VectorSpace("embedder", DIMENSIONS)


def rows(count: int) -> Iterator[IndexRow]:
    vectors = np.random.default_rng(0).standard_normal((count, DIMENSIONS)).astype(np.float16)
    for i in range(count):
        yield IndexRow(
            10 + 3 * i, f"passage number n{i} 第{i}段", vectors[i], replace(SOME_TEXT, document_id=f"d{i // 7}")
        )


def built(root: Path, count: int = 40, segment_id: str = "s1") -> Segment:
    return segments.build(root, "kb", segment_id, 7, "embedder", DIMENSIONS, rows(count))


def found_by(term: str, base: LexicalBase) -> Ids:
    frequencies = base.frequencies((term,))
    asked = weigh(one_way(term), (term,), Statistics(base.chunks, frequencies, 0, np.zeros_like(frequencies)))
    return base.search((term,), asked, 5)[0]


def test_a_segment_comes_back_as_it_was_built(tmp_path: Path) -> None:
    segment = built(tmp_path, 3000)
    base = segments.load(tmp_path, segment)
    assert (segment.chunks, segment.revision, segment.embedder) == (3000, 7, "embedder")
    assert (base.segment_id, base.revision) == ("s1", 7)
    assert base.dense.ids.tolist() == [row.chunk_id for row in rows(3000)]
    row = next(row for row in rows(3000) if row.chunk_id == 10 + 3 * 1234)
    vector = row.vector.astype(np.float32)
    assert base.dense.search(vector, 1)[0].tolist() == [row.chunk_id]
    assert found_by("n1234", base.lexical).tolist() == [row.chunk_id]
    only = PassageFilter(document_ids=frozenset({row.attributes.document_id}))
    assert base.dense.ids[base.attributes.let_through(only)].tolist() == [
        other.chunk_id for other in rows(3000) if other.attributes == row.attributes
    ]


def test_every_file_is_named_and_no_draft_is_left(tmp_path: Path) -> None:
    segment = built(tmp_path)
    folder = tmp_path / "kb" / "s1"
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    named = {file.path for file in segment.files}
    assert {"dense.faiss", "attributes.npz", "meta.json", "lexical/meta.json"} <= named
    assert all(Path(path).name.startswith(".tantivy-") for path in present - named)
    assert [path.name for path in (tmp_path / "kb").iterdir()] == ["s1"]


def test_a_segment_of_no_chunks_works(tmp_path: Path) -> None:
    base = segments.load(tmp_path, built(tmp_path, 0))
    assert len(base.dense) == base.lexical.chunks == 0


def test_loading_twice_is_not_disturbed_by_what_tantivy_writes_when_it_opens(tmp_path: Path) -> None:
    segment = built(tmp_path)
    segments.load(tmp_path, segment)
    segments.load(tmp_path, segment)


def _named(segment: Segment, path: str) -> Path:
    return Path(segment.knowledge_base_id, segment.id, path)


def test_one_changed_byte_in_any_region_of_any_file_is_detected(tmp_path: Path) -> None:
    segment = built(tmp_path)
    for file in segment.files:
        path = tmp_path / _named(segment, file.path)
        whole = path.read_bytes()
        regions = max(1, len(whole) // 32)
        for at in {min(len(whole) - 1, region * 32) for region in range(regions + 1)}:
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(IndexDamaged) as caught:
                segments.load(tmp_path, segment)
            assert caught.value.data["file"] == file.path
        path.write_bytes(whole)
    segments.load(tmp_path, segment)


@pytest.mark.parametrize("damage", ["truncated", "longer", "deleted", "emptied"])
def test_a_file_of_another_size_is_detected(tmp_path: Path, damage: str) -> None:
    segment = built(tmp_path)
    for file in segment.files:
        path = tmp_path / _named(segment, file.path)
        whole = path.read_bytes()
        if damage == "deleted":
            path.unlink()
        else:
            path.write_bytes({"truncated": whole[:-1], "longer": whole + b"\0", "emptied": b""}[damage])
        with pytest.raises(IndexDamaged, match=r"segment s1: "):
            segments.load(tmp_path, segment)
        path.write_bytes(whole)


def test_a_file_too_many_or_a_folder_too_few_is_detected(tmp_path: Path) -> None:
    segment = built(tmp_path)
    extra = tmp_path / "kb" / "s1" / "lexical" / "other.idx"
    extra.touch()
    with pytest.raises(IndexDamaged, match=r"other\.idx is not part"):
        segments.load(tmp_path, segment)
    extra.unlink()
    shutil.rmtree(tmp_path / "kb")
    with pytest.raises(IndexDamaged, match="is missing"):
        segments.load(tmp_path, segment)


def test_a_segment_with_another_count_than_sql_says_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IndexDamaged, match="number of chunks"):
        segments.load(tmp_path, replace(built(tmp_path), chunks=41))


def made_by_another_release(root: Path, segment: Segment, what: str, version: int | None) -> Segment:
    """As a release with other terms or files left it: every file has its recorded hash."""
    path = root / _named(segment, "meta.json")
    facts = json.loads(path.read_bytes())
    facts.pop(what) if version is None else facts.update({what: version})
    path.write_text(json.dumps(facts))
    written = path.read_bytes()
    file = SegmentFile("meta.json", hashlib.sha256(written).hexdigest(), len(written))
    return replace(segment, files=tuple(file if one.path == file.path else one for one in segment.files))


@pytest.mark.parametrize("version", [None, TERMS_VERSION - 1, TERMS_VERSION + 1])
def test_a_segment_whose_terms_were_cut_otherwise_is_refused(tmp_path: Path, version: int | None) -> None:
    segment = made_by_another_release(tmp_path, built(tmp_path), "terms", version)
    with pytest.raises(IndexDamaged, match="terms of version"):
        segments.load(tmp_path, segment)


@pytest.mark.parametrize("version", [None, segments.FORMAT_VERSION - 1, segments.FORMAT_VERSION + 1])
def test_a_segment_of_another_format_is_refused(tmp_path: Path, version: int | None) -> None:
    segment = made_by_another_release(tmp_path, built(tmp_path), "format", version)
    with pytest.raises(IndexDamaged, match="format of version"):
        segments.load(tmp_path, segment)


def test_a_segment_of_a_release_that_knew_no_filters_is_refused_by_its_format(tmp_path: Path) -> None:
    segment = made_by_another_release(tmp_path, built(tmp_path), "format", None)
    (tmp_path / _named(segment, "attributes.npz")).unlink()
    older = replace(segment, files=tuple(file for file in segment.files if file.path != "attributes.npz"))
    with pytest.raises(IndexDamaged, match="format of version 1"):
        segments.load(tmp_path, older)


@dataclass
class OneChunk:
    """SQL's part: a change feed and the names of segments, for a knowledge base of one chunk."""

    row: IndexRow
    segment: Segment

    def head(self, knowledge_base_id: str) -> Head:
        return Head(self.segment.revision, SPACE, self.segment)

    @contextmanager
    def snapshot(self, knowledge_base_id: str) -> Iterator[OneChunk.Snapshot]:
        yield OneChunk.Snapshot(self.head(knowledge_base_id), self.row)

    def name_segment(self, segment: Segment) -> list[str]:
        replaced, self.segment = self.segment, segment
        return [replaced.id]

    @dataclass(frozen=True)
    class Snapshot:
        head: Head
        row: IndexRow

        def added(self, after: int) -> Iterator[IndexRow]:
            return iter([self.row] if after == 0 else [])

        def retired(self, after: int) -> list[int]:
            return []


def test_a_segment_of_older_terms_is_rebuilt_and_then_found_in_either_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = IndexRow(10, "軟體授權費用由總公司負擔", np.eye(DIMENSIONS, dtype=np.float16)[0], SOME_TEXT)
    with monkeypatch.context() as patch:
        # As cut by a release that did not fold scripts.
        patch.setattr("rag_service.index.lexical.index_terms", lambda text: list(text))
        old = segments.build(tmp_path, "kb", "old", 7, "embedder", DIMENSIONS, iter([row]))
    sql = OneChunk(row, made_by_another_release(tmp_path, old, "terms", None))
    rebuilder = Rebuilder(tmp_path, sql, sql)
    index = LiveIndex(tmp_path, sql, rebuilder.rebuild)
    elsewhere = np.eye(DIMENSIONS, dtype=np.float32)[1]

    for question in ("软体授权费用", "軟體授權費用"):
        [hit] = index.search("kb", always(in_words(elsewhere, question)), 5).hits
        assert hit.chunk_id == 10
        assert hit.lexical > 0.4
    assert sql.segment.id != "old"
    assert not (tmp_path / "kb" / "old").exists()
    assert index.status()["kb"].base_chunks == 1


def test_a_loaded_base_outlives_its_folder(tmp_path: Path) -> None:
    base = segments.load(tmp_path, built(tmp_path))
    segments.remove(tmp_path, "kb", "s1")
    assert not (tmp_path / "kb" / "s1").exists()
    assert found_by("n7", base.lexical).tolist() == [10 + 3 * 7]
    assert len(base.dense.search(np.ones(DIMENSIONS, dtype=np.float32), 5)[0]) == 5


def test_rows_out_of_order_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    backwards = iter([*rows(5)][::-1])
    with pytest.raises(ValueError, match="ascending"):
        segments.build(tmp_path, "kb", "s1", 7, "embedder", DIMENSIONS, backwards)
    assert [*segments.folders(tmp_path)] == []


def test_a_feed_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[IndexRow]:
        yield from rows(1500)
        raise ConnectionError("the database went away")

    with pytest.raises(ConnectionError):
        segments.build(tmp_path, "kb", "s1", 7, "embedder", DIMENSIONS, broken())
    assert [*segments.folders(tmp_path)] == []


def test_what_an_earlier_crash_left_is_written_over(tmp_path: Path) -> None:
    leftover = tmp_path / "kb" / "s1.tmp" / "lexical"
    leftover.mkdir(parents=True)
    (leftover / "half.idx").write_bytes(b"?")
    segments.load(tmp_path, built(tmp_path))


def test_folders_lists_published_and_abandoned_ones(tmp_path: Path) -> None:
    assert [*segments.folders(tmp_path / "nowhere")] == []
    built(tmp_path)
    (tmp_path / "kb" / "s0.tmp").mkdir()
    found = {(folder.knowledge_base_id, folder.name) for folder in segments.folders(tmp_path)}
    assert found == {("kb", "s1"), ("kb", "s0.tmp")}
    segments.remove(tmp_path, "kb", "s0.tmp")
    segments.remove(tmp_path, "kb", "never-there")
    assert [folder.name for folder in segments.folders(tmp_path)] == ["s1"]


def _fail_the_kth_fsync(monkeypatch: pytest.MonkeyPatch, k: int) -> list[int]:
    real, calls = os.fsync, [0]

    def fsync(descriptor: int) -> None:
        calls[0] += 1
        if calls[0] == k:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return calls


def test_a_disk_full_at_any_fsync_says_so_and_leaves_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    k = 0
    while True:
        k += 1
        with monkeypatch.context() as patch:
            calls = _fail_the_kth_fsync(patch, k)
            try:
                segment = built(tmp_path, 3, segment_id=f"s{k}")
            except StorageFull:
                assert not (tmp_path / "kb" / f"s{k}.tmp").exists()
                continue
        assert calls[0] == k - 1 == len(segment.files) + 5
        segments.load(tmp_path, segment)
        return


def test_a_lexical_writer_that_stops_on_a_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = LexicalWriter(tmp_path)
    _fail_the_kth_fsync(monkeypatch, 1)
    # tantivy's own words when its disk is full, as seen on a 2 MB tmpfs.
    stopped = ValueError("An error occurred in a thread: 'An index writer was killed..'")
    assert writer._stopped(stopped).errno == errno.ENOSPC
    assert writer._stopped(stopped).errno == errno.EIO


@pytest.mark.parametrize(
    ("tail", "retired", "base", "due"),
    [
        (0, 0, 0, False),
        (99, 0, 0, False),
        (100, 0, 0, True),
        (60, 40, 500, True),
        (100, 0, 501, False),
        (0, 200, 1000, True),
    ],
)
def test_compaction_is_due_at_a_fifth_of_the_base_and_never_for_less_than_the_minimum(
    tail: int, retired: int, base: int, due: bool
) -> None:
    assert is_due(tail, retired, base, minimum=100) is due
