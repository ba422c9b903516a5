from __future__ import annotations

import errno
import hashlib
import io
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_service import blobs as module
from rag_service.blobs import BlobStore
from rag_service.errors import BlobMissing, StorageFull


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def put(blobs: BlobStore, content: bytes) -> str:
    return blobs.put(io.BytesIO(content)).sha256


def leftovers(blobs: BlobStore) -> list[Path]:
    return [path for path in blobs.path("00" * 32).parent.parent.rglob("*") if path.is_file()]


@given(st.binary(max_size=5_000))
def test_bytes_come_back_under_their_hash(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    blobs = BlobStore(tmp_path_factory.getbasetemp() / "shared")
    blob = blobs.put(io.BytesIO(content))
    assert (blob.sha256, blob.bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    with blobs.open(blob.sha256) as file:
        assert file.read() == content
    assert blobs.is_intact(blob.sha256)


def test_a_large_source_is_read_from_where_it_stands(blobs: BlobStore) -> None:
    source = io.BytesIO(b"head" + os.urandom(3 << 20))
    source.seek(4)
    blob = blobs.put(source)
    assert blob.bytes == 3 << 20
    assert blobs.is_intact(blob.sha256)


def test_everything_stored_is_listed_and_half_written_files_are_not(blobs: BlobStore, tmp_path: Path) -> None:
    stored = {put(blobs, bytes([n])) for n in range(20)}
    (tmp_path / "blobs" / "incoming" / "half").write_bytes(b"half")
    assert set(blobs.all()) == stored


def test_a_removed_blob_is_missing_and_removing_twice_is_fine(blobs: BlobStore) -> None:
    sha256 = put(blobs, b"x")
    blobs.remove(sha256)
    blobs.remove(sha256)
    assert not blobs.exists(sha256)
    for call in (blobs.open, blobs.is_intact):
        with pytest.raises(BlobMissing):
            call(sha256)


def test_damage_is_seen_and_mended_by_the_same_upload(blobs: BlobStore) -> None:
    sha256 = put(blobs, b"precious")
    blobs.path(sha256).write_bytes(b"precioux")
    assert blobs.exists(sha256)
    assert not blobs.is_intact(sha256)
    put(blobs, b"precious")
    assert blobs.is_intact(sha256)


def test_the_bytes_are_on_the_disk_before_they_have_their_name(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = []
    fsync, replace = os.fsync, os.replace

    def fsynced(descriptor: int) -> None:
        order.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        fsync(descriptor)

    def replaced(source: Path, target: Path) -> None:
        order.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsynced)
    monkeypatch.setattr(os, "replace", replaced)
    put(blobs, b"x")
    assert order == ["file", "rename", "folder"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_failing_disk_leaves_nothing_behind(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    def failing(*arguments: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(module.os, call, failing)
        with pytest.raises(OSError if number == errno.EIO else StorageFull):
            put(blobs, b"x")
    assert leftovers(blobs) == []
    assert blobs.is_intact(put(blobs, b"x"))


def test_a_source_that_breaks_off_leaves_nothing_behind(blobs: BlobStore) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell():
                raise ConnectionResetError
            return super().read(1)

    with pytest.raises(ConnectionResetError):
        blobs.put(Broken(b"two"))
    assert leftovers(blobs) == []


def test_the_same_bytes_put_and_removed_at_once_are_whole_or_gone(blobs: BlobStore) -> None:
    content = os.urandom(200_000)
    sha256 = hashlib.sha256(content).hexdigest()
    done, faults = threading.Event(), []

    def watch() -> None:
        while not done.is_set():
            try:
                if not blobs.is_intact(sha256):
                    faults.append("damaged")
            except BlobMissing:
                continue

    def put_and_remove(number: int) -> None:
        for step in range(20):
            put(blobs, content)
            if (step + number) % 3 == 0:
                blobs.remove(sha256)

    threads = [threading.Thread(target=put_and_remove, args=(n,)) for n in range(3)]
    watcher = threading.Thread(target=watch)
    watcher.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    watcher.join()
    assert faults == []
    put(blobs, content)
    assert blobs.is_intact(sha256)


def test_only_old_leftovers_of_interrupted_uploads_are_cleared(blobs: BlobStore, tmp_path: Path) -> None:
    old, young = (tmp_path / "blobs" / "incoming" / name for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7_200,) * 2)
    blobs.clear_incoming()
    assert (old.exists(), young.exists()) == (False, True)
