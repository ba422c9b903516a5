"""The files in ZIP archives: each is a member with its content or with a reason, and hostile ones harm nobody."""

from __future__ import annotations

import io
import os
import posixpath
import random
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import textwrap
import time
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path

import pytest
from conftest import wait_until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rag_service import archive_child, archives, config
from rag_service.archives import Archives, path_fault
from rag_service.bootstrap import open_storage
from rag_service.errors import InvalidInput
from rag_service.intake import Incoming

LIMITS = Archives(most_entries=50, most_bytes=2_000_000, most_member_bytes=500_000)
DOCUMENTS = {"说明/年假.txt": "十五天".encode(), "warranty.md": b"Two years. " * 50}


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def zipped_as(*entries: tuple[zipfile.ZipInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for info, content in entries:
            archive.writestr(info, content)
    return buffer.getvalue()


def contents(data: bytes, reader: Archives = LIMITS) -> dict[str, bytes]:
    """Path to content of the good members."""
    found = {}
    for member in reader.members(io.BytesIO(data), "a.zip"):
        if member.content is not None:
            found[member.filename.removeprefix("a.zip/")] = member.content.read()
    return found


def reasons(data: bytes, reader: Archives = LIMITS) -> dict[str, object]:
    """Path to reason of the refused members."""
    members = reader.members(io.BytesIO(data), "a.zip")
    return {m.filename.removeprefix("a.zip/"): m.problem.data["reason"] for m in members if m.problem is not None}


def refusal(data: bytes, reader: Archives = LIMITS) -> InvalidInput:
    """Why the whole archive is refused."""
    with pytest.raises(InvalidInput) as caught:
        contents(data, reader)
    assert caught.value.detail
    assert caught.value.data["filename"] == "a.zip"
    return caught.value


def test_every_file_is_a_member_with_its_path_and_its_bytes() -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        assert contents(zipped(DOCUMENTS, method)) == DOCUMENTS


_PARTS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters='/\\":'), min_size=1)
_PATHS = st.lists(_PARTS.map(lambda part: "n" + part[:20]), min_size=1, max_size=4).map("/".join)


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(_PATHS, st.binary(max_size=400), min_size=1, max_size=5))
def test_whatever_was_zipped_comes_out_again(files: dict[str, bytes]) -> None:
    expected = {unicodedata.normalize("NFC", path): content for path, content in files.items()}

    assert contents(zipped(files)) == expected


def test_a_member_that_is_not_small_arrives_whole() -> None:
    content = random.Random(1).randbytes(3_000_000)

    assert contents(zipped({"big.bin": content}), Archives(5, 10_000_000, 5_000_000)) == {"big.bin": content}


def test_folders_and_what_systems_leave_for_themselves_are_no_members() -> None:
    clutter = ("__MACOSX/._a.txt", "x/.DS_Store", "x/Thumbs.db", "desktop.ini", "x/")
    data = zipped({name: b"" if name.endswith("/") else b"clutter" for name in clutter} | DOCUMENTS)

    assert contents(data) == DOCUMENTS
    assert reasons(data) == {}


def test_other_hidden_files_are_members_like_any_other() -> None:
    assert contents(zipped({".notes/.plan.txt": b"The plan."})) == {".notes/.plan.txt": b"The plan."}


def _without_flag(name: bytes) -> bytes:
    """An archive whose one name is these bytes and says nothing of its encoding."""
    placeholder = b"n" * len(name)
    return zipped({placeholder.decode(): b"text"}).replace(placeholder, name)


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "gbk", "ascii"])
def test_a_name_that_does_not_say_its_encoding_is_read_as_its_maker_wrote_it(encoding: str) -> None:
    name = "plan.txt" if encoding == "ascii" else "财务/二〇二四年报告.txt"

    assert list(contents(_without_flag(name.encode(encoding)))) == [name]


def test_a_name_that_is_no_chinese_is_read_as_dos_wrote_it() -> None:
    assert list(contents(_without_flag(b"caf\x82\xff.txt"))) == ["café\xa0.txt"]


def test_names_of_one_archive_are_taken_to_be_in_one_encoding() -> None:
    # These bytes alone are valid UTF-8 as well: the other name decides.
    clear = "报告".encode("gbk")
    data = zipped({"aa.txt": b"1", "bbbb.txt": b"2"}).replace(b"aa.txt", b"\xc2\xa1.txt")
    assert list(contents(data)) == ["¡.txt", "bbbb.txt"]

    assert list(contents(data.replace(b"bbbb.txt", clear + b".txt"))) == ["隆.txt", "报告.txt"]


def test_a_name_in_a_unicode_path_field_is_used_where_it_belongs_to_the_name() -> None:
    def entry(crc: int) -> bytes:
        info = zipfile.ZipInfo("old.txt")
        field = struct.pack("<BL", 1, crc) + "新.txt".encode()
        info.extra = struct.pack("<HH", 0x7075, len(field)) + field
        return zipped_as((info, b"text"))

    assert list(contents(entry(zlib.crc32(b"old.txt")))) == ["新.txt"]
    assert list(contents(entry(0))) == ["old.txt"]


def test_names_are_composed_as_they_are_everywhere_else() -> None:
    assert list(contents(zipped({"u\u0308ber.txt": b"text"}))) == ["über.txt"]


@pytest.mark.parametrize(
    "name",
    [
        "../up.txt", "a/../../up.txt", "/etc/absolute.txt", "C:/drive.txt", "c:drive.txt", "back\\slash.txt",
        "..\\up.txt", "a//b.txt", "./a.txt", "line\nbreak.txt", "fdp.\u202eexe.pdf", "a/ /b.txt", "nul\x00.txt",
        "x" * 256 + ".txt", "/".join("d" * 33) + "/a.txt", "/".join(["d" * 250] * 5), "half/",
    ],
    ids=lambda name: ascii(name)[:30],
)  # fmt: skip
def test_a_path_that_could_lead_astray_is_a_refused_member_and_the_others_are_taken(name: str) -> None:
    placeholder = "p" * len(name.encode())
    data = zipped({placeholder: b"text", "good.txt": b"good"}, zipfile.ZIP_STORED)
    data = data.replace(placeholder.encode(), name.encode())

    assert list(reasons(data).values()) == ["filename"]
    assert contents(data) == {"good.txt": b"good"}


@given(st.text())
def test_a_path_without_fault_stays_below_its_folder(path: str) -> None:
    if path_fault(path) is None:
        assert posixpath.normpath(path) == path
        assert not path.startswith(("/", ".."))
        assert path.isprintable() or any(unicodedata.category(c)[0] in "CZ" for c in path)


def _flagged(data: bytes, bits: int, which: int) -> bytes:
    """The archive with these flag bits set on its `which`-th entry, in both places."""
    patched = bytearray(data)
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        position = -1
        for _ in range(which + 1):
            position = data.index(signature, position + 1)
        patched[position + at] |= bits & 0xFF
        patched[position + at + 1] |= bits >> 8
    return bytes(patched)


def test_an_encrypted_file_is_a_refused_member() -> None:
    data = _flagged(zipped(DOCUMENTS), 1, which=1)

    assert reasons(data) == {"warranty.md": "encrypted"}
    assert list(contents(data)) == ["说明/年假.txt"]


def test_an_archive_of_which_all_is_encrypted_is_refused() -> None:
    assert refusal(_flagged(_flagged(zipped(DOCUMENTS), 1, 0), 1, 1)).data["reason"] == "encrypted"


def test_an_archive_within_an_archive_is_not_opened() -> None:
    found = list(LIMITS.members(io.BytesIO(zipped({"inner.ZIP": zipped(DOCUMENTS), "a.txt": b"a"})), "a.zip"))

    assert [(m.filename, m.problem is None) for m in found] == [("a.zip/inner.ZIP", False), ("a.zip/a.txt", True)]
    assert found[0].problem is not None
    assert found[0].problem.detail == "archives within archives are not opened"


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_no_files(kind: int) -> None:
    info = zipfile.ZipInfo("link.txt")
    info.create_system, info.external_attr = 3, (kind | 0o777) << 16

    assert reasons(zipped_as((info, b"/etc/passwd"))) == {"link.txt": "not-a-file"}


def test_a_compression_that_is_not_known_is_told() -> None:
    data = zipped({"a.txt": b"a" * 100, "b.txt": b"b"}, zipfile.ZIP_STORED)
    central = data.index(b"PK\x01\x02")
    deflate64 = data[: central + 10] + b"\x09\x00" + data[central + 12 :]

    assert reasons(deflate64) == {"a.txt": "compression-method"}
    assert contents(deflate64) == {"b.txt": b"b"}


def test_a_damaged_file_is_a_refused_member_never_a_shorter_one() -> None:
    data = zipped({"a.txt": b"The text of a." * 9, "b.txt": b"The text of b."}, zipfile.ZIP_STORED)

    assert reasons(data.replace(b"The text of a", b"The next of a", 1)) == {"a.txt": "broken"}
    assert contents(data.replace(b"The text of a", b"The next of a", 1)) == {"b.txt": b"The text of b."}


def test_a_file_with_two_names_is_refused() -> None:
    data = zipped({"a.txt": b"a", "b.txt": b"b"}).replace(b"a.txt", b"c.txt", 1)

    assert reasons(data) == {"a.txt": "broken"}


def test_archives_written_to_a_pipe_and_with_64_bit_sizes_are_read() -> None:
    class Pipe(io.RawIOBase):
        written = b""

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override]
            self.written += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("a.txt", "w", force_zip64=True) as file:
            file.write(b"a" * 1000)
        archive.writestr("b.txt", b"b")

    assert contents(pipe.written) == {"a.txt": b"a" * 1000, "b.txt": b"b"}


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04 and no more", zipped(DOCUMENTS)[:-30], b"Just text.", b"PK\x05\x06" + bytes(4)]
)
def test_what_is_no_archive_is_refused(data: bytes) -> None:
    assert refusal(data).data["reason"] == "broken"


@pytest.mark.parametrize("files", [{}, {"folder/": b""}, {"__MACOSX/x": b"x"}], ids=str)
def test_an_archive_without_a_file_is_refused(files: dict[str, bytes]) -> None:
    assert refusal(zipped(files)).data["reason"] == "empty"


def _overlapping(count: int) -> bytes:
    """Many entries of the directory, all of the same bytes."""
    data = zipped({"aaa.txt": b"0" * 400_000})
    begin, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    directory = data[begin:end] * count
    record = struct.pack("<4sHHHHLLH", b"PK\x05\x06", 0, 0, count, count, len(directory), begin, 0)
    return data[:begin] + directory + record


def test_entries_that_share_bytes_are_refused_before_anything_is_inflated() -> None:
    assert refusal(_overlapping(40)).data["reason"] == "archive-overlap"


def test_an_entry_that_reaches_into_the_directory_is_refused() -> None:
    data = bytearray(zipped({"a.txt": b"a" * 100}, zipfile.ZIP_STORED))
    central = data.index(b"PK\x01\x02")
    data[central + 20 : central + 28] = struct.pack("<LL", 130, 130)

    assert refusal(bytes(data)).data["reason"] == "archive-overlap"


def test_more_entries_than_allowed_are_refused_whatever_the_archive_claims() -> None:
    data = bytearray(zipped({f"{n}.txt": b"" for n in range(51)}))
    assert refusal(bytes(data)).data == {"filename": "a.zip", "reason": "too-many-entries", "limit_entries": 50}

    end = data.index(b"PK\x05\x06")
    data[end + 8 : end + 12] = struct.pack("<HH", 1, 1)
    assert refusal(bytes(data)).data["reason"] == "too-many-entries"


def test_a_directory_of_a_million_entries_costs_next_to_nothing() -> None:
    entry = zipped({"a": b""})
    begin, end = entry.index(b"PK\x01\x02"), entry.index(b"PK\x05\x06")
    directory = entry[begin:end] * 1_000_000
    record = struct.pack("<4sHHHHLLH", b"PK\x05\x06", 0, 0, 1, 1, len(directory), begin, 0)
    begun = time.thread_time()

    assert refusal(entry[:begin] + directory + record).data["reason"] == "too-many-entries"
    assert time.thread_time() - begun < 5


def test_a_file_that_inflates_beyond_an_upload_is_a_refused_member() -> None:
    data = zipped({"bomb.txt": b"0" * 500_001, "good.txt": b"0" * 500_000})
    [bomb] = [m.problem for m in LIMITS.members(io.BytesIO(data), "a.zip") if m.problem is not None]

    assert bomb.data == {"filename": "a.zip/bomb.txt", "reason": "decompression-limit", "limit_bytes": 500_000}
    assert list(contents(data)) == ["good.txt"]


def test_an_archive_that_inflates_beyond_its_limit_is_refused_whole() -> None:
    data = zipped({f"{n}.txt": b"0" * 400_000 for n in range(6)})

    assert refusal(data).data == {"filename": "a.zip", "reason": "decompression-limit", "limit_bytes": 2_000_000}


def test_archives_of_one_upload_share_what_is_allowed() -> None:
    allowance = LIMITS.allowance()
    for number in range(2):
        archive = zipped({f"{number} {name}.txt": b"x" * 300_000 for name in range(3)})
        assert len(list(LIMITS.members(io.BytesIO(archive), f"{number}.zip", allowance))) == 3

    for files, reason in (({f"{n}.txt": b"x" for n in range(45)}, "too-many-entries"),
                          ({"large.txt": b"x" * 400_000}, "decompression-limit")):  # fmt: skip
        with pytest.raises(InvalidInput) as caught:
            list(LIMITS.members(io.BytesIO(zipped(files)), "3.zip", allowance))
        assert caught.value.data["reason"] == reason


def test_many_small_archives_in_one_upload_are_no_way_round_the_limits(tmp_path: Path) -> None:
    files = [
        Incoming(
            f"{number}.zip", None, io.BytesIO(zipped({f"{name}.txt": b"%d %d" % (number, name) for name in range(3)}))
        )
        for number in range(4)
    ]
    with closing(open_storage(config.load(data=tmp_path / "data", archive_entries=7))) as storage:
        kb = storage.knowledge_bases.create("default", "kb").id
        _, accepted = storage.intake.accept("default", kb, files)

    assert [entry.problem and entry.problem.data["reason"] for entry in accepted] == [
        *[None] * 6, "too-many-entries", "too-many-entries",
    ]  # fmt: skip


def test_what_is_refused_counts_as_well() -> None:
    data = zipped({f"{n}.txt": b"0" * 600_000 for n in range(6)})

    assert refusal(data).data["reason"] == "decompression-limit"


@pytest.mark.parametrize("claimed", [1, 2**31])
def test_sizes_are_counted_and_not_believed(claimed: int) -> None:
    data = bytearray(zipped({"a.txt": b"0" * 450_000}))
    central = data.index(b"PK\x01\x02")
    data[central + 24 : central + 28] = struct.pack("<L", claimed)

    # Shorter than the truth is damage; longer is caught at the end of what there is.
    found = {**contents(bytes(data)), **reasons(bytes(data))}
    assert found in ({"a.txt": "broken"}, {"a.txt": b"0" * 450_000})


def test_an_archive_that_inflates_to_more_than_memory_holds_is_only_slow() -> None:
    bomb = zipped({"bomb.txt": b"0" * 100_000_000}, zipfile.ZIP_BZIP2)
    tight = Archives(5, 200_000_000, 150_000_000, memory_bytes=100_000_000)

    assert reasons(bomb, tight) in ({"bomb.txt": "memory-limit"}, {})


def test_an_upload_still_in_memory_or_in_a_buffer_is_read_whole() -> None:
    for most_in_memory in (1, 1_000_000):
        with tempfile.SpooledTemporaryFile(most_in_memory) as upload:
            data = zipped(DOCUMENTS)
            upload.write(data[:100])
            upload.write(data[100:])
            names = [member.filename for member in LIMITS.members(upload, "b.zip")]  # type: ignore[arg-type]
            assert names == [f"b.zip/{name}" for name in DOCUMENTS]


def test_a_reader_that_was_left_in_the_middle_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def spy(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
        started.append(start(*arguments, **options))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", spy)
    big = zipped({f"{n}.bin": random.Random(n).randbytes(400_000) for n in range(4)})
    members = LIMITS.members(io.BytesIO(big), "a.zip")
    next(members)
    assert started[0].poll() is None

    members.close()  # type: ignore[attr-defined]

    assert started[0].returncode == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.killpg(started[0].pid, 0)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_mutated_archive_gives_true_members_or_reasons(data: st.DataObject) -> None:
    archive = bytearray(zipped({"a.txt": b"The text of a. " * 20, "b/c.txt": b"The text of c. " * 20}))
    for _ in range(data.draw(st.integers(1, 4))):
        archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(st.integers(0, 255))

    with suppress(InvalidInput):
        found = contents(bytes(archive))
        assert set(found.values()) <= {b"The text of a. " * 20, b"The text of c. " * 20}


# What the child says is not believed.


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts another program in the child's place."""

    def replace(body: str) -> None:
        program = tmp_path / "child.py"
        program.write_text(
            "import os, signal, struct, sys, time\n"
            "def send(kind, payload=b'', length=None):\n"
            "    size = len(payload) if length is None else length\n"
            "    sys.stdout.buffer.write(struct.pack('>BI', kind, size) + payload)\n"
            "    sys.stdout.buffer.flush()\n" + textwrap.dedent(body)
        )
        monkeypatch.setattr(archive_child, "__file__", str(program))

    return replace


@pytest.mark.parametrize(
    "body",
    [
        "",
        "send(2, b'data before a member')",
        "send(1, b'a.txt'); send(3)",
        "send(1, b'a.txt'); send(1, b'b.txt')",
        "send(1, b'a.txt'); send(2, b'cut')",
        "send(1, b'a.txt'); send(4, b'a reason of its own')",
        "send(6, b'a reason of its own')",
        "send(1, b'\\xff\\xfe'); send(3); send(5)",
        "send(99)",
        "send(1, bytes(300_000), length=2**32 - 1); time.sleep(60)",
        "send(1, b'a.txt')\nfor _ in range(5): send(2, bytes(150_000))\nsend(3); send(5)",
        "for n in range(60): send(1, b'%d' % n); send(3)\nsend(5)",
        "for n in range(5):\n    send(1, b'a'); [send(2, bytes(240_000)) for _ in (1, 2)]; send(3)\nsend(5)",
        "os.kill(os.getpid(), signal.SIGSEGV)",
        "sys.exit(3)",
    ],
    ids=lambda body: body[:24] or "nothing",
)
def test_a_child_that_says_what_it_cannot_mean_is_a_crash(child: Callable[[str], None], body: str) -> None:
    child(body)

    assert refusal(b"", Archives(50, 2_000_000, 500_000, seconds=15)).data["reason"] == "crashed"


def test_a_child_that_says_nothing_runs_out_of_time(child: Callable[[str], None]) -> None:
    child("send(1, b'a.txt')\ntime.sleep(60)")
    begun = time.monotonic()

    hasty = Archives(50, 1_000, 1_000, seconds=0.3)

    assert refusal(b"", hasty).data == {"filename": "a.zip", "reason": "parse-timeout", "limit_seconds": 0.3}
    assert time.monotonic() - begun < 5


def test_a_child_that_computes_for_ever_is_stopped_by_the_system(child: Callable[[str], None]) -> None:
    child("os.kill(os.getpid(), signal.SIGXCPU)")

    assert refusal(b"").data["reason"] == "parse-timeout"


def test_what_a_child_started_ends_with_it(child: Callable[[str], None], tmp_path: Path) -> None:
    note = tmp_path / "grandchild"
    child(
        f"""
        import subprocess
        started = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
        open({str(note)!r}, 'w').write(str(started.pid))
        send(6, b'broken')
        time.sleep(60)
        """
    )

    assert refusal(b"").data["reason"] == "broken"
    grandchild = Path(f"/proc/{note.read_text()}/stat")
    wait_until(lambda: not grandchild.exists() or grandchild.read_text().split()[2] == "Z")


@pytest.mark.parametrize("act", ["open('/etc/hostname')", "import socket; socket.socket()", "bytearray(300_000_000)"])
def test_the_child_can_open_no_file_and_no_connection_and_has_little_memory(act: str) -> None:
    program = f"""
import socket, sys
sys.path.insert(0, {str(Path(archive_child.__file__).parent.parent)!r})
from rag_service import archive_child
archive_child._give_up_rights(200_000_000, 10)
try:
    {act}
except (OSError, MemoryError):
    sys.exit(7)
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=30, check=False).returncode == 7


def test_reasons_have_sentences() -> None:
    for reason, sentence in (archives._OF_ARCHIVE | archives._OF_MEMBER).items():
        assert sentence
        assert reason == reason.lower()
