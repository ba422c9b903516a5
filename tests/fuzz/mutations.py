"""Damage done to files: blind, and by who knows how a container, a PDF or a text is made.

Everything is decided by the `random.Random` handed in: the same dice make the same file.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence
from random import Random

ZIPS = frozenset(("docx", "pptx", "xlsx", "epub"))
LARGEST = 4_000_000
"""Bytes of a mutated file; what a part inflates to may be more."""
_BOMB = 40_000_000

Mutation = Callable[[bytes, Random], bytes]


def mutated(format: str, seeds: Sequence[bytes], dice: Random) -> bytes:
    """One of the seeds with one to several faults in it."""
    data, other = _chosen(seeds, dice), _chosen(seeds, dice)
    if format in ZIPS and dice.random() < 0.5:
        data = _in_container(data, other, format, dice)
    elif format == "pdf" and dice.random() < 0.6:
        data = _in_pdf(data, other, dice)
    elif format in ZIPS or format == "pdf":
        data = _several(_blind(other), data, dice)
    else:
        data = _text(data, other, format, dice)
    return data[:LARGEST]


def _chosen(seeds: Sequence[bytes], dice: Random) -> bytes:
    """Small ones more often: they take less time."""
    return dice.choices(seeds, [1 / (len(seed) + 2_000) for seed in seeds])[0]


def _several(mutations: Sequence[Mutation], data: bytes, dice: Random) -> bytes:
    for _ in range(dice.choice((1, 1, 1, 2, 3, 5, 9))):
        data = dice.choice(mutations)(data, dice)[:LARGEST]
    return data


# --- without knowing anything


def _blind(other: bytes) -> list[Mutation]:
    return [
        _flip,
        _flip,
        _overwrite,
        _delete,
        _duplicate,
        _truncate,
        _long_run,
        lambda data, dice: _splice(data, other, dice),
    ]


def _place(data: bytes, dice: Random) -> tuple[int, int]:
    """A stretch of the data, mostly a short one."""
    start = dice.randint(0, len(data))
    return start, min(len(data), start + int(dice.paretovariate(0.7)))


def _flip(data: bytes, dice: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 8, 1 + len(data) // 500)) if data else 0):
        changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    return bytes(changed)


_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)


def _overwrite(data: bytes, dice: Random) -> bytes:
    """A number of some width, where another may have stood."""
    width = dice.choice((1, 2, 4, 8))
    number = dice.choice(_NUMBERS) & (1 << 8 * width) - 1
    at = dice.randint(0, len(data))
    return data[:at] + number.to_bytes(width, dice.choice(("big", "little"))) + data[at + width :]


def _delete(data: bytes, dice: Random) -> bytes:
    start, end = _place(data, dice)
    return data[:start] + data[end:]


def _duplicate(data: bytes, dice: Random) -> bytes:
    start, end = _place(data, dice)
    times = min(dice.choice((1, 1, 2, 10, 1_000)), 1 + LARGEST // max(1, end - start))
    return data[:end] + data[start:end] * times + data[end:]


def _truncate(data: bytes, dice: Random) -> bytes:
    at = dice.randint(0, len(data))
    return data[:at] if dice.random() < 0.8 else data[at:]


def _splice(data: bytes, other: bytes, dice: Random) -> bytes:
    start, end = _place(data, dice)
    begin = dice.randint(0, len(other))
    return data[:start] + other[begin : begin + int(dice.paretovariate(0.4))] + data[end:]


def _long_run(data: bytes, dice: Random) -> bytes:
    at = dice.randint(0, len(data))
    run = dice.choice((b"\0", b" ", b"\n", b"a", b"9", b"\xff", b"|", "长".encode(), b"\r\n"))
    return data[:at] + run * int(10 ** dice.uniform(1, 5)) + data[at:]


# --- texts

_TOKENS: dict[str, tuple[bytes, ...]] = {
    "md": (
        b"# ", b"- ", b"1. ", b"> ", b"|", b"| - | - |\n", b"```\n", b"~~~", b"[^1]", b"[", b"](", b"**", b"_",
        b"<!--", b"---\n", b"\t", b"    ", b"\\", b"![](",
    ),
    "html": (
        b"<p>", b"</p>", b"<table>", b"<tr>", b"<td colspan=99999999>", b"<td rowspan=65534>", b"<th>", b"</table>",
        b"<ul>", b"<li>", b"<pre>", b"<!--", b"-->", b"<script>", b"<style>", b"&#0;", b"&#xD800;", b"&#x110000;",
        b"&amp", b"<title>", b"<h1>", b"<svg>", b"<math>", b"<template>", b"<plaintext>", b'<meta charset="utf-7">',
        b"<![CDATA[", b"<ruby>", b"<rt>", b"<base href=x>", b"<frameset>", b"<input value=",
    ),
    "xml": (
        b"<a>", b"</a>", b"<![CDATA[", b"]]>", b"<!--", b"-->", b"<?x ?>",
        b'<?xml version="1.0" encoding="utf-16"?>', b"&lt;", b"&#x1F600;", b"&e;", b"<!DOCTYPE x>", b"<!DOCTYPE x [",
        b' xmlns:a="b"', b"<a:b/>", b"<rss>", b"<channel>", b"<item>", b"<content>", b"<description>",
    ),
    "json": (
        b"{", b"}", b"[", b"]", b",", b":", b'"', b'"a":', b"null", b"1e999", b"-", b"NaN", b"\\ud800", b"\\u0000",
        b"9" * 5_000, b'{"a":', b"0.1", b"true",
    ),
    "csv": (b",", b";", b"\t", b'"', b'""', b"\n", b"\r\n", b"sep=;\n", b"=1+1", b",,,,,,", b"\0", b'"\n"'),
    "rtf": (
        b"{", b"}", b"\\par ", b"\\bin99999999 ", b"\\bin-1 ", b"\\u-1?", b"\\u99999?", b"\\uc9 ", b"\\'ff", b"\\'",
        b"\\trowd", b"\\cell", b"\\row ", b"\\intbl", b"\\cellx9", b"{\\*\\x ", b"{\\fonttbl",
        b"{\\f0\\fcharset134 x;}", b"\\ansicpg936", b"{\\pict ", b"{\\footnote ", b"\\itap99 ", b"{\\listtext ",
        b"\\ls1\\ilvl9 ", b"\\outlinelevel0",
    ),
    "eml": (
        b"Content-Type: multipart/mixed; boundary=x\n", b"--x\n", b"--x--\n", b"\n\n",
        b"Content-Transfer-Encoding: base64\n", b"Content-Transfer-Encoding: quoted-printable\n",
        b"Content-Type: text/html; charset=utf-7\n", b"Content-Type: message/rfc822\n", b"=?gbk?B?////?=",
        b"=?utf-8?Q?=FF?=", b"Subject: ", b"Date: ", b"=\n", b"charset=",
        b"Content-Disposition: attachment; filename*0*=", b"begin 644 x\n",
    ),
    "txt": (
        b"\n", b"\r", b"\t", b"\x0c", b"\x1b[0m", b"\xef\xbb\xbf", b"\xff\xfe", b"- ", "　　".encode(),
        "\u2028".encode(), "\u202e".encode(), b"\0",
    ),
    "pdf": (
        b"endobj", b"endstream", b"stream\n", b"1 0 R", b"<<", b">>", b"[", b"]", b"(", b")", b"/Kids [1 0 R 2 0 R]",
        b"/Count 99999999", b"/Filter /LZWDecode", b"/Filter [/ASCIIHexDecode /FlateDecode]", b"/Parent 3 0 R",
        b"/Rotate 90", b"/Type /Pages", b"/Encrypt 1 0 R", b"99999999999", b"-1", b"/MediaBox [0 0 1e9 1e9]",
    ),
    "content": (
        b"BT ", b" ET", b" Tj", b" TJ", b"q ", b" Q", b" cm", b"0 0 0 0 0 0 cm ", b"1e9 0 0 1e9 0 0 Tm ", b" re f",
        b"0 0 1 1 re S ", b"/F1 99999 Tf ", b"/F9 0 Tf ", b"<FFFF> Tj ", b"(a) Tj ", b"[(a) -9999 (b)] TJ ", b" Do",
        b"/X1 Do ", b"BI ID EI ", b" Td", b"3 Tr ", b"nan ", b"-",
    ),
}  # fmt: skip
_TOKENS["jsonl"] = (*_TOKENS["json"], b"\n", b"\n\n")
_NESTS: dict[str, tuple[tuple[bytes, bytes], ...]] = {
    "md": ((b"> ", b""), (b"- ", b""), (b"[", b"]"), (b"*a **b", b""), (b"![", b"](x)")),
    "html": ((b"<div>", b"</div>"), (b"<b>", b""), (b"<table><tr><td>", b""), (b"<ul><li>", b""), (b"<font><a>", b"")),
    "xml": ((b"<a>", b"</a>"), (b'<a xmlns="b">', b"</a>"), (b"<div>", b"")),
    "json": ((b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"")),
    "rtf": ((b"{", b"}"), (b"{\\trowd\\intbl\\itap2 ", b""), (b"{\\*", b"}"), (b"{\\footnote ", b"}")),
    "eml": ((b"Content-Type: message/rfc822\n\n", b""), (b"Content-Type: multipart/mixed; boundary=x\n\n--x\n", b"")),
    "csv": ((b'"', b""), (b",", b"")),
    "txt": ((b"(", b")"), (b"\t", b"")),
}
_NESTS["jsonl"] = _NESTS["json"]
_ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-be", "utf-32", "gb18030", "big5", "shift_jis", "cp1252", "utf-7")
_DIGITS = re.compile(rb"-?\d+")


def _text(data: bytes, other: bytes, format: str, dice: Random) -> bytes:
    return _several(_of_text(other, format), data, dice)


def _of_text(other: bytes, format: str) -> list[Mutation]:
    return [
        *_blind(other),
        lambda data, dice: _token(data, _TOKENS[format], dice),
        lambda data, dice: _token(data, _TOKENS[format], dice),
        lambda data, dice: _nested(data, _NESTS[format], dice),
        _lines_moved,
        _number_changed,
        _encoded_otherwise,
    ]


def _token(data: bytes, tokens: Sequence[bytes], dice: Random) -> bytes:
    start, end = _place(data, dice) if dice.random() < 0.3 else (dice.randint(0, len(data)),) * 2
    return data[:start] + dice.choice(tokens) * dice.choice((1, 1, 1, 2, 50)) + data[end:]


def _nested(data: bytes, nests: Sequence[tuple[bytes, bytes]], dice: Random) -> bytes:
    begin, end = dice.choice(nests)
    depth, at = int(10 ** dice.uniform(0.5, 4.7)), dice.choice((0, dice.randint(0, len(data))))
    return data[:at] + begin * depth + b"a" + end * depth + data[at:]


def _lines_moved(data: bytes, dice: Random) -> bytes:
    lines = data.splitlines(keepends=True)
    for _ in range(dice.choice((1, 1, 3, 20)) if lines else 0):
        moved = dice.choice(lines)
        if dice.random() < 0.5:
            del lines[dice.randrange(len(lines))]
        at = dice.randint(0, len(lines))
        lines[at:at] = [moved] * min(dice.choice((1, 1, 1, 300)), 1 + LARGEST // len(moved))
    return b"".join(lines)


def _number_changed(data: bytes, dice: Random) -> bytes:
    numbers = list(_DIGITS.finditer(data))
    if not numbers:
        return data
    found, number = dice.choice(numbers), dice.choice(_NUMBERS) * dice.choice((1, -1))
    return data[: found.start()] + str(number).encode() + data[found.end() :]


def _encoded_otherwise(data: bytes, dice: Random) -> bytes:
    encoded = data.decode("utf-8", "replace").encode(dice.choice(_ENCODINGS), "replace")
    return encoded if dice.random() < 0.9 else data + encoded


# --- ZIP containers


def _in_container(data: bytes, other: bytes, format: str, dice: Random) -> bytes:
    """Its parts inflated, some of them mutated, and packed again."""
    parts, others = _parts(data), list(_parts(other).values())
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        name = dice.choice(list(parts) or ["word/document.xml"])
        deed = dice.random()
        if deed < 0.08:
            parts.pop(name, None)
        elif deed < 0.16:
            parts[name] = dice.choice(others or [b""])
        elif deed < 0.18:
            parts[f"{name}/../{name}"] = parts.pop(name, b"")
        elif deed < 0.20:
            parts[name] = parts.get(name, b"") + dice.choice((b" ", b"<a/>", b"\0")) * (_BOMB // 4)
        else:
            parts[name] = _several(_of_markup(dice.choice(others or [b""])), parts.get(name, b""), dice)
    return _packed(parts, dice)


def _parts(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def _packed(parts: dict[str, bytes], dice: Random) -> bytes:
    buffer = io.BytesIO()
    method = dice.choice((zipfile.ZIP_DEFLATED,) * 6 + (zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(buffer, "w", method, compresslevel=1) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return buffer.getvalue()


_ELEMENT = re.compile(rb"<([\w:]+)(?=[ />])[^<>]*/?>")
_VALUE = re.compile(rb'(?<==")[^"]*(?=")')
_CONTENT = re.compile(rb"(?<=>)[^<>]+(?=<)")
_VALUES = (
    b"", b"0", b"-1", b"99999999", b"2147483648", b"1e308", b"NaN", b"A1:XFD1048576", b"XFD1048576", b"s", b"rId1",
    b"rId999", b"../../x.xml", b"http://127.0.0.1:9/", b"true", b"#REF!", b"yyyy-mm-dd", b"[h]:mm;@", b"x" * 3_000,
)  # fmt: skip


def _of_markup(other: bytes) -> list[Mutation]:
    """Most leave it well-formed: what is not is soon refused."""
    well_formed = (
        _element_repeated,
        _value_changed,
        _value_changed,
        _content_changed,
        _element_dropped,
        _elements_swapped,
    )
    return [*well_formed * 8, _number_changed, *_of_text(other, "xml")]


def _element_repeated(data: bytes, dice: Random) -> bytes:
    """From a tag's begin to one of the next ends of the same name, many times: nested if need be."""
    found = _an_element(data, dice)
    if found is None:
        return data
    start, end = found
    times = min(dice.choice((1, 2, 30, 3_000)), LARGEST // max(1, end - start))
    return data[:end] + data[start:end] * times + data[end:]


def _element_dropped(data: bytes, dice: Random) -> bytes:
    found = _an_element(data, dice)
    return data if found is None else data[: found[0]] + data[found[1] :]


def _elements_swapped(data: bytes, dice: Random) -> bytes:
    one, two = sorted((_an_element(data, dice) or (0, 0), _an_element(data, dice) or (0, 0)))
    if one[1] > two[0]:
        return data
    return data[: one[0]] + data[slice(*two)] + data[one[1] : two[0]] + data[slice(*one)] + data[two[1] :]


def _an_element(data: bytes, dice: Random) -> tuple[int, int] | None:
    at = dice.randint(0, len(data))
    opened = _ELEMENT.search(data, at) or _ELEMENT.search(data)
    if opened is None or opened[0].endswith(b"/>"):
        return opened.span() if opened else None
    closing = b"</" + opened[1] + b">"
    end = data.find(closing, opened.end())
    return opened.start(), end + len(closing) if end >= 0 else opened.end()


def _value_changed(data: bytes, dice: Random) -> bytes:
    return _one_changed(list(_VALUE.finditer(data)), data, dice)


def _content_changed(data: bytes, dice: Random) -> bytes:
    return _one_changed(list(_CONTENT.finditer(data)), data, dice)


def _one_changed(values: Sequence[re.Match[bytes]], data: bytes, dice: Random) -> bytes:
    if not values:
        return data
    found = dice.choice(values)
    new = dice.choice(_VALUES) if dice.random() < 0.6 else dice.choice(values)[0]
    return data[: found.start()] + new + data[found.end() :]


# --- PDF

_OBJECT = re.compile(rb"\d+ \d+ obj\b.*?\bendobj\b", re.DOTALL)
_STREAM = re.compile(rb"stream\r?\n(.*?)\r?\nendstream", re.DOTALL)
_LENGTH = re.compile(rb"/Length \d+")
_REFERENCE = re.compile(rb"\b\d+ 0 R\b")
_STARTXREF = re.compile(rb"startxref\s+\d+")


def _in_pdf(data: bytes, other: bytes, dice: Random) -> bytes:
    for _ in range(dice.choice((1, 1, 2, 4))):
        mutation = dice.choice(
            (_stream_changed, _stream_changed, _stream_changed, _objects, _reference, _length, _tokens)
        )
        data = mutation(data, other, dice)
    # With its table of offsets pointing nowhere, the reader looks for the objects where they are now.
    return _STARTXREF.sub(b"startxref\n0", data) if dice.random() < 0.8 else data


def _stream_changed(data: bytes, other: bytes, dice: Random) -> bytes:
    streams = list(_STREAM.finditer(data))
    if not streams:
        return data
    found = dice.choice(streams)
    raw, was_deflated = _inflated(found[1])
    changed = _several(_of_content(_inflated(_a_stream(other, dice))[0]), raw, dice)
    if dice.random() < 0.01:
        changed += b"0 " * (_BOMB // 2)
    packed = zlib.compress(changed, 1) if was_deflated else changed
    head = data[: found.start()]
    if dice.random() < 0.8:
        at = head.rfind(b"/Length ")
        head = head[:at] + _LENGTH.sub(b"/Length %d" % len(packed), head[at:], count=1) if at >= 0 else head
    return head + b"stream\n" + packed + b"\nendstream" + data[found.end() :]


def _of_content(other: bytes) -> list[Mutation]:
    def token(data: bytes, dice: Random) -> bytes:
        return _token(data, _TOKENS["content"], dice)

    return [*_blind(other), token, token, token, _number_changed, _number_changed, _number_changed, _lines_moved]


def _a_stream(data: bytes, dice: Random) -> bytes:
    streams = _STREAM.findall(data)
    return dice.choice(streams) if streams else b""


def _inflated(stream: bytes) -> tuple[bytes, bool]:
    """(content, whether it was deflated); what is in another filter is left in it."""
    try:
        return zlib.decompressobj().decompress(stream, LARGEST), True
    except zlib.error:
        return stream, False


def _objects(data: bytes, other: bytes, dice: Random) -> bytes:
    """Two swapped in content but not in number, one doubled, dropped, or taken from another file."""
    mine, others = list(_OBJECT.finditer(data)), _OBJECT.findall(other)
    if len(mine) < 2 or not others:
        return data
    one, two = sorted(dice.sample(mine, 2), key=lambda found: found.start())
    between, head, tail = data[one.end() : two.start()], data[: one.start()], data[two.end() :]
    deed = dice.randrange(4)
    if deed == 0:
        number_one, number_two = one[0].split(b" ", 1), two[0].split(b" ", 1)
        return b"%b%b %b%b%b %b%b" % (head, number_one[0], number_two[1], between, number_two[0], number_one[1], tail)
    if deed == 1:
        return head + one[0] + between + one[0] + two[0] + tail
    if deed == 2:
        return head + between + two[0] + tail
    return head + one[0].split(b" ", 1)[0] + b" " + dice.choice(others).split(b" ", 1)[1] + between + two[0] + tail


def _reference(data: bytes, other: bytes, dice: Random) -> bytes:
    """One names another object: a page tree with a cycle in it, a font that is a page."""
    found = list(_REFERENCE.finditer(data))
    if not found:
        return data
    one = dice.choice(found)
    new = dice.choice(found)[0] if dice.random() < 0.8 else b"%d 0 R" % dice.choice(_NUMBERS)
    return data[: one.start()] + new + data[one.end() :]


def _length(data: bytes, other: bytes, dice: Random) -> bytes:
    found = list(_LENGTH.finditer(data))
    if not found:
        return data
    one = dice.choice(found)
    return data[: one.start()] + b"/Length %d" % dice.choice((0, 1, 10, 99_999_999, 2**31, 2**63)) + data[one.end() :]


def _tokens(data: bytes, other: bytes, dice: Random) -> bytes:
    return _token(data, _TOKENS["pdf"], dice)
