"""The sandbox: what a parse may not do, and what is left behind when it tries (nothing)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from ingest.parse_protocol import decode_answer
from ingest.sandbox import Leash, ParseAbandoned, ParseLimits, Sandbox
from rag_service.errors import BlobMissing, ParseFailed, UnsupportedType
from rag_service.media_types import HTML, PDF, TEXT

Found = TypeVar("Found")
ROOT = Path(__file__).resolve().parents[1]
UNHURRIED = ParseLimits(slice_seconds=60)
"""So that a busy machine makes no parse step back."""
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small"
    path.write_text("第一句。Second sentence.", encoding="utf-8")
    return path


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """HTML that takes many seconds: two hundred thousand paragraphs."""
    path = tmp_path / "slow"
    path.write_text("<p>一段<b>文字</b>。</p>\n" * 200_000, encoding="utf-8")
    return path


def failure(sandbox: Sandbox, path: Path, media_type: str) -> ParseFailed:
    with pytest.raises(ParseFailed) as caught:
        sandbox.parse(path, media_type)
    return caught.value


def test_a_parse_gives_the_document_with_its_blocks(sandbox: Sandbox, small: Path) -> None:
    parsed = sandbox.parse(small, TEXT)
    assert parsed.text == "第一句。Second sentence."
    assert [(block.kind, block.start, block.end) for block in parsed.blocks] == [("paragraph", 0, 20)]


def test_the_parsers_own_reason_comes_through(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "blank").write_bytes(b" \n\n ")
    assert failure(sandbox, tmp_path / "blank", TEXT).reason == "empty"


def test_a_library_error_is_broken_and_names_itself_without_a_traceback(sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "mad.pdf"
    path.write_bytes(b"%PDF-1.7\nand nothing more")
    error = failure(sandbox, path, PDF)
    assert error.reason == "broken"
    assert error.data["error"]
    assert "Traceback" not in error.detail


def test_a_missing_file_is_not_a_broken_document(sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(BlobMissing):
        sandbox.parse(tmp_path / "nowhere", TEXT)


def test_a_media_type_without_a_parser_is_refused(sandbox: Sandbox, small: Path) -> None:
    with pytest.raises(UnsupportedType):
        sandbox.parse(small, "application/x-tar")


def test_a_parse_over_its_wall_time_is_killed(slow: Path) -> None:
    with Sandbox(ParseLimits(wall_seconds=0.3)) as sandbox:
        begun = time.monotonic()
        error = failure(sandbox, slow, HTML)
        assert error.reason == "parse-timeout"
        assert time.monotonic() - begun < 10
        assert_no_children_at_work(sandbox)


def test_a_parse_over_its_cpu_time_is_killed(slow: Path) -> None:
    with Sandbox(ParseLimits(cpu_seconds=1)) as sandbox:
        assert failure(sandbox, slow, HTML).reason == "parse-timeout"


def test_a_parse_over_its_memory_is_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes("大段文字。".encode() * 2_000_000)
    with Sandbox(ParseLimits(memory_bytes=60_000_000)) as sandbox:
        error = failure(sandbox, path, TEXT)
        assert error.reason == "memory-limit"
        assert error.data["limit_bytes"] == 60_000_000


def test_a_text_over_the_output_limit_is_refused_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_text("A sentence. " * 1000)
    with Sandbox(ParseLimits(output_bytes=2000)) as sandbox:
        error = failure(sandbox, path, TEXT)
        assert error.reason == "output-limit"
        assert error.data["limit_bytes"] == 2000


@LINUX
@pytest.mark.parametrize("died_of", [signal.SIGSEGV, signal.SIGABRT])
def test_a_crash_carries_its_signal(slow: Path, died_of: signal.Signals) -> None:
    with Sandbox() as sandbox, ThreadPoolExecutor(1) as pool:
        parsing = pool.submit(failure, sandbox, slow, HTML)
        child = wait_for(lambda: busiest_child(sandbox))
        os.kill(child, died_of)
        error = parsing.result(timeout=30)
        assert error.reason == "crashed"
        assert error.data["signal"] == died_of


@LINUX
def test_a_library_that_ends_the_process_for_want_of_memory_is_told_as_such(tmp_path: Path) -> None:
    """pdfium does, and a page that saves its state ten million times makes it want much."""
    content = zlib.compress(b"q " * 10_000_000)
    objects = (
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R>>",
        b"<</Length %d/Filter/FlateDecode>>stream\n%b\nendstream" % (len(content), content),
    )
    path = tmp_path / "greedy.pdf"
    body = b"".join(b"%d 0 obj\n%b\nendobj\n" % numbered for numbered in enumerate(objects, start=1))
    path.write_bytes(b"%PDF-1.7\n" + body + b"trailer<</Root 1 0 R/Size 5>>\nstartxref\n0\n%%EOF")
    with Sandbox(ParseLimits(memory_bytes=200_000_000)) as sandbox:
        error = failure(sandbox, path, PDF)
        assert error.reason == "memory-limit"
        assert error.data["limit_bytes"] == 200_000_000


@LINUX
def test_a_dead_zygote_is_replaced_and_the_parse_under_way_repeated(small: Path, slow: Path) -> None:
    with Sandbox(ParseLimits(wall_seconds=5)) as sandbox, ThreadPoolExecutor(1) as pool:
        sandbox.parse(small, TEXT)
        first = zygote_of(sandbox)
        parsing = pool.submit(failure, sandbox, slow, HTML)
        wait_for(lambda: busiest_child(sandbox))
        os.kill(first, signal.SIGKILL)
        assert parsing.result(timeout=60).reason == "parse-timeout"
        assert zygote_of(sandbox) != first
        assert sandbox.parse(small, TEXT).text


@LINUX
def test_what_was_started_before_is_not_started_by_the_first_parse(small: Path) -> None:
    with Sandbox() as sandbox:
        sandbox.start()
        ready = zygote_of(sandbox)
        begun = time.monotonic()
        assert sandbox.parse(small, TEXT).text
        assert time.monotonic() - begun < 1
        assert zygote_of(sandbox) == ready


def test_a_parsing_process_that_cannot_start_is_the_machines_fault_not_the_documents(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.sandbox._environment", lambda: {"PYTHONPATH": "", "PYTHONHOME": "/nowhere"})
    with Sandbox() as sandbox, pytest.raises(ChildProcessError):
        sandbox.parse(small, TEXT)


@LINUX
def test_a_zygote_that_hangs_is_replaced(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.sandbox._GRACE_SECONDS", 8)
    with Sandbox(ParseLimits(wall_seconds=0.5)) as sandbox:
        sandbox.parse(small, TEXT)
        hanging = zygote_of(sandbox)
        os.kill(hanging, signal.SIGSTOP)
        assert failure(sandbox, small, TEXT).reason == "parse-timeout"
        assert sandbox.parse(small, TEXT).text
        assert zygote_of(sandbox) != hanging


@LINUX
def test_a_waiting_child_that_was_killed_costs_nobody_a_parse(small: Path) -> None:
    with Sandbox(UNHURRIED) as sandbox:
        sandbox.parse(small, TEXT)
        waiting = wait_for(lambda: children_of(zygote_of(sandbox)))
        for pid in waiting:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not any(alive(pid) for pid in waiting))
        assert sandbox.parse(small, TEXT).text


@LINUX
def test_zygote_and_children_go_when_the_owner_is_killed(slow: Path) -> None:
    program = (
        "import sys, threading; from pathlib import Path; from ingest.sandbox import Sandbox\n"
        "sandbox = Sandbox()\n"
        f"path = Path({str(slow)!r})\n"
        "threading.Thread(target=sandbox.parse, args=(path, 'text/html')).start()\n"
        "import time\n"
        "while sandbox._zygote is None: time.sleep(.01)\n"
        "print(sandbox._zygote._process.pid, flush=True)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=ROOT, text=True)
    assert owner.stdout is not None
    zygote = int(owner.stdout.readline())
    wait_for(lambda: len(children_of(zygote)) == 1)
    family = [zygote, *children_of(zygote)]
    owner.kill()
    owner.communicate()
    wait_for(lambda: not any(alive(pid) for pid in family))


@LINUX
def test_children_go_when_only_the_zygote_is_killed(slow: Path) -> None:
    with Sandbox(ParseLimits(wall_seconds=5)) as sandbox, ThreadPoolExecutor(1) as pool:
        parsing = pool.submit(failure, sandbox, slow, HTML)
        child = wait_for(lambda: busiest_child(sandbox))
        os.kill(zygote_of(sandbox), signal.SIGKILL)
        wait_for(lambda: not alive(child))
        parsing.result(timeout=60)


@LINUX
def test_a_parse_let_go_of_is_killed_with_what_it_started(slow: Path) -> None:
    leash = Leash()
    with Sandbox() as sandbox, ThreadPoolExecutor(1) as pool:
        parsing = pool.submit(sandbox.parse, slow, HTML, leash)
        child = wait_for(lambda: busiest_child(sandbox))
        leash.let_go()
        with pytest.raises(ParseAbandoned):
            parsing.result(timeout=5)
        wait_for(lambda: not alive(child))


def test_a_parse_let_go_of_before_it_began_is_not_begun(sandbox: Sandbox, small: Path) -> None:
    leash = Leash()
    leash.let_go()
    with pytest.raises(ParseAbandoned):
        sandbox.parse(small, TEXT, leash)
    assert sandbox.parse(small, TEXT).text


@LINUX
def test_a_parse_gives_way_to_others_and_a_long_one_to_all(slow: Path) -> None:
    with Sandbox(ParseLimits(wall_seconds=20, slice_seconds=3)) as sandbox, ThreadPoolExecutor(1) as pool:
        pool.submit(failure, sandbox, slow, HTML)
        child = wait_for(lambda: busiest_child(sandbox))
        assert os.getpriority(os.PRIO_PROCESS, child) == 5
        wait_for(lambda: os.getpriority(os.PRIO_PROCESS, child) == 10, 10)


@LINUX
def test_the_kernel_short_of_memory_ends_a_parse_before_anything_else(slow: Path) -> None:
    with Sandbox(ParseLimits(wall_seconds=5)) as sandbox, ThreadPoolExecutor(1) as pool:
        pool.submit(failure, sandbox, slow, HTML)
        child = wait_for(lambda: busiest_child(sandbox))
        assert int(Path(f"/proc/{child}/oom_score_adj").read_text()) == 1000


@LINUX
def test_three_hundred_parses_leave_no_process_and_no_descriptor(small: Path) -> None:
    with Sandbox(UNHURRIED) as sandbox:
        sandbox.start()
        ours, its = descriptors_of(os.getpid()), descriptors_of(zygote_of(sandbox))
        with ThreadPoolExecutor(4) as pool:
            texts = list(pool.map(lambda _: sandbox.parse(small, TEXT).text, range(300)))
        assert len(set(texts)) == 1
        assert descriptors_of(os.getpid()) <= ours
        wait_for(lambda: len(children_of(zygote_of(sandbox))) <= 4)
        # A waiting child is one socket.
        wait_for(lambda: descriptors_of(zygote_of(sandbox)) - its == len(children_of(zygote_of(sandbox))))


@LINUX
def test_only_plain_text_leaves_a_child_for_the_next(small: Path, tmp_path: Path) -> None:
    page = tmp_path / "page"
    page.write_text("<p>One page.</p>", "utf-8")
    with Sandbox(UNHURRIED) as sandbox:
        sandbox.parse(small, TEXT)
        first = wait_for(lambda: children_of(zygote_of(sandbox)))
        time.sleep(0.2)
        sandbox.parse(small, TEXT)
        assert children_of(zygote_of(sandbox)) == first
        sandbox.parse(page, HTML)
        wait_for(lambda: not children_of(zygote_of(sandbox)))


@LINUX
def test_a_child_is_not_used_for_ever(tmp_path: Path) -> None:
    long = tmp_path / "long"
    long.write_text("A sentence of some length, once more. \n" * 6_000, "utf-8")
    with Sandbox() as sandbox:
        seen = set()
        for _ in range(60):
            sandbox.parse(long, TEXT)
            seen |= set(children_of(zygote_of(sandbox)))
        assert len(seen) > 1


def test_parses_of_several_threads_do_not_mix(sandbox: Sandbox, tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(24)]
    for path in paths:
        path.write_text(f"This is document {path.name}.")
    with ThreadPoolExecutor(8) as pool:
        parsed = list(pool.map(lambda path: sandbox.parse(path, TEXT), paths))
    assert [p.text for p in parsed] == [f"This is document {path.name}." for path in paths]


@LINUX
def test_the_parsing_process_inherits_no_secret(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOUJU_DATABASE_URL", "postgresql://u:secret@db/youju")
    with Sandbox() as sandbox:
        sandbox.parse(small, TEXT)
        assert b"secret" not in Path(f"/proc/{zygote_of(sandbox)}/environ").read_bytes()


@LINUX
def test_close_ends_everything_and_parsing_after_it_is_an_error(small: Path) -> None:
    sandbox = Sandbox()
    sandbox.parse(small, TEXT)
    family = [zygote_of(sandbox), *children_of(zygote_of(sandbox))]
    sandbox.close()
    wait_for(lambda: not any(alive(pid) for pid in family))
    with pytest.raises(RuntimeError):
        sandbox.parse(small, TEXT)


def test_the_owners_process_never_loads_a_parsing_library() -> None:
    program = (
        "import sys, ingest.sandbox, rag_service.media_types\n"
        "heavy = {'markitdown', 'mammoth', 'bs4', 'markdownify', 'pypdfium2', 'markdown_it', 'charset_normalizer'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"{}",
        b'{"reason": "made-up", "detail": "x", "data": {}}',
        b'{"text": "ab", "blocks": [["paragraph", 0, 9, null, null]], "pages": null, "parser": "p"}',
        b'{"text": "ab", "blocks": [["script", 0, 2, null, null]], "pages": null, "parser": "p"}',
        b'{"text": "ab", "blocks": [["code", 1, 2, null, null], ["code", 0, 1, null, null]]}',
        b'{"text": "\\ud800", "blocks": [["code", 0, 1, null, null]], "pages": null, "parser": "p"}',
        b"[" * 100_000,
    ],
)
def test_an_answer_that_is_no_document_is_not_believed(answer: bytes) -> None:
    with pytest.raises(ParseFailed) as caught:
        decode_answer(answer)
    assert caught.value.reason == "crashed"


def test_a_pdf_bomb_does_not_outlive_its_limits(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pdf"
    path.write_bytes(b"%PDF-1.7\n" + b"[" * 5_000_000)
    with Sandbox(ParseLimits(wall_seconds=5, memory_bytes=300_000_000)) as sandbox:
        assert failure(sandbox, path, PDF).reason in ("broken", "crashed", "parse-timeout", "memory-limit")


def zygote_of(sandbox: Sandbox) -> int:
    assert sandbox._zygote is not None
    return sandbox._zygote._process.pid


def children_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in children.read_text().split()] if children.exists() else []


def busiest_child(sandbox: Sandbox) -> int | None:
    """The child that has used the most CPU, once there is one that clearly works."""
    if sandbox._zygote is None:
        return None
    used = {pid: ticks(pid) for pid in children_of(zygote_of(sandbox))}
    busiest = max(used, key=lambda pid: used[pid], default=None)
    return busiest if busiest is not None and used[busiest] >= 20 else None


def ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(fields[11]) + int(fields[12])


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def descriptors_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def assert_no_children_at_work(sandbox: Sandbox) -> None:
    if sys.platform == "linux":
        wait_for(lambda: len(children_of(zygote_of(sandbox))) <= 1)


def wait_for(condition: Callable[[], Found | None], seconds: float = 30) -> Found:
    """The first true value of `condition`; fails when none comes."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
    return value


def test_a_machine_without_a_process_to_spare_is_no_fault_of_the_document(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = tmp_path / "refuses"
    (tmp_path / "sitecustomize.py").write_text(
        "import os, pathlib\n"
        "fork = os.fork\n"
        "def refuse():\n"
        f"    if pathlib.Path({str(refusing)!r}).exists():\n"
        "        raise BlockingIOError(11, 'no process')\n"
        "    return fork()\n"
        "os.fork = refuse\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    refusing.touch()
    with Sandbox() as sandbox:
        for _ in range(3):
            with pytest.raises(ChildProcessError):
                sandbox.parse(small, TEXT)
        refusing.unlink()

        assert sandbox.parse(small, TEXT).text == "第一句。Second sentence."
