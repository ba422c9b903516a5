"""Bad input: each kind has a precise status or reason, and loses nothing of what was accepted before."""

from __future__ import annotations

import contextlib
import errno
import http.client
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
import zipfile
import zlib
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


@pytest.mark.parametrize("name", ["tool.exe", "code.py", "notes.txt.exe", "文档.doc", "表格.xls", "archive.tar"])
def test_an_extension_that_nobody_reads_is_refused(client: TestClient, kb: str, before: str, name: str) -> None:
    response = upload(client, kb, {name: b"Just text, whatever it is called."})

    assert response.status_code == 415
    assert ".pdf" in rejected(response)["problem"]["supported"]


ARCHIVE_BUFFER = io.BytesIO()
with zipfile.ZipFile(ARCHIVE_BUFFER, "w") as opened:
    opened.writestr("notes.txt", "Just text.")
ARCHIVE = ARCHIVE_BUFFER.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text.pdf", b"Just text."),
        ("text.docx", b"Just text."),
        ("program.txt", b"\x7fELF\x02\x01\x01"),
        ("picture.md", b"\x89PNG\r\n\x1a\n"),
        ("document.txt", b"%PDF-1.7"),
        ("binary.txt", b"\x00\x00\x01" * 99),
        ("text.zip", b"Just text."),
        ("text.epub", b"Just text."),
        ("archive.docx", ARCHIVE),
        ("archive.xlsx", ARCHIVE),
        ("picture.jpg", b"\x89PNG\r\n\x1a\n"),
        ("polyglot.pdf", b"GIF89a" + bytes(894) + b"%PDF-1.7\n"),
        ("polyglot.zip", b"GIF89a" + bytes(50) + ARCHIVE),
        ("noextension", b"\x7fELF\x02\x01\x01"),
        ("noextension", b"\x1f\x8b\x08\x00"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(
    client: TestClient, kb: str, before: str, name: str, content: bytes
) -> None:
    response = upload(client, kb, {name: content})

    assert response.status_code == 415
    assert rejected(response)["problem"]["found"]


@pytest.mark.parametrize(
    ("name", "content", "declared"),
    [
        ("a.txt", b"Just text.", "application/pdf"),
        ("a.md", b"# Just text.", "image/png"),
        ("a.json", b"{}", "text/html"),
        ("noextension", b"Just text.", "application/zip"),
    ],
)
def test_a_file_that_is_not_what_it_was_sent_as_is_refused(
    client: TestClient, kb: str, before: str, name: str, content: bytes, declared: str
) -> None:
    response = client.post(f"/v1/knowledge-bases/{kb}/documents", files=[("files", (name, content, declared))])

    assert response.status_code == 415
    assert {"expected", "found"} <= rejected(response)["problem"].keys()


def test_a_name_without_a_suffix_is_taken_by_its_content(client: TestClient, kb: str, before: str) -> None:
    documents = ingest(client, kb, {"report": pdf(), "notes": b"Just text, with no suffix."})

    found = [client.get(f"/v1/documents/{documents[name]}").json()["media_type"] for name in ("report", "notes")]
    assert found == ["application/pdf", "text/plain"]


LAUGHS = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "ha"}">' for n in range(12))
DECLARED_ENTITIES = {
    "an external entity": '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>',
    "a billion laughs": f"<!DOCTYPE x [{LAUGHS}]><x>&e11;</x>",
}


@pytest.mark.parametrize("markup", DECLARED_ENTITIES.values(), ids=DECLARED_ENTITIES.keys())
@pytest.mark.parametrize("name", ["feed.xml", "page.html", "book.epub", "letter.docx"])
def test_declared_entities_fail_with_a_reason(client: TestClient, kb: str, before: str, name: str, markup: str) -> None:
    content = {
        "book.epub": zipped({"mimetype": "application/epub+zip", "META-INF/container.xml": markup}),
        "letter.docx": zipped({"[Content_Types].xml": "<x/>", "word/document.xml": markup}),
    }.get(name, markup.encode())

    assert failure(client, kb, name, content)["reason"] == "xml-dtd"


def test_a_line_without_end_is_read(client: TestClient, kb: str, before: str) -> None:
    line = "第一句话说的是保修期。" * 50_000
    document = ingest(client, kb, {"line.txt": line.encode()})["line.txt"]

    assert client.get(f"/v1/documents/{document}/text?start=0&end=1").json()["total_chars"] == len(line)


def test_mojibake_fails_with_a_reason(client: TestClient, kb: str, before: str) -> None:
    garbled = ("知识库里的每一份文件都会被切成小段。" * 9).encode().decode("gbk", "replace")

    problem = failure(client, kb, "garbled.txt", garbled.encode())
    assert (problem["reason"], problem["encoding"]) == ("encoding", "utf-8")
    assert problem["confidence"] < 0.5


def zipped(parts: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for part, content in parts.items():
            archive.writestr(part, content)
    return buffer.getvalue()


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


def deflated(parts: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for part, content in parts.items():
            archive.writestr(part, content)
    return buffer.getvalue()


def overlapping(parts: dict[str, bytes]) -> bytes:
    """An archive whose directory gives the bytes of its last part to one more."""
    data = bytearray(deflated({**parts, "z": b""}))
    directory = [found.start() for found in re.finditer(b"PK\x01\x02", data)]
    last, one_before = directory[-1], directory[-2]
    # Checksum, both sizes, and where its bytes begin.
    for field in (16, 20, 24, 42):
        data[last + field : last + field + 4] = data[one_before + field : one_before + field + 4]
    return bytes(data)


def locked(parts: dict[str, bytes]) -> bytes:
    """An archive that says of each of its parts that it is encrypted."""
    data = bytearray(deflated(parts))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for found in re.finditer(signature, bytes(data)):
            data[found.start() + flags] |= 1
    return bytes(data)


def word_parts(document: bytes) -> dict[str, bytes]:
    return {"[Content_Types].xml": b"<Types/>", "word/document.xml": document}


def pdf_of(pages: bytes, content: bytes = b"") -> bytes:
    packed = zlib.compress(content, 9)
    objects = (
        b"<</Type/Catalog/Pages 2 0 R>>",
        pages,
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R>>",
        b"<</Length %d/Filter/FlateDecode>>stream\n%b\nendstream" % (len(packed), packed),
    )
    body = b"".join(b"%d 0 obj\n%b\nendobj\n" % numbered for numbered in enumerate(objects, start=1))
    return b"%PDF-1.7\n" + body + b"trailer<</Root 1 0 R/Size 5>>\nstartxref\n0\n%%EOF"


ONE_PAGE = b"<</Type/Pages/Kids[3 0 R]/Count 1>>"
WRAPPED = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512) + "EncryptedPackage".encode("utf-16-le")
HOSTILE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "bomb.docx": ("decompression-limit", lambda: deflated(word_parts(b"<x>" + b" " * 70 * MEGABYTE + b"</x>"))),
    "bomb.pdf": ("decompression-limit", lambda: pdf_of(ONE_PAGE, b" " * 101 * MEGABYTE)),
    "overlapping.docx": ("archive-overlap", lambda: overlapping(word_parts(b"<x/>" * 9))),
    "locked.docx": ("encrypted", lambda: WRAPPED),
    "locked.xlsx": ("encrypted", lambda: locked({"[Content_Types].xml": b"<Types/>", "xl/workbook.xml": b"<x/>"})),
    "cycle.pdf": ("broken", lambda: pdf_of(b"<</Type/Pages/Kids[2 0 R 3 0 R 2 0 R]/Count 3>>")),
    "countless.pdf": ("broken", lambda: pdf_of(b"<</Type/Pages/Kids[3 0 R]/Count 1000000>>")),
    "wordless.pdf": ("no-text", lambda: pdf_of(ONE_PAGE, b"0 0 9 9 re f")),
    "deep.json": ("broken", lambda: b"[" * 100_000 + b"]" * 100_000),
    "blank.txt": ("empty", lambda: b" \r\n\t\xe3\x80\x80\n"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_made_to_do_harm_fails_with_a_reason(client: TestClient, kb: str, before: str, name: str) -> None:
    reason, made = HOSTILE[name]

    problem = failure(client, kb, name, made())

    assert (problem["reason"], problem["status"]) == (reason, 422)
    if reason == "decompression-limit":
        assert problem["limit_bytes"] in (64 << 20, 100 * MEGABYTE)


HOSTILE_ARCHIVES: dict[str, tuple[str, str, Callable[[], bytes]]] = {
    "a bomb": ("x.zip/bomb.txt", "decompression-limit", lambda: deflated({"bomb.txt": b"0" * 101 * MEGABYTE})),
    "overlapping": ("x.zip", "archive-overlap", lambda: overlapping({"a.txt": b"The same bytes. " * 9})),
    "encrypted": ("x.zip", "encrypted", lambda: locked({"a.txt": b"A secret."})),
    "a path upwards": ("x.zip/../../up.txt", "filename", lambda: deflated({"../../up.txt": b"Up."})),
    "an absolute path": ("x.zip//etc/cron.d/x.txt", "filename", lambda: deflated({"/etc/cron.d/x.txt": b"Absolute."})),
    "no member": ("x.zip", "empty", lambda: deflated({})),
}


@pytest.mark.parametrize("kind", HOSTILE_ARCHIVES)
def test_an_archive_made_to_do_harm_is_refused_with_a_reason(
    client: TestClient, kb: str, before: str, kind: str
) -> None:
    filename, reason, made = HOSTILE_ARCHIVES[kind]

    response = upload(client, kb, {"x.zip": made()})

    assert response.status_code == 422
    item = rejected(response)
    assert (item["filename"], item["problem"]["reason"]) == (filename, reason)


def test_bytes_that_are_no_text_in_any_encoding_fail_with_a_reason(client: TestClient, kb: str, before: str) -> None:
    undecodable = "前半是正常的中文文本。".encode() * 30 + b"\xff\xfe\xfd\x80\x81" * 40

    assert failure(client, kb, "undecodable.txt", undecodable)["reason"] == "encoding"


# RFC 5987 and 2231: names in charsets, percent-encoded, in pieces. RFC 7578 forbids them in form data, where programs
# differ in which of two names they take: here none is ever decoded.
ENCODED_NAMES = {
    "slash": b"filename*=UTF-8''..%2F..%2Fetc%2Fx.txt",
    "backslash": b"filename*=UTF-8''..%5C..%5Cx.txt",
    "NUL": b"filename*=UTF-8''a%00.txt",
    "line end": b"filename*=UTF-8''a%0D%0AX-Evil%3A%201.txt",
    "direction": b"filename*=UTF-8''invoice%E2%80%AEtxt.exe.txt",
    "Latin-1": b"filename*=ISO-8859-1''a%85.txt",
    "in pieces": b"filename*0*=UTF-8''..%2F; filename*1=\"x.txt\"",
    "harmless": b"filename*=UTF-8''good.txt",
}


def upload_part(client: TestClient, kb: str, parameters: bytes) -> Any:
    body = b'--b\r\nContent-Disposition: form-data; name="files"; %b\r\n\r\nhello\r\n--b--\r\n' % parameters
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    return client.post(f"/v1/knowledge-bases/{kb}/documents", content=body, headers=headers)


@pytest.mark.parametrize("parameter", ENCODED_NAMES.values(), ids=ENCODED_NAMES.keys())
def test_an_encoded_name_is_never_decoded(client: TestClient, kb: str, before: str, parameter: bytes) -> None:
    alone = upload_part(client, kb, parameter)
    assert alone.status_code == 400
    assert check_problem(alone)["type"] == "urn:youju:problem:malformed-request"

    for both in (b'filename="good.txt"; %b' % parameter, b'%b; filename="good.txt"' % parameter):
        (item,) = upload_part(client, kb, both).json()["items"]
        assert item["filename"] == "good.txt"


@pytest.mark.parametrize(
    "parameters",
    [
        b'filename="../bad.txt"; filename="../bad.txt"',
        b'filename="..%2Fbad.txt/"',
        b'filename="good.txt\\x00.exe"',
        b"filename=../bad.txt",
        b'FileName="../bad.txt"',
    ],
)
def test_a_name_is_refused_however_its_parameter_is_written(
    client: TestClient, kb: str, before: str, parameters: bytes
) -> None:
    response = upload_part(client, kb, parameters)

    assert response.status_code == 422
    assert rejected(response)["problem"]["reason"] == "filename"


def test_a_windows_path_that_an_old_browser_sends_is_its_last_part(client: TestClient, kb: str, before: str) -> None:
    (item,) = upload_part(client, kb, b'filename="C:\\Users\\x\\good.txt"').json()["items"]

    assert item["filename"] == "good.txt"


def test_a_percent_sign_in_a_name_is_a_percent_sign(client: TestClient, kb: str, before: str) -> None:
    (item,) = upload_part(client, kb, b'filename="..%2Fgood.txt"').json()["items"]

    assert item["filename"] == "..%2Fgood.txt"
    header = client.get(f"/v1/documents/{item['document_id']}/content").headers["Content-Disposition"]
    assert header == "attachment; filename*=UTF-8''..%252Fgood.txt"


def test_of_two_names_one_is_taken_and_it_is_a_safe_one(client: TestClient, kb: str, before: str) -> None:
    for first, second in ((b"good.txt", b"../bad.txt"), (b"../bad.txt", b"good.txt")):
        response = upload_part(client, kb, b'filename="%b"; filename="%b"' % (first, second))
        (item,) = response.json()["items"]
        assert (response.status_code, item["filename"]) in ((202, "good.txt"), (422, "../bad.txt"))


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
    "too many": (MULTIPART, WHOLE * 20_001 + b"--b--\r\n", 422),
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
