"""Documents over the API: taken in, shown, deleted."""

from __future__ import annotations

import hashlib
import io
import random
import threading
import uuid
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from calls import ingest, retrieve, upload
from conftest import SAMPLES, finished, wait_until
from fastapi.testclient import TestClient

from rag_service.bootstrap import Service
from rag_service.verify import differences

PARAGRAPHS = "\n\n".join(
    f"## 第 {n} 节 😀\n\n星河路由器的第 {n} 项功能由管理员开启。Feature number {n} is described here at some length. "
    * 3
    for n in range(1, 40)
)


def test_several_files_are_taken_in_by_one_request(client: TestClient, kb: str) -> None:
    contents = {"一.txt": "第一份文件。".encode(), "two.md": b"# Two\n\nThe second file."}

    response = upload(client, kb, contents)

    assert response.status_code == 202
    items = response.json()["items"]
    assert [(item["filename"], item["status"]) for item in items] == [("一.txt", "queued"), ("two.md", "queued")]
    assert [item["sha256"] for item in items] == [hashlib.sha256(c).hexdigest() for c in contents.values()]
    job = finished(client, response.json()["job_id"])
    assert (job["state"], job["done"], job["total"]) == ("succeeded", 2, 2)


def test_one_bad_file_never_rejects_the_others(client: TestClient, kb: str) -> None:
    files = {"good.txt": b"A good file.", "empty.txt": b"", "tool.exe": b"MZ\x90\x00", "fine.md": b"Fine as well."}

    response = upload(client, kb, files)

    assert response.status_code == 202
    items = response.json()["items"]
    assert [item["status"] for item in items] == ["queued", "rejected", "rejected", "queued"]
    assert [item["problem"] and item["problem"]["status"] for item in items] == [None, 422, 415, None]
    assert [item["document_id"] is None for item in items] == [False, True, True, False]
    assert finished(client, response.json()["job_id"])["total"] == 2


def test_when_all_files_are_bad_the_first_problem_is_the_answer(client: TestClient, kb: str) -> None:
    wrong_first = upload(client, kb, {"tool.exe": b"MZ\x90\x00", "empty.txt": b""})
    empty_first = upload(client, kb, {"empty.txt": b"", "tool.exe": b"MZ\x90\x00"})

    assert (wrong_first.status_code, empty_first.status_code) == (415, 422)
    assert [item["problem"]["status"] for item in wrong_first.json()["items"]] == [415, 422]
    assert client.get(f"/v1/knowledge-bases/{kb}/documents").json()["items"] == []


def test_the_same_bytes_are_the_same_document(client: TestClient, kb: str) -> None:
    first = ingest(client, kb, {"a.txt": "The same bytes."})["a.txt"]

    again = upload(client, kb, {"other name.txt": b"The same bytes."}).json()

    assert [(i["status"], i["document_id"]) for i in again["items"]] == [("duplicate", first)]
    job = client.get(f"/v1/jobs/{again['job_id']}").json()
    assert (job["state"], job["total"], job["items"]) == ("succeeded", 0, [])
    assert client.get(f"/v1/documents/{first}").json()["filename"] == "a.txt"


def test_the_same_bytes_may_live_in_two_knowledge_bases(client: TestClient, kb: str) -> None:
    other = client.post("/v1/knowledge-bases", json={"name": uuid.uuid4().hex}).json()["id"]
    content = f"Shared bytes {kb}."
    here, there = (ingest(client, each, {"a.txt": content})["a.txt"] for each in (kb, other))

    client.delete(f"/v1/documents/{here}")

    assert client.get(f"/v1/documents/{there}/content").content == content.encode()


def test_a_text_needs_no_file(client: TestClient, kb: str) -> None:
    body = {"title": "会议纪要", "text": "会议决定下周发布。😀", "source_uri": "https://example.org/x?y=1"}
    response = client.post(f"/v1/knowledge-bases/{kb}/texts", json=body)

    assert response.status_code == 202
    document = response.json()["items"][0]["document_id"]
    finished(client, response.json()["job_id"])
    shown = client.get(f"/v1/documents/{document}").json()
    assert (shown["filename"], shown["media_type"]) == ("会议纪要", "text/plain")
    assert (shown["source_uri"], shown["language"], shown["state"]) == (body["source_uri"], "zh", "ready")
    assert client.get(f"/v1/documents/{document}/text").json()["text"] == body["text"]


def test_a_title_may_hold_a_slash_and_is_saved_under_a_name_without(client: TestClient, kb: str) -> None:
    long = client.post(f"/v1/knowledge-bases/{kb}/texts", json={"title": "长" * 200, "text": "A long title."})
    assert long.status_code == 202
    response = client.post(f"/v1/knowledge-bases/{kb}/texts", json={"title": "TCP/IP, v4", "text": "On TCP/IP."})

    document = response.json()["items"][0]["document_id"]
    assert client.get(f"/v1/documents/{document}").json()["filename"] == "TCP/IP, v4"
    assert "TCP_IP" in client.get(f"/v1/documents/{document}/content").headers["content-disposition"]


def test_a_ready_document_tells_what_is_known_of_it(client: TestClient, kb: str) -> None:
    pdf = next(SAMPLES.glob("documents/*.pdf"))
    document = ingest(client, kb, {pdf.name: pdf.read_bytes()})[pdf.name]

    shown = client.get(f"/v1/documents/{document}").json()

    assert shown["knowledge_base_id"] == kb
    assert (shown["filename"], shown["media_type"]) == (pdf.name, "application/pdf")
    assert shown["sha256"] == hashlib.sha256(pdf.read_bytes()).hexdigest()
    assert (shown["bytes"], shown["version"], shown["state"]) == (pdf.stat().st_size, 1, "ready")
    assert shown["error"] is None
    assert shown["pages"] >= 1
    assert shown["chunks"] >= 1
    assert shown["created_at"] <= shown["updated_at"]


def test_documents_are_listed_in_pages_and_by_state(client: TestClient, kb: str) -> None:
    good = {f"{n}.txt": f"Document number {n}." for n in range(5)}
    documents = ingest(client, kb, good)
    broken = upload(client, kb, {"broken.pdf": b"%PDF-1.7 and no more"}).json()
    finished(client, broken["job_id"])

    seen, cursor = [], ""
    while cursor is not None:
        page = client.get(f"/v1/knowledge-bases/{kb}/documents?state=ready&limit=2" + (cursor and f"&cursor={cursor}"))
        seen += [item["id"] for item in page.json()["items"]]
        cursor = page.json()["next_cursor"]
    failed = client.get(f"/v1/knowledge-bases/{kb}/documents?state=failed").json()["items"]

    assert seen == list(documents.values())
    assert [item["filename"] for item in failed] == ["broken.pdf"]
    assert failed[0]["error"]["status"] == 422
    assert client.get(f"/v1/knowledge-bases/{kb}/documents?state=lost").status_code == 422


def test_text_is_cut_by_unicode_characters(client: TestClient, kb: str) -> None:
    document = ingest(client, kb, {"a.txt": "保修😀期为两年。"})["a.txt"]

    whole = client.get(f"/v1/documents/{document}/text").json()
    part = client.get(f"/v1/documents/{document}/text?start=1&end=4").json()

    assert whole == {"text": "保修😀期为两年。", "char_start": 0, "char_end": 8, "total_chars": 8, "version": 1}
    assert part == {"text": "修😀期", "char_start": 1, "char_end": 4, "total_chars": 8, "version": 1}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("start=5&end=2", ("", 2, 2)),
        ("start=" + "9" * 30, ("", 8, 8)),
        ("end=" + "9" * 4_000, ("保修😀期为两年。", 0, 8)),
        ("start=0&end=0", ("", 0, 0)),
    ],
    ids=["start after end", "start past the text", "end past the text", "nothing"],
)
def test_extreme_spans_of_text_are_cut_to_the_text(
    client: TestClient, kb: str, query: str, expected: tuple[str, int, int]
) -> None:
    document = ingest(client, kb, {"a.txt": "保修😀期为两年。"})["a.txt"]

    shown = client.get(f"/v1/documents/{document}/text?{query}").json()

    assert (shown["text"], shown["char_start"], shown["char_end"]) == expected


@pytest.mark.parametrize("query", ["start=-1", "end=-1", "start=1.5", "start=x", "start=", "end=" + "9" * 5_000])
def test_spans_that_make_no_sense_are_refused(client: TestClient, kb: str, query: str) -> None:
    document = ingest(client, kb, {"a.txt": "x y z"})["a.txt"]

    assert client.get(f"/v1/documents/{document}/text?{query}").status_code == 422


def test_chunks_come_in_order_and_are_what_the_text_says_at_their_offsets(client: TestClient, kb: str) -> None:
    document = ingest(client, kb, {"a.md": PARAGRAPHS})["a.md"]
    text = client.get(f"/v1/documents/{document}/text").json()["text"]

    chunks, cursor = [], ""
    while cursor is not None:
        page = client.get(f"/v1/documents/{document}/chunks?limit=3" + (cursor and f"&cursor={cursor}")).json()
        chunks += page["items"]
        cursor = page["next_cursor"]

    assert len(chunks) > 6
    assert [chunk["ordinal"] for chunk in chunks] == list(range(len(chunks)))
    assert all(text[chunk["char_start"] : chunk["char_end"]] == chunk["text"] for chunk in chunks)
    assert any(chunk["headings"] for chunk in chunks)


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1e3", "٣", "9" * 19, "9" * 64])
def test_a_cursor_nobody_was_given_is_refused(client: TestClient, kb: str, cursor: str) -> None:
    document = ingest(client, kb, {"a.txt": "x y z"})["a.txt"]

    assert client.get(f"/v1/documents/{document}/chunks", params={"cursor": cursor}).status_code == 422


@pytest.mark.parametrize(
    "filename",
    ["plain.txt", "员工手册 第二版.txt", 'it\'s "quoted"; x=y.txt', "100%25 real.txt", "😀.txt", "ctrl-free,comma.txt"],
)
def test_the_original_comes_back_as_an_attachment_byte_for_byte(client: TestClient, kb: str, filename: str) -> None:
    content = f"\ufeffOriginal bytes\r\n{filename}\r\n".encode("utf-16")
    quoted = filename.replace("\\", "\\\\").replace('"', '\\"').encode()
    body = b'--b\r\nContent-Disposition: form-data; name="files"; filename="%b"\r\n\r\n%b\r\n--b--\r\n' % (
        quoted,
        content,
    )
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    accepted = client.post(f"/v1/knowledge-bases/{kb}/documents", content=body, headers=headers).json()
    assert accepted["items"][0]["filename"] == filename

    response = client.get(f"/v1/documents/{accepted['items'][0]['document_id']}/content")

    assert response.content == content
    disposition = response.headers["Content-Disposition"]
    assert disposition.startswith("attachment; filename*=UTF-8''")
    assert disposition.isascii()
    assert unquote(disposition.partition("''")[2]) == filename
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_a_range_that_makes_no_sense_still_gets_the_whole_original(client: TestClient, kb: str) -> None:
    document = ingest(client, kb, {"a.txt": "All of it."})["a.txt"]

    response = client.get(f"/v1/documents/{document}/content", headers={"Range": "bytes=900-1"})

    assert (response.status_code, response.content) == (200, b"All of it.")


def test_a_large_original_comes_back_whole(client: TestClient, kb: str) -> None:
    content = b"%PDF-1.7 " + random.Random(7).randbytes(3_000_000)
    document = upload(client, kb, {"long.pdf": content}).json()["items"][0]["document_id"]

    response = client.get(f"/v1/documents/{document}/content")

    assert response.content == content


def test_a_document_without_text_yet_says_so(client: TestClient, kb: str) -> None:
    accepted = upload(client, kb, {"broken.pdf": b"%PDF-1.7 and no more"}).json()
    finished(client, accepted["job_id"])

    response = client.get(f"/v1/documents/{accepted['items'][0]['document_id']}/text")

    assert response.status_code == 404
    assert response.json()["state"] == "failed"


def test_a_deleted_document_is_gone_when_the_deletion_returns(client: TestClient, running: Service, kb: str) -> None:
    documents = ingest(client, kb, {"a.txt": f"A purple elephant {uuid.uuid4()}.", "b.txt": "A green giraffe."})
    document = documents["a.txt"]
    sha256 = client.get(f"/v1/documents/{document}").json()["sha256"]
    assert retrieve(client, kb, "purple elephant")["passages"][0]["document_id"] == document

    assert client.delete(f"/v1/documents/{document}").status_code == 204

    assert document not in {p["document_id"] for p in retrieve(client, kb, "purple elephant")["passages"]}
    paths = ["", "/text", "/chunks", "/content"]
    assert [client.get(f"/v1/documents/{document}{path}").status_code for path in paths] == [404] * 4
    assert client.delete(f"/v1/documents/{document}").status_code == 404
    assert not running.storage.blobs.exists(sha256)
    assert list(differences(running.storage, deep=True)) == []


def test_deleted_bytes_can_be_uploaded_again(client: TestClient, kb: str) -> None:
    first = ingest(client, kb, {"a.txt": "Here, gone, here."})["a.txt"]
    client.delete(f"/v1/documents/{first}")

    second = ingest(client, kb, {"a.txt": "Here, gone, here."})["a.txt"]

    assert second != first
    assert [p["document_id"] for p in retrieve(client, kb, "gone")["passages"]] == [second]


def test_a_document_deleted_while_it_is_ingested_is_never_found(client: TestClient, running: Service, kb: str) -> None:
    files = {f"{n}.txt": f"Needle {n} {uuid.uuid4()}. ".encode() * 100 for n in range(8)}
    accepted = upload(client, kb, files).json()

    for item in accepted["items"]:
        assert client.delete(f"/v1/documents/{item['document_id']}").status_code == 204
    job = finished(client, accepted["job_id"])

    assert {item["state"] for item in job["items"]} <= {"cancelled", "ready", "failed"}
    assert retrieve(client, kb, "needle")["passages"] == []
    wait_until(lambda: list(differences(running.storage, deep=True)) == [], 10)


def test_deletion_beside_retrieval_never_leaks_and_never_fails(client: TestClient, kb: str) -> None:
    documents = ingest(client, kb, {f"{n}.txt": f"The zebra number {n} eats grass." for n in range(12)})
    deleted: set[str] = set()
    leaks: list[str] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            before = set(deleted)
            found = retrieve(client, kb, "zebra grass", top_k=50)["passages"]
            leaks.extend(p["document_id"] for p in found if p["document_id"] in before)

    looking = [threading.Thread(target=look) for _ in range(2)]
    for thread in looking:
        thread.start()
    for document in documents.values():
        assert client.delete(f"/v1/documents/{document}").status_code == 204
        deleted.add(document)
    ended.set()
    for thread in looking:
        thread.join()

    assert leaks == []
    assert retrieve(client, kb, "zebra grass")["passages"] == []


def test_missing_bytes_are_a_fault_of_the_service_and_told_without_paths(
    client: TestClient, running: Service, kb: str
) -> None:
    accepted = upload(client, kb, {"a.txt": f"Lost {uuid.uuid4()}".encode()}).json()
    finished(client, accepted["job_id"])
    path: Path = running.storage.blobs.path(accepted["items"][0]["sha256"])
    path.unlink()

    response = client.get(f"/v1/documents/{accepted['items'][0]['document_id']}/content")

    assert response.status_code == 500
    assert response.json()["type"] == "urn:youju:problem:blob-missing"
    assert str(path.parent) not in response.text
    client.delete(f"/v1/documents/{accepted['items'][0]['document_id']}")


def put(client: TestClient, document: str, content: str, etag: str | None, name: str = "new.md") -> Any:
    headers = {} if etag is None else {"If-Match": etag}
    return client.put(f"/v1/documents/{document}/content", files={"file": (name, content.encode())}, headers=headers)


def etag_of(client: TestClient, document: str) -> str:
    return str(client.get(f"/v1/documents/{document}").headers["ETag"])


def test_a_document_gets_a_new_version(client: TestClient, running: Service, kb: str) -> None:
    document = ingest(client, kb, {"old.txt": "A purple elephant eats hay."})["old.txt"]
    old = hashlib.sha256(b"A purple elephant eats hay.").hexdigest()
    new = hashlib.sha256(b"A green giraffe eats leaves.").hexdigest()
    assert etag_of(client, document) == f'"{old}"'

    response = put(client, document, "A green giraffe eats leaves.", f'"{old}"')

    assert response.status_code == 202
    assert response.headers["ETag"] == etag_of(client, document) == f'"{new}"'
    [item] = response.json()["items"]
    assert item == {
        "document_id": document, "filename": "new.md", "sha256": new, "status": "queued", "problem": None,
    }  # fmt: skip
    assert finished(client, response.json()["job_id"])["state"] == "succeeded"
    shown = client.get(f"/v1/documents/{document}").json()
    assert (shown["version"], shown["filename"], shown["sha256"], shown["media_type"]) == (
        2, "new.md", new, "text/markdown",
    )  # fmt: skip
    content = client.get(f"/v1/documents/{document}/content")
    assert (content.content, content.headers["ETag"]) == (b"A green giraffe eats leaves.", f'"{new}"')
    texts = [passage["text"] for passage in retrieve(client, kb, "elephant giraffe")["passages"]]
    assert texts == ["A green giraffe eats leaves."]
    assert not running.storage.blobs.exists(old)


def test_a_new_version_without_if_match_is_refused(client: TestClient, kb: str) -> None:
    document = ingest(client, kb, {"a.txt": "Present content."})["a.txt"]

    response = put(client, document, "New.", None)

    assert response.status_code == 428
    assert response.json()["type"] == "urn:youju:problem:version-required"


@pytest.mark.parametrize("etag", ['"0000"', 'W/"{}"', '""', '"0", W/"{}"'])
def test_a_new_version_of_something_else_than_is_there_is_refused(client: TestClient, kb: str, etag: str) -> None:
    document = ingest(client, kb, {"a.txt": f"Present content {etag}."})["a.txt"]
    present = etag_of(client, document).strip('"')

    response = put(client, document, "New.", etag.replace("{}", present))

    assert response.status_code == 412
    assert (response.json()["type"], response.json()["etag"]) == ("urn:youju:problem:version-changed", present)
    assert etag_of(client, document) == f'"{present}"'


@pytest.mark.parametrize("etag", ["*", " * ", '"{}"', '"0", "{}"', 'W/"0" , "{}"'])
def test_if_match_may_name_anything_or_several(client: TestClient, kb: str, etag: str) -> None:
    document = ingest(client, kb, {"a.txt": f"Present content {etag}."})["a.txt"]
    present = etag_of(client, document).strip('"')

    response = put(client, document, f"New {etag}.", etag.replace("{}", present))

    assert response.status_code == 202


@pytest.mark.parametrize("etag", ["0000", '"0', "", '"0" "1"', '*, "0"'])
def test_an_if_match_that_is_none_is_refused(client: TestClient, kb: str, etag: str) -> None:
    document = ingest(client, kb, {"a.txt": "Present content."})["a.txt"]

    assert put(client, document, "New.", etag).status_code == 422


def test_a_new_version_with_the_bytes_of_another_document_is_refused(client: TestClient, kb: str) -> None:
    documents = ingest(client, kb, {"a.txt": "One content.", "b.txt": "Another content."})

    response = put(client, documents["a.txt"], "Another content.", "*")

    assert response.status_code == 409
    assert response.json()["type"] == "urn:youju:problem:content-taken"
    assert response.json()["document_id"] == documents["b.txt"]


def test_a_new_version_with_the_same_bytes_is_a_duplicate(client: TestClient, kb: str) -> None:
    document = ingest(client, kb, {"a.txt": "Same content."})["a.txt"]

    response = put(client, document, "Same content.", "*")

    assert (response.status_code, response.json()["items"][0]["status"]) == (202, "duplicate")
    assert client.get(f"/v1/documents/{document}").json()["version"] == 1


def test_a_new_version_that_cannot_be_read_leaves_the_old_one(client: TestClient, kb: str) -> None:
    document = ingest(client, kb, {"a.txt": "Readable content."})["a.txt"]

    response = put(client, document, "%PDF-1.7 and no more", "*", "broken.pdf")
    finished(client, response.json()["job_id"])

    shown = client.get(f"/v1/documents/{document}").json()
    assert (shown["state"], shown["version"], shown["filename"]) == ("ready", 1, "a.txt")
    assert shown["error"]["reason"] == "broken"
    assert client.get(f"/v1/documents/{document}/content").content == b"Readable content."
    assert len(retrieve(client, kb, "readable content")["passages"]) == 1


@pytest.mark.parametrize(
    ("name", "content", "status"),
    [("tool.exe", b"MZ\x90\x00", 415), ("empty.txt", b"", 422), ("../a.txt", b"a", 422)],
)
def test_a_new_version_of_a_file_that_is_refused_is_refused(
    client: TestClient, kb: str, name: str, content: bytes, status: int
) -> None:
    document = ingest(client, kb, {"a.txt": "Present content."})["a.txt"]

    response = client.put(
        f"/v1/documents/{document}/content", files={"file": (name, content)}, headers={"If-Match": "*"}
    )

    assert response.status_code == status


@pytest.mark.parametrize("parts", [["files"], ["file", "file"], ["file", "files"]])
def test_a_new_version_is_one_file(client: TestClient, kb: str, parts: list[str]) -> None:
    document = ingest(client, kb, {"a.txt": "Present content."})["a.txt"]
    files = [(part, (f"{n}.txt", f"Content {n}.".encode())) for n, part in enumerate(parts)]

    response = client.put(f"/v1/documents/{document}/content", files=files, headers={"If-Match": "*"})

    assert response.status_code == 422


def test_a_new_version_of_nothing_is_not_found(client: TestClient) -> None:
    assert put(client, "no such id", "New.", None).status_code == 404


def test_a_document_that_failed_is_ingested_again_when_it_is_sent_again(client: TestClient, kb: str) -> None:
    first = upload(client, kb, {"broken.pdf": b"%PDF-1.7 and no more"}).json()
    finished(client, first["job_id"])

    again = upload(client, kb, {"broken.pdf": b"%PDF-1.7 and no more"}).json()

    assert [item["status"] for item in again["items"]] == ["queued"]
    assert again["items"][0]["document_id"] == first["items"][0]["document_id"]
    assert finished(client, again["job_id"])["total"] == 1


def zipped(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, each in files.items():
            archive.writestr(name, each)
    return content.getvalue()


def test_every_file_in_an_archive_becomes_a_document(client: TestClient, running: Service, kb: str) -> None:
    archive = zipped(
        {"a.txt": b"The first file.", "folder/b.md": b"# The second file", "folder/tool.exe": b"MZ\x90\x00"}
    )

    response = upload(client, kb, {"plain.txt": b"Beside it.", "papers.zip": archive})

    items = response.json()["items"]
    assert [(item["filename"], item["status"]) for item in items] == [
        ("plain.txt", "queued"), ("papers.zip/a.txt", "queued"), ("papers.zip/folder/b.md", "queued"),
        ("papers.zip/folder/tool.exe", "rejected"),
    ]  # fmt: skip
    assert items[3]["problem"]["status"] == 415
    assert finished(client, response.json()["job_id"])["state"] == "succeeded"
    shown = client.get(f"/v1/documents/{items[2]['document_id']}").json()
    assert (shown["filename"], shown["media_type"]) == ("papers.zip/folder/b.md", "text/markdown")
    attached = client.get(f"/v1/documents/{items[2]['document_id']}/content")
    assert attached.content == b"# The second file"
    assert "papers.zip_folder_b.md" in attached.headers["Content-Disposition"]
    assert list(differences(running.storage, deep=True)) == []


@pytest.mark.parametrize(
    ("archive", "reason"),
    [(zipped({}), "empty"), (zipped({"a.txt": b"Cut off. " * 99})[:-30], "broken")],
    ids=["empty", "cut"],
)
def test_an_archive_that_cannot_be_opened_is_one_refused_file(
    client: TestClient, kb: str, archive: bytes, reason: str
) -> None:
    items = upload(client, kb, {"good.txt": b"A good file.", "papers.zip": archive}).json()["items"]

    assert [(item["filename"], item["status"]) for item in items] == [
        ("good.txt", "queued"),
        ("papers.zip", "rejected"),
    ]
    assert items[1]["problem"]["reason"] == reason


def test_more_files_than_a_request_may_have_are_refused_with_the_limit(client: TestClient, kb: str) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\nx\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}

    response = client.post(f"/v1/knowledge-bases/{kb}/documents", content=part * 20_001 + b"--b--\r\n", headers=headers)

    assert (response.status_code, response.json()["limit_files"]) == (422, 20_000)


def test_thousands_of_files_are_taken_by_one_request(client: TestClient, kb: str) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="files"; filename="%d.txt"\r\n\r\n\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    empty = b"".join(part % n for n in range(5_000))
    good = b'--b\r\nContent-Disposition: form-data; name="files"; filename="good.txt"\r\n\r\nA good file.\r\n--b--\r\n'

    response = client.post(f"/v1/knowledge-bases/{kb}/documents", content=empty + good, headers=headers)

    items = response.json()["items"]
    assert (response.status_code, len(items), items[-1]["status"]) == (202, 5_001, "queued")
