from __future__ import annotations
import os, io, shutil, time
from test_mirror import *
from test_mirror import rooms, place

pytest.importorskip("hypothesis")

def upd(place, patterns=EVERYTHING, mirror=None):
    r = IngestReport(); (mirror or place.mirror(patterns=patterns)).update(r); return r

def test_excluded_folder_by_path(place):
    place.write({"archive/old/a.md": "First one.", "b.md": "Second."})
    place.update()
    r = upd(place, Patterns(exclude=("archive/old",)))
    print(counts(r)); assert r.removed == 0

def test_include_md_keeps_zip(place):
    place.write({"x.zip": zipped({"a.md": "First."}), "b.md": "Second."})
    place.update()
    r = upd(place, Patterns(include=("*.md",)))
    print(counts(r)); assert r.removed == 0

def test_exclude_zip_by_path(place):
    place.write({"d/x.zip": zipped({"a.md": "First."}), "b.md": "Second."})
    place.update()
    r = upd(place, Patterns(exclude=("d/*.zip",)))
    assert r.removed == 0

def test_included_zip_by_path_gone(place):
    place.write({"d/x.zip": zipped({"a.md": "First."}), "b.md": "Second."})
    p = Patterns(include=("d/x.zip", "b.md"))
    upd(place, p)
    (place.root / "d/x.zip").unlink()
    assert upd(place, p).removed == 1

def test_restored(place):
    m = place.mirror()
    place.write({"a.md": "First.", "k.md": "Kept."}); f = place.root / "a.md"; st = f.stat()
    upd(place, mirror=m)
    place.write({"a.md": "Other."}); os.utime(f, ns=(st.st_atime_ns, st.st_mtime_ns + 10**9))
    print(counts(upd(place, mirror=m)))
    place.write({"a.md": "First."}); os.utime(f, ns=(st.st_atime_ns, st.st_mtime_ns))
    print(counts(upd(place, mirror=m)))
    assert place.text("a.md") == "First."

def test_moved_out_and_back(place, tmp_path):
    m = place.mirror()
    place.write({"a.md": "First.", "k.md": "Kept."})
    upd(place, mirror=m)
    (place.root / "a.md").rename(tmp_path / "a.md")
    assert upd(place, mirror=m).removed == 1
    (tmp_path / "a.md").rename(place.root / "a.md")
    upd(place, mirror=m)
    assert "a.md" in place.documents()

def test_refused_member(place):
    place.write({"x.zip": zipped({"a.md": "First.", "b.md": "Second."}), "k.md": "K."})
    place.update()
    place.write({"x.zip": zipped({"a.md": "First.", "b.md": "%PDF-1.4\0\0\0"})})
    r = place.update(); print(r.failed)
    assert r.removed == 0

def test_foreign_doc_replaced(place):
    d = place.upload("up.md", "First.")
    place.write({"a.md": "First.", "k.md": "Kept."})
    place.update()
    place.write({"a.md": "Changed now."})
    r = place.update(); print(counts(r))
    assert {place.text(n) for n in place.documents()} >= {"First.", "Changed now."}

def test_upload_of_mirrored_survives(place):
    place.write({"a.md": "First.", "k.md": "Kept."})
    place.update()
    place.upload("up.md", "First.")
    (place.root / "a.md").unlink()
    assert place.update().removed == 0

def test_deleted_by_hand_watch(place):
    m = place.mirror()
    place.write({"a.md": "First.", "k.md": "Kept."})
    upd(place, mirror=m)
    place.rooms.storage.delete_document(TENANT, place.documents()["a.md"].id)
    upd(place, mirror=m)
    assert "a.md" in place.documents()

def test_case_swap_zip_to_md(place):
    place.write({"x.zip": zipped({"a.md": "First.", "b.md": "Second."}), "k.md": "K."})
    place.update()
    (place.root/"x.zip").unlink()
    place.write({"x.zip/a.md": "First."})
    print(counts(place.update()))
    assert len(place.documents()) == 2

def test_second_path_owned(place):
    place.write({"a.md": "Same.", "b.md": "Same.", "k.md": "K."})
    place.update()
    place.write({"a.md": "Other."})
    place.update()
    (place.root / "b.md").unlink()
    assert place.update().removed == 1
