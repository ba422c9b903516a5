"""Bad input: each kind has a precise status or reason, and loses nothing of what was accepted before."""

from __future__ import annotations

import contextlib
import errno
import http.client
import io
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from calls import ask, ingest, retrieve, upload
from conftest import Served, finished
from contract import check_problem
from docx import Document as WordDocument
from fastapi.testclient import TestClient
from reportlab.pdfgen.canvas import Canvas

from rag_service import config
from rag_service.bootstrap import Service, open_storage
from rag_service.verify import differences

MEGABYTE = 1_000_000
ACCEPTED = "Accepted before: the warranty of the router lasts two years."
QUESTION = "How long does the warranty of the router last?"


@pytest.fixture(name="before")
def accepted_before(client: TestClient, kb: str) -> str:
    """A document that was there before the bad input came."""
    return ingest(client, kb, {"before.txt": ACCEPTED})["before.txt"]


@pytest.fixture(autouse=True)
def _nothing_is_lost(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test here: what was accepted is there and answers, and SQL, bytes and index are equal."""
    client, running, kb, before = (
        request.getfixturevalue(name) if "before" in request.fixturenames else None
        for name in ("client", "running", "kb", "before")
    )
    yield
    if client is not None and running is not None and kb is not None:
        assert client.get(f"/v1/documents/{before}/content").content == ACCEPTED.encode()
        assert retrieve(client, kb, QUESTION)["passages"][0]["document_id"] == before
        assert ask(client, kb, QUESTION)["outcome"] == "answered"
        assert list(differences(running.storage, deep=True)) == []


def rejected(response: Any) -> dict[str, Any]:
    """The one item of an upload that was refused as a whole."""
    problem = check_problem(response)
    assert len(problem["items"]) == 1
    item: dict[str, Any] = problem["items"][0]
    assert (item["status"], item["document_id"], item["problem"]["status"]) == ("rejected", None, response.status_code)
    return item


def failure(client: TestClient, kb: str, name: str, content: bytes) -> dict[str, Any]:
    """The problem of a document that was accepted and could not be read."""
    accepted = upload(client, kb, {name: content})
    assert accepted.status_code == 202, accepted.text
    finished(client, accepted.json()["job_id"])
    document = client.get(f"/v1/documents/{accepted.json()['items'][0]['document_id']}").json()
    assert (document["state"], document["chunks"]) == ("failed", 0)
    problem: dict[str, Any] = document["error"]
    assert problem["type"] == "urn:youju:problem:parse-failed"
    return problem


def test_an_empty_file_is_refused(client: TestClient, kb: str, before: str) -> None:
    response = upload(client, kb, {"empty.txt": b""})

    assert response.status_code == 422
    assert rejected(response)["problem"]["reason"] == "empty"


@pytest.mark.parametrize("name", ["tool.exe", "archive.zip", "noextension", ".txt", "notes.txt.exe", "文档.doc"])
def test_an_extension_that_nobody_reads_is_refused(client: TestClient, kb: str, before: str, name: str) -> None:
    response = upload(client, kb, {name: b"Just text, whatever it is called."})

    assert response.status_code == 415
    assert ".pdf" in rejected(response)["problem"]["supported"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text.pdf", b"Just text."),
        ("text.docx", b"Just text."),
        ("program.txt", b"\x7fELF\x02\x01\x01"),
        ("picture.md", b"\x89PNG\r\n\x1a\n"),
        ("document.txt", b"%PDF-1.7"),
        ("binary.txt", b"\x00\x00\x01" * 99),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(
    client: TestClient, kb: str, before: str, name: str, content: bytes
) -> None:
    response = upload(client, kb, {name: content})

    assert response.status_code == 415
    assert rejected(response)["problem"]["found"]


def pdf(**options: Any) -> bytes:
    buffer = io.BytesIO()
    canvas = Canvas(buffer, **options)
    canvas.drawString(72, 720, "A page with some text.")
    canvas.save()
    return buffer.getvalue()


def test_a_broken_pdf_fails_with_a_reason(client: TestClient, kb: str, before: str) -> None:
    problem = failure(client, kb, "broken.pdf", b"%PDF-1.7\n" + os.urandom(2_000))

    assert (problem["reason"], problem["status"]) == ("broken", 422)


def test_a_password_protected_pdf_fails_with_a_reason(client: TestClient, kb: str, before: str) -> None:
    problem = failure(client, kb, "locked.pdf", pdf(encrypt="sesame"))

    assert (problem["reason"], problem["status"]) == ("encrypted", 422)


def test_a_broken_word_file_fails_with_a_reason(client: TestClient, kb: str, before: str) -> None:
    buffer = io.BytesIO()
    word = WordDocument()
    word.add_paragraph("A paragraph.")
    word.save(buffer)

    assert failure(client, kb, "cut.docx", buffer.getvalue()[:2_000])["reason"] == "broken"


def test_bytes_that_are_no_text_in_any_encoding_fail_with_a_reason(client: TestClient, kb: str, before: str) -> None:
    undecodable = "前半是正常的中文文本。".encode() * 30 + b"\xff\xfe\xfd\x80\x81" * 40

    assert failure(client, kb, "undecodable.txt", undecodable)["reason"] == "encoding"


BAD_NAMES = {
    "up": b"../up.txt",
    "absolute": b"/etc/cron.d/x.txt",
    "backslash": b"..\\\\up.txt",
    "tab": b"a\tb.txt",
    "nul": b"a\x00b.txt",
    "escape": b"\x1b[31mred.txt",
    "delete": b"a\x7f.txt",
    "c1": "a\u0085.txt".encode(),
    "line": "a\u2028.txt".encode(),
    "direction": "invoice\u202etxt.exe.txt".encode(),
    "half": b"\xed\xa0\x80.txt",
    "only dots": b"..",
    "nothing": b"",
    "blank": b"   ",
    "long": ("长" * 100 + ".txt").encode(),
}


@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES.keys())
def test_a_name_that_is_a_path_or_cannot_be_shown_is_refused(
    client: TestClient, kb: str, before: str, name: bytes
) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="files"; filename="%b"\r\n\r\nhello\r\n--b--\r\n' % name
    headers = {"Content-Type": "multipart/form-data; boundary=b"}

    response = client.post(f"/v1/knowledge-bases/{kb}/documents", content=body, headers=headers)

    assert response.status_code == 422
    assert rejected(response)["problem"]["reason"] == "filename"


@pytest.mark.parametrize("title", ["a\tb", "x" * 201, "\u202ex", " "], ids=ascii)
def test_a_title_is_one_visible_line(client: TestClient, kb: str, before: str, title: str) -> None:
    response = client.post(f"/v1/knowledge-bases/{kb}/texts", json={"title": title, "text": "A text."})

    assert response.status_code == 422


def test_the_same_file_again_is_the_document_that_is_there(client: TestClient, kb: str, before: str) -> None:
    items = upload(client, kb, {"again.txt": ACCEPTED.encode()}).json()["items"]

    assert [(item["status"], item["document_id"]) for item in items] == [("duplicate", before)]


def test_the_same_file_twice_in_one_request_is_one_document(client: TestClient, kb: str, before: str) -> None:
    accepted = upload(client, kb, {"one.txt": b"Twice in one request.", "two.txt": b"Twice in one request."}).json()
    finished(client, accepted["job_id"])

    assert [item["status"] for item in accepted["items"]] == ["queued", "duplicate"]
    assert len({item["document_id"] for item in accepted["items"]}) == 1


def test_the_same_file_from_eight_threads_is_one_document(client: TestClient, kb: str, before: str) -> None:
    content = f"Racing {uuid.uuid4()}.".encode()
    at_once = threading.Barrier(8)

    def race(number: int) -> dict[str, Any]:
        at_once.wait()
        accepted: dict[str, Any] = upload(client, kb, {f"{number}.txt": content}).json()
        return accepted

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(race, range(8)))
    for answer in answers:
        finished(client, answer["job_id"])

    items = [item for answer in answers for item in answer["items"]]
    assert sorted(item["status"] for item in items) == ["duplicate"] * 7 + ["queued"]
    assert len({item["document_id"] for item in items}) == 1
    assert client.get(f"/v1/knowledge-bases/{kb}").json()["documents"] == 2


def test_the_same_file_put_and_deleted_by_many_is_there_or_not_but_never_half(
    client: TestClient, kb: str, before: str
) -> None:
    content = f"Here and gone {uuid.uuid4()}.".encode()

    def put_and_delete(number: int) -> None:
        for _ in range(5):
            document = upload(client, kb, {"x.txt": content}).json()["items"][0]["document_id"]
            assert client.delete(f"/v1/documents/{document}").status_code in (204, 404)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(put_and_delete, range(4)))

    kept = upload(client, kb, {"x.txt": content}).json()
    finished(client, kept["job_id"])
    assert client.get(f"/v1/documents/{kept['items'][0]['document_id']}/content").content == content


@pytest.mark.parametrize("query", ["", " ", "\n\t\u3000 "], ids=ascii)
@pytest.mark.parametrize("path", ["retrieve", "answers"])
def test_a_question_of_nothing_is_refused(client: TestClient, kb: str, before: str, path: str, query: str) -> None:
    response = client.post(f"/v1/{path}", json={"query": query, "knowledge_base_ids": [kb]})

    assert response.status_code == 422
    assert response.json()["detail"] == "the question is empty"


@pytest.mark.parametrize("query", ["a" * MEGABYTE, "长" * (MEGABYTE // 3), "x" * 8_001], ids=len)
@pytest.mark.parametrize("path", ["retrieve", "answers"])
def test_a_question_of_a_megabyte_is_refused(client: TestClient, kb: str, before: str, path: str, query: str) -> None:
    begun = time.monotonic()
    response = client.post(f"/v1/{path}", json={"query": query, "knowledge_base_ids": [kb]})

    assert response.status_code == 422
    assert response.json()["limit_characters"] == 8_000
    assert len(response.content) < 1_000
    assert time.monotonic() - begun < 2


def test_unknown_ids_are_not_found_and_leave_nothing_behind(
    client: TestClient, running: Service, kb: str, before: str
) -> None:
    unknown = str(uuid.uuid4())
    calls = [
        client.get(f"/v1/documents/{unknown}"),
        client.delete(f"/v1/documents/{unknown}"),
        client.get(f"/v1/jobs/{unknown}"),
        client.post("/v1/answers", json={"query": "x", "knowledge_base_ids": [kb, unknown]}),
        upload(client, unknown, {"a.txt": f"For nobody {unknown}.".encode()}),
        # The bytes of a text are stored before the database is asked whose they are.
        client.post(f"/v1/knowledge-bases/{unknown}/texts", json={"title": "t", "text": f"For nobody {unknown}"}),
    ]

    assert [call.status_code for call in calls] == [404] * len(calls)
    for call in calls:
        check_problem(call)


MULTIPART = {"Content-Type": "multipart/form-data; boundary=b"}
WHOLE = b'--b\r\nContent-Disposition: form-data; name="files"; filename="whole.txt"\r\n\r\nA whole file.\r\n'
PART = b'--b\r\nContent-Disposition: form-data; name="files"; filename="part.txt"\r\n\r\nA part of a fi'
BROKEN_MULTIPARTS: dict[str, tuple[dict[str, str], bytes, int]] = {
    "no multipart": ({"Content-Type": "application/json"}, b"{}", 415),
    "no type": ({}, b"", 415),
    "no boundary": ({"Content-Type": "multipart/form-data"}, WHOLE, 400),
    "nothing": (MULTIPART, b"", 400),
    "garbage": (MULTIPART, os.urandom(500), 400),
    "cut off in a file": (MULTIPART, WHOLE + PART, 400),
    "cut off after a file": (MULTIPART, WHOLE, 400),
    "no parts": (MULTIPART, b"--b--\r\n", 422),
    "another name": (MULTIPART, WHOLE.replace(b'"files"', b'"file"') + b"--b--\r\n", 422),
    "no file": (MULTIPART, WHOLE.replace(b'; filename="whole.txt"', b"") + b"--b--\r\n", 400),
    "too many": (MULTIPART, WHOLE * 1_001 + b"--b--\r\n", 400),
}


@pytest.mark.parametrize(("headers", "body", "status"), BROKEN_MULTIPARTS.values(), ids=BROKEN_MULTIPARTS.keys())
def test_a_malformed_upload_is_refused_as_a_whole(
    client: TestClient, kb: str, before: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    response = client.post(f"/v1/knowledge-bases/{kb}/documents", content=body, headers=headers)

    assert response.status_code == status
    assert client.get(f"/v1/knowledge-bases/{kb}").json()["documents"] == 1


def test_a_body_that_is_not_json_is_refused(client: TestClient, kb: str, before: str) -> None:
    headers = {"Content-Type": "application/json"}

    for body in (b'{"query": "x"', b'{"query": "\xff"}', b"\x00"):
        for path in ("retrieve", "answers", "conversations", f"knowledge-bases/{kb}/texts"):
            assert client.post(f"/v1/{path}", content=body, headers=headers).status_code == 400


def test_too_many_bytes_are_refused_while_they_are_still_coming(
    serve: Callable[..., Served], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setenv("TMPDIR", str(spool))
    served = serve("--workers", "0")
    with served.client() as client:
        kb = client.post("/v1/knowledge-bases", json={"name": "kb"}).json()["id"]
        document = upload(client, kb, {"a.txt": b"Accepted before."}).json()["items"][0]["document_id"]
        before = _memory_bytes(served)

        announced = _send(served, kb, {"Content-Length": str(200 * MEGABYTE)}, pieces=0)
        told = _send(served, kb, {"Transfer-Encoding": "chunked"}, pieces=200)

        for status, problem in (announced, told):
            assert status == 413
            assert b"urn:youju:problem:body-too-large" in problem
            assert b'"limit_bytes":100000000' in problem
        assert list(spool.iterdir()) == []
        assert _memory_bytes(served) - before < 60 * MEGABYTE
        assert client.get(f"/v1/documents/{document}/content").content == b"Accepted before."
    served.process.terminate()
    served.process.wait(30)
    assert _differences(served.data) == []


def _send(served: Served, kb: str, headers: dict[str, str], pieces: int) -> tuple[int, bytes]:
    """(status, body) as a client sees them that sends megabytes until it is answered, up to `pieces` of them."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    connection.putrequest("POST", f"/v1/knowledge-bases/{kb}/documents")
    for name, value in {**headers, "Content-Type": "multipart/form-data; boundary=b"}.items():
        connection.putheader(name, value)
    connection.endheaders()
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="big.txt"\r\n\r\n'
    for number in range(pieces):
        piece = (head if number == 0 else b"") + b"x" * MEGABYTE
        connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def _memory_bytes(served: Served) -> int:
    """The most the process ever had in memory."""
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def test_broken_requests_and_clients_that_leave_do_the_service_no_harm(serve: Callable[..., Served]) -> None:
    served = serve("--workers", "0")
    with served.client() as client:
        kb = client.post("/v1/knowledge-bases", json={"name": "kb"}).json()["id"]
        upload_path = f"POST /v1/knowledge-bases/{kb}/documents HTTP/1.1\r\nHost: x\r\n".encode()
        multipart = b"Content-Type: multipart/form-data; boundary=b\r\n"
        for request in (
            b"\x00\x01\x02\r\n\r\n",
            b"GET /v1/knowledge-bases/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"POST /v1/answers HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
            b"POST /v1/answers HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
            b"POST /v1/answers HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            upload_path + multipart + b"Content-Length: 5000\r\n\r\n" + PART,
            upload_path + multipart + b"Transfer-Encoding: chunked\r\n\r\n5\r\n--b\r\n\r\n",
        ):
            with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionResetError):
                    answer = connection.recv(65_536)
                    assert not answer or answer.split()[1] in (b"400", b"404", b"422"), (request, answer)

        assert client.get("/readyz").status_code == 200
        assert client.get(f"/v1/knowledge-bases/{kb}").json()["documents"] == 0
    served.process.terminate()
    served.process.wait(30)
    assert _differences(served.data) == []


def _differences(data: Path) -> list[object]:
    storage = open_storage(config.load(data=data))
    try:
        return list(differences(storage, deep=True))
    finally:
        storage.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 80 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a full disk needs a file system that may be mounted: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(folder: Path) -> Path:
    """The file that takes every free byte of the file system."""
    filler = folder / "filler"
    with open(filler, "wb", buffering=0) as file:
        for size in (MEGABYTE, 4_096, 1):
            while True:
                try:
                    file.write(b"\0" * size)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    break
    return filler


@pytest.mark.skipif(os.geteuid() != 0 and not shutil.which("unshare"), reason="needs root or unshare to mount a disk")
def test_a_full_disk_refuses_uploads_keeps_answering_and_recovers_by_itself(request: pytest.FixtureRequest) -> None:
    if os.geteuid() == 0:
        disk, serve = request.getfixturevalue("small_disk"), request.getfixturevalue("serve")
        # Uploads of more than a megabyte are received there.
        request.getfixturevalue("monkeypatch").setenv("TMPDIR", str(disk))
        _on_a_full_disk(disk, serve)
        return
    # As root of a user namespace of its own.
    command = ["unshare", "-rm", sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", request.node.nodeid]
    ended = subprocess.run(command, cwd=request.config.rootpath, capture_output=True, text=True)
    if "Operation not permitted" in ended.stdout + ended.stderr or "1 skipped" in ended.stdout:
        pytest.skip("needs root or user namespaces to mount a disk")
    assert ended.returncode == 0, ended.stdout


def _on_a_full_disk(small_disk: Path, serve: Callable[..., Served]) -> None:
    served = serve(data=small_disk / "data")
    with served.client() as client:
        kb = client.post("/v1/knowledge-bases", json={"name": "kb"}).json()["id"]
        before = upload(client, kb, {"before.txt": ACCEPTED.encode()}).json()
        assert finished(client, before["job_id"])["state"] == "succeeded"
        document = before["items"][0]["document_id"]
        under_way = upload(client, kb, {f"{n}.txt": f"Under way {n}. ".encode() * 4_000 for n in range(4)}).json()
        files = {f"{n}.txt": f"Late text {n}. ".encode() * 30_000 for n in range(3)}

        filler = fill(small_disk)
        refused = [
            upload(client, kb, files),
            upload(client, kb, {"large.txt": b"A line of a large text.\n" * 200_000}),
            client.post(f"/v1/knowledge-bases/{kb}/texts", json={"title": "late", "text": "x" * 500_000}),
        ]
        for response in refused:
            assert response.status_code == 507
            assert check_problem(response)["type"] == "urn:youju:problem:storage-full"

        assert client.get(f"/v1/documents/{document}/content").content == ACCEPTED.encode()
        assert client.get(f"/v1/documents/{document}/text").json()["text"] == ACCEPTED
        for _ in range(20):
            asked = client.post("/v1/retrieve", json={"query": QUESTION, "knowledge_base_ids": [kb]})
            assert asked.json()["passages"][0]["document_id"] == document
        assert client.get(f"/v1/knowledge-bases/{kb}").json()["documents"] == 5
        # An answer is kept or not given: where it cannot be stored, that is said.
        answered = client.post("/v1/answers", json={"query": QUESTION, "knowledge_base_ids": [kb]})
        assert answered.status_code in (200, 507)
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["sql"]) == (503, "ok")
        assert "free" in ready.json()["blobs"]
        assert client.get("/healthz").status_code == 200

        filler.unlink()
        assert client.get("/readyz").status_code == 200
        late = upload(client, kb, {"late.txt": b"Late: the lamp is guaranteed for five years."})
        assert late.status_code == 202
        for job in (under_way, late.json()):
            assert finished(client, job["job_id"])["state"] == "succeeded"
        assert client.post("/v1/answers", json={"query": QUESTION, "knowledge_base_ids": [kb]}).status_code == 200
        assert client.get(f"/v1/knowledge-bases/{kb}").json()["documents"] == 6
    served.process.terminate()
    served.process.wait(30)
    assert _differences(served.data) == []
