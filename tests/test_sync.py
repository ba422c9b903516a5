"""Comparing a listing of files with a knowledge base: pure, over the API, and by `youju sync`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import TENANT
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from test_cli import told, youju

from rag_service.api.app import create_app
from rag_service.bootstrap import Service
from rag_service.db.mirrored_files import KnownFile
from rag_service.errors import InvalidInput
from rag_service.sync import FileHash, SyncPlan, plan, read_listing

PATHS = st.sampled_from(["a.md", "b.md", "sub/a.md", "sub/c.md", "d.md"])
HASHES = st.sampled_from([character * 64 for character in "0123456"])
LISTINGS = st.dictionaries(PATHS, HASHES).map(lambda d: [FileHash(path, sha256) for path, sha256 in d.items()])


@st.composite
def _states(draw: st.DrawFn) -> list[KnownFile]:
    """Documents, each with bytes of its own and one or more names; a name may be that of several."""
    hashes = draw(st.lists(HASHES, unique=True, max_size=5))
    return [
        KnownFile(path, f"document {number}", sha256)
        for number, sha256 in enumerate(hashes)
        for path in sorted(draw(st.sets(PATHS, min_size=1, max_size=2)))
    ]


def _done(found: SyncPlan, files: list[FileHash], known: list[KnownFile]) -> list[KnownFile]:
    """The knowledge base after everything was done as told; fails where the service would refuse it."""
    hashes = {file.path: file.sha256 for file in files}
    etags = {entry.document_id: entry.etag for entry in known}
    for change in found.changed:
        assert etags[change.document_id] == change.etag
        assert hashes[change.path] not in etags.values(), "another document has these bytes"
        etags[change.document_id] = hashes[change.path]
    names = {entry.document_id: entry.path for entry in reversed(known)}
    for path in found.missing:
        if hashes[path] not in etags.values():
            etags[f"new {path}"] = hashes[path]
            names[f"new {path}"] = path
    for gone in found.removed:
        del etags[gone.document_id]
    return [KnownFile(names[document_id], document_id, etag) for document_id, etag in etags.items()]


@given(LISTINGS, _states())
def test_once_done_as_told_listing_and_knowledge_base_are_in_sync(
    files: list[FileHash], known: list[KnownFile]
) -> None:
    after = _done(plan(files, known), files, known)

    again = plan(files, after)
    assert again.is_in_sync
    assert {entry.etag for entry in after} == {file.sha256 for file in files}


@given(LISTINGS, _states())
def test_every_file_and_every_document_is_told_of_exactly_once(files: list[FileHash], known: list[KnownFile]) -> None:
    found = plan(files, known)

    told_of = [e.path for e in found.present] + found.missing + [e.path for e in found.changed]
    assert sorted(told_of) == sorted(file.path for file in files)
    standing = {e.document_id for e in (*found.present, *found.changed)}
    removed = [e.document_id for e in found.removed]
    assert len(removed) == len(set(removed))
    assert standing | set(removed) == {entry.document_id for entry in known}
    assert not standing & set(removed)


def test_a_file_that_moved_keeps_its_document() -> None:
    found = plan([FileHash("new.md", "a" * 64)], [KnownFile("old.md", "d", "a" * 64)])

    assert [(e.path, e.document_id) for e in found.present] == [("new.md", "d")]
    assert found.is_in_sync


def test_a_path_with_other_bytes_is_the_next_version_of_its_document() -> None:
    found = plan([FileHash("./a.md", "B" * 64)], [KnownFile("a.md", "d", "a" * 64)])

    assert [(e.path, e.document_id, e.etag) for e in found.changed] == [("a.md", "d", "a" * 64)]
    assert (found.missing, found.removed) == ([], [])


def test_what_came_from_a_listed_archive_stays() -> None:
    known = [KnownFile("x.zip/a.md", "d", "a" * 64)]

    assert plan([FileHash("x.zip", "f" * 64)], known).removed == []
    assert plan([FileHash("x.zip", "f" * 64)], known).missing == ["x.zip"]
    assert [e.document_id for e in plan([], known).removed] == ["d"]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([FileHash("a", "a" * 64), FileHash("./a", "b" * 64)], "duplicate-path"),
        ([FileHash("a", "g" * 64)], "sha256"),
        ([FileHash("a", "a" * 63)], "sha256"),
        ([FileHash("", "a" * 64)], "path"),
        ([FileHash("a" * 1_025, "a" * 64)], "path"),
        ([FileHash(str(number), "a" * 64) for number in range(100_001)], "too-many-entries"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_listing_that_cannot_be_one_is_refused(files: list[FileHash], reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        plan(files, [])
    assert caught.value.data["reason"] == reason


ROWS = [{"path": "a.md", "sha256": "a" * 64}, {"path": "目录/b 二.md", "sha256": "b" * 64}]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"files": ROWS}),
        json.dumps(ROWS, ensure_ascii=False, indent=1),
        "\n".join(json.dumps(row) for row in ROWS) + "\n\n",
        "\r\n".join(json.dumps(row) for row in ROWS),
        "\n".join(f"{row['sha256']}  {row['path']}" for row in ROWS),
        "\n".join(f"{row['sha256']} *{row['path']}" for row in ROWS) + "\n",
    ],
    ids=["object", "list", "lines", "lines of windows", "sha256sum", "sha256sum -b"],
)
def test_listings_come_as_json_as_lines_or_from_sha256sum(text: str) -> None:
    assert read_listing(text) == [FileHash(**row) for row in ROWS]


@given(st.dictionaries(st.text(st.characters(exclude_characters="\r\n"), min_size=1), HASHES, min_size=1))
def test_any_listing_in_json_is_read_as_it_was_written(rows: dict[str, str]) -> None:
    files = [FileHash(path, sha256) for path, sha256 in rows.items()]
    written = [{"path": file.path, "sha256": file.sha256} for file in files]

    assert read_listing(json.dumps({"files": written})) == files
    assert read_listing("\n".join(map(json.dumps, written))) == files


def test_names_that_sha256sum_has_escaped_are_read_as_they_are() -> None:
    assert read_listing(f"\\{'a' * 64}  a\\nb\\\\n.md") == [FileHash("a\nb\\n.md", "a" * 64)]


def test_an_empty_listing_is_one_of_no_files() -> None:
    assert read_listing("") == []
    assert read_listing('{"files": []}') == []


@pytest.mark.parametrize(
    "text",
    ["a.md", '{"path": "a.md"}', '{"files": {}}', '{"files": [1]}', '{"path": 1, "sha256": "a"}', "[" * 100_000,
     json.dumps(ROWS[0]) + "\nnot this", '{"path": "a", "sha256": "b", "more": 1}'],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_what_is_no_listing_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_listing(text)
    assert caught.value.data["reason"] == "listing"


# Over the API. Nothing is ingested: accepted bytes are what counts.


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    with TestClient(create_app(service, auth=False)) as opened:
        yield opened


def _sha256(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def _synced(client: TestClient, kb: str, files: dict[str, str]) -> Any:
    listed = [{"path": path, "sha256": _sha256(content)} for path, content in files.items()]
    response = client.post(f"/v1/knowledge-bases/{kb}/sync", json={"files": listed})
    assert response.status_code == 200, response.text
    return response.json()


def test_following_what_sync_says_brings_a_knowledge_base_into_sync(client: TestClient) -> None:
    kb = client.post("/v1/knowledge-bases", json={"name": "k"}).json()["id"]
    documents = f"/v1/knowledge-bases/{kb}/documents"
    before = {"keep.md": "Kept.", "edit.md": "Before.", "drop.md": "Dropped."}
    uploaded = client.post(documents, files=[("files", (name, text)) for name, text in before.items()]).json()
    ids = {item["filename"]: item["document_id"] for item in uploaded["items"]}
    wanted = {"moved/keep.md": "Kept.", "edit.md": "After.", "new.md": "New."}

    found = _synced(client, kb, wanted)

    assert found == {
        "present": [{"path": "moved/keep.md", "document_id": ids["keep.md"]}],
        "missing": ["new.md"],
        "changed": [{"path": "edit.md", "document_id": ids["edit.md"], "etag": _sha256("Before.")}],
        "removed": [{"path": "drop.md", "document_id": ids["drop.md"]}],
    }
    client.post(documents, files={"files": ("new.md", "New.")}).raise_for_status()
    [changed] = found["changed"]
    client.put(
        f"/v1/documents/{changed['document_id']}/content",
        files={"file": ("edit.md", "After.")}, headers={"If-Match": f'"{changed["etag"]}"'},
    ).raise_for_status()  # fmt: skip
    client.delete(f"/v1/documents/{ids['drop.md']}").raise_for_status()
    again = _synced(client, kb, wanted)
    assert (again["missing"], again["changed"], again["removed"]) == ([], [], [])


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"files": [], "more": 1},
        {"files": [{"path": "a", "sha256": "a" * 64, "size": 1}]},
        {"files": [{"path": "a", "sha256": "z" * 64}]},
        {"files": [{"path": "a", "sha256": "a" * 64 + "\n"}]},
        {"files": [{"path": "", "sha256": "a" * 64}]},
        {"files": [{"path": "a\x00", "sha256": "a" * 64}]},
        {"files": [{"path": "a", "sha256": "a" * 64}] * 2},
        {"files": [{"path": "a", "sha256": "a" * 64}] * 100_001},
    ],
    ids=["none", "unknown member", "unknown of a file", "no hex", "more than hex", "no name", "nul", "twice", "many"],
)
def test_bodies_that_are_no_listing_are_refused(client: TestClient, body: dict[str, object]) -> None:
    kb = client.post("/v1/knowledge-bases", json={"name": "k"}).json()["id"]

    response = client.post(f"/v1/knowledge-bases/{kb}/sync", json=body)

    assert response.status_code == 422
    assert response.json()["type"] == "urn:youju:problem:invalid-input"


def test_a_foreign_knowledge_base_cannot_be_listed(client: TestClient, service: Service) -> None:
    foreign = service.storage.knowledge_bases.create("red", "k").id

    for kb in (foreign, "unknown"):
        response = client.post(f"/v1/knowledge-bases/{kb}/sync", json={"files": []})
        assert response.status_code == 404
    assert TENANT != "red"


# By `youju sync`.


def test_the_command_says_what_is_missing_and_returns_0_only_in_sync(tmp_path: Path) -> None:
    folder, data = tmp_path / "folder", tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.md").write_text("The first text.")
    (folder / "sub" / "b.md").write_text("The second text.")
    assert youju("ingest", folder, "--kb", "k", "--data", data).exit_code == 0
    listing = tmp_path / "listing"
    lines = [f"{_sha256(f.read_text())}  ./{f.relative_to(folder)}" for f in sorted(folder.rglob("*.md"))]
    listing.write_text("\n".join(lines))

    same = youju("sync", listing, "--kb", "k", "--data", data)
    listing.write_text("\n".join([lines[0], f"{'a' * 64}  new.md"]))
    other = youju("sync", listing, "--kb", "k", "--data", data)
    as_json = told(youju("sync", listing, "--kb", "k", "--data", data, "--json"))

    assert (same.exit_code, other.exit_code) == (0, 1)
    assert "2 present, 0 missing, 0 changed, 0 to be removed" in same.stdout
    assert "1 present, 1 missing, 0 changed, 1 to be removed" in other.stdout
    assert "sub/b.md" in other.stdout
    assert (as_json["missing"], [entry["path"] for entry in as_json["removed"]]) == (["new.md"], ["sub/b.md"])


@pytest.mark.parametrize("content", [b"no listing", b"\xff\xfe", b'[{"path": "a", "sha256": "b"}]'])
def test_what_the_command_cannot_read_is_said_and_returns_2(tmp_path: Path, content: bytes) -> None:
    data, listing = tmp_path / "data", tmp_path / "listing"
    (tmp_path / "a.md").write_text("A text.")
    assert youju("ingest", tmp_path / "a.md", "--kb", "k", "--data", data).exit_code == 0
    listing.write_bytes(content)

    result = youju("sync", listing, "--kb", "k", "--data", data)

    assert result.exit_code == 2
    assert "Invalid input" in result.stderr
