"""What fifty hostile files among a thousand do to the honest ones: nothing, but for a little waiting."""

from __future__ import annotations

import io
import statistics
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from bench.results import Result
from bench.service import Client, serving, wait_until_finished
from bench.small_documents import one_page_pdf, pdf, small_document

_DOCUMENTS = 1_000
_KILLERS = 50
_PARSE_SECONDS = 30
_CONTENT_TYPES = (
    '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default '
    'Extension="xml" ContentType="application/xml"/><Default Extension="rels" ContentType="application/vnd.openxml'
    'formats-package.relationships+xml"/><Override PartName="/word/document.xml" ContentType="application/vnd.openxml'
    'formats-officedocument.wordprocessingml.document.main+xml"/></Types>'
)
_RELATIONS = (
    '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="r" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" '
    'Target="word/document.xml"/></Relationships>'
)
_W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


@dataclass(frozen=True, slots=True)
class _Run:
    """`waits`: seconds from upload to `ready` of the honest; `ends` of the killers: what became of them, counted."""

    ready: int
    honest: int
    waits: list[float]
    ends: Counter[str]


def run(evaluation: Path, scratch: Path) -> list[Result]:
    honest = [small_document(number) for number in range(_DOCUMENTS - _KILLERS)]
    without = _ingest(honest, [], scratch / "without-killers")
    among = _ingest(honest, killers(_KILLERS), scratch / "with-killers")
    before, after = statistics.median(without.waits), statistics.median(among.waits)
    ends = ", ".join(f"{count} {end}" for end, count in among.ends.most_common())
    return [
        Result(
            f"{_DOCUMENTS:,} small documents of which {_KILLERS} are killers: the honest ones `ready`",
            "all",
            f"{among.ready:,} of {among.honest:,}; {without.ready:,} without killers",
            among.ready == among.honest,
        ),
        Result(
            "the same: median wait of an honest one, upload to `ready`",
            "≤ 2 × that without killers",
            f"{after:.2f} s, {before:.2f} s without: {after / before:.2f} ×",
            after <= 2 * before,
        ),
        Result(f"the same: the killers, each with {_PARSE_SECONDS} s to parse", "–", ends, None),
    ]


def killers(count: int) -> list[tuple[str, bytes]]:
    """Hostile files of every kind in turn, no two alike."""
    kinds = islice(cycle(_KINDS.items()), count)
    return [(f"killer-{number}-{name}", make(number)) for number, (name, make) in enumerate(kinds)]


def _ingest(honest: list[tuple[str, bytes]], hostile: list[tuple[str, bytes]], data: Path) -> _Run:
    """The honest in batches; after each batch one of the hostile, while there are any."""
    with serving(data, workers=1, parse_seconds=_PARSE_SECONDS) as running:
        client = running.client()
        kb = client.call("POST", "/v1/knowledge-bases", {"name": "bench"})["id"]
        wait_until_finished(client, [client.upload(kb, {"warm.txt": "A text that only warms the worker up."})])
        jobs, attacks = list[str](), _Attacks(client, kb)
        size = len(honest) // _KILLERS
        for start in range(0, len(honest), size):
            jobs.append(client.upload(kb, dict(honest[start : start + size])))
            attacks.launch(hostile[start // size : start // size + 1])
        wait_until_finished(client, jobs)
        documents = _documents(client, kb, "document-")
        wait_until_finished(client, attacks.jobs)
        attacks.note(_documents(client, kb, "killer-"))
    ready = [document for document in documents if document["state"] == "ready"]
    return _Run(len(ready), len(honest), [_seconds(document) for document in ready], attacks.ends)


class _Attacks:
    def __init__(self, client: Client, kb: str) -> None:
        self._client = client
        self._kb = kb
        self.jobs: list[str] = []
        self.ends: Counter[str] = Counter()

    def launch(self, files: list[tuple[str, bytes]]) -> None:
        for name, content in files:
            status, answer = self._client.offer(self._kb, {name: content})
            if status == 202 and answer["items"][0]["status"] == "queued":
                self.jobs.append(answer["job_id"])
            else:
                self.ends[f"refused with {answer.get('status', status)}"] += 1

    def note(self, documents: list[Any]) -> None:
        for document in documents:
            error = document["error"]
            self.ends[document["state"] if error is None else error.get("reason") or error["code"]] += 1


def _documents(client: Client, kb: str, prefix: str) -> list[Any]:
    found, cursor = [], ""
    while True:
        page = client.call("GET", f"/v1/knowledge-bases/{kb}/documents?limit=200{cursor}")
        found += [document for document in page["items"] if document["filename"].startswith(prefix)]
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


def _seconds(document: Any) -> float:
    begun, ended = (datetime.fromisoformat(document[name]) for name in ("created_at", "updated_at"))
    return (ended - begun).total_seconds()


def _flate_bomb(number: int) -> bytes:
    """A page whose content inflates to a gigabyte of operators."""
    packer = zlib.compressobj(9)
    piece = b"0 0 m 9 9 l S\n" * 75_000
    content = b"".join(packer.compress(piece) for _ in range(1_000)) + packer.flush()
    return pdf(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Number %d >>" % number,
            b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(content), content),
        ]
    )


def _page_tree_cycle(number: int) -> bytes:
    return pdf(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R 3 0 R] /Count 1000000 /Number %d >>" % number,
            b"<< /Type /Pages /Kids [2 0 R 3 0 R] /Count 1000000 /Parent 2 0 R >>",
        ]
    )


def _encrypted_pdf(number: int) -> bytes:
    """Encrypted with a password nobody has: the keys are noise."""
    key = f"{number:064x}".encode()
    whole = one_page_pdf(["secret"], number)
    encryption = b"/Encrypt << /Filter /Standard /V 2 /R 3 /Length 128 /P -4 /O <%s> /U <%s> >>" % (key, key)
    return whole.replace(b"/Root 1 0 R", b"/Root 1 0 R %s /ID [<00> <00>]" % encryption)


def _truncated_docx(number: int) -> bytes:
    return _docx(f"<w:p><w:r><w:t>{number} {'cut short ' * 5_000}</w:t></w:r></w:p>", zipfile.ZIP_STORED)[:20_000]


def _deep_docx(number: int) -> bytes:
    depth = 200_000
    return _docx(f"{'<w:sdt><w:sdtContent>' * depth}<w:p/>{'</w:sdtContent></w:sdt>' * depth}<!--{number}-->")


def _docx_bomb(number: int) -> bytes:
    """A gigabyte of spaces in a part of one megabyte."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", _CONTENT_TYPES)
        archive.writestr("_rels/.rels", _RELATIONS)
        with archive.open("word/document.xml", "w", force_zip64=True) as part:
            part.write(f'<w:document xmlns:w="{_W}"><!--{number}--><w:body>'.encode())
            for _ in range(1_000):
                part.write(b" " * 1_000_000)
            part.write(b"</w:body></w:document>")
    return out.getvalue()


def _billion_laughs(number: int) -> bytes:
    entities = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(10))
    head = f'<!DOCTYPE w:document [<!ENTITY l0 "lol{number}">{entities}]>'
    return _docx("<w:p><w:r><w:t>&l10;</w:t></w:r></w:p>", head=head)


def _deep_html(number: int) -> bytes:
    return b"<!doctype html><html><body>%d" % number + b"<div>" * 1_000_000


def _wide_html(number: int) -> bytes:
    """Three hundred thousand nested and broken tables: long, and nothing else."""
    return b"<!doctype html><html><body>" + b"<table><tr><td>%d<b><p>x" % number * 100_000


def _nested_emphasis(number: int) -> bytes:
    return f"# {number}\n\n".encode() + b"*a **b " * 60_000 + b"![[" * 60_000


def _deep_json(number: int) -> bytes:
    return b"[" * 2_000_000 + b"%d" % number


def _deep_rtf(number: int) -> bytes:
    return rb"{\rtf1\ansi " + b"{\\b " * 1_000_000 + b"%d" % number


def _spaces(number: int) -> bytes:
    return b"%d" % number + b" " * 99_000_000 + b"."


def _open_quote_csv(number: int) -> bytes:
    return b'a,b\n%d,"' % number + b'x,""\n' * 3_000_000


def _nested_mail(number: int) -> bytes:
    head = f"From: a@example.org\nSubject: {number}\nMIME-Version: 1.0\nDate: Thu, 1 Jan 2026 09:00:00 +0000\n"
    nests = "".join(f'Content-Type: multipart/mixed; boundary="b{depth}"\n\n--b{depth}\n' for depth in range(20_000))
    return (head + nests + "Content-Type: text/plain\n\nthe end\n").encode()


def _lying_sheet(number: int) -> bytes:
    """A sheet that says it has all 17 billion cells, and has the last one."""
    types = _CONTENT_TYPES.replace("/word/document.xml", "/xl/workbook.xml").replace(
        "wordprocessingml.document.main", "spreadsheetml.sheet.main"
    )
    main, office = "http://schemas.openxmlformats.org/spreadsheetml/2006/main", "http://schemas.openxmlformats.org"
    relations = f"{office}/officeDocument/2006/relationships"
    sheet = (
        f'<worksheet xmlns="{main}"><dimension ref="A1:XFD1048576"/><sheetData><row r="1"><c r="A1"><v>{number}</v></c>'
        '</row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData></worksheet>'
    )
    book = f'<workbook xmlns="{main}" xmlns:r="{relations}"><sheets><sheet name="s" sheetId="1" r:id="r1"/></sheets>'
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", types)
        archive.writestr("_rels/.rels", _RELATIONS.replace("word/document.xml", "xl/workbook.xml"))
        archive.writestr("xl/workbook.xml", f"{book}</workbook>")
        archive.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{office}/package/2006/relationships"><Relationship Id="r1" '
            f'Type="{relations}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        )
        archive.writestr("xl/worksheets/sheet1.xml", sheet)
    return out.getvalue()


def _overlapping_docx(number: int) -> bytes:
    """Two hundred directory entries that all name the same bytes."""
    whole = _docx(f"<w:p><w:r><w:t>{number} {'x' * 1_000_000}</w:t></w:r></w:p>")
    start = struct.unpack("<I", whole[-6:-2])[0]
    directory, end = whole[start:-22], whole[-22:]
    entry = directory[directory.rindex(b"PK\x01\x02") :]
    counts = struct.pack("<HHII", 203, 203, len(directory) + 200 * len(entry), start)
    return whole[:start] + directory + entry * 200 + end[:8] + counts + end[20:]


def _docx(body: str, compression: int = zipfile.ZIP_DEFLATED, head: str = "") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        archive.writestr("[Content_Types].xml", _CONTENT_TYPES)
        archive.writestr("_rels/.rels", _RELATIONS)
        archive.writestr("word/document.xml", f'{head}<w:document xmlns:w="{_W}"><w:body>{body}</w:body></w:document>')
    return out.getvalue()


_KINDS: dict[str, Callable[[int], bytes]] = {
    "flate-bomb.pdf": _flate_bomb,
    "page-tree-cycle.pdf": _page_tree_cycle,
    "encrypted.pdf": _encrypted_pdf,
    "truncated.docx": _truncated_docx,
    "deep.docx": _deep_docx,
    "bomb.docx": _docx_bomb,
    "billion-laughs.docx": _billion_laughs,
    "overlapping.docx": _overlapping_docx,
    "deep.html": _deep_html,
    "tables.html": _wide_html,
    "emphasis.md": _nested_emphasis,
    "deep.json": _deep_json,
    "deep.rtf": _deep_rtf,
    "spaces.txt": _spaces,
    "open-quote.csv": _open_quote_csv,
    "nested.eml": _nested_mail,
    "lying.xlsx": _lying_sheet,
}
