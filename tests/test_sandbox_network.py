"""What code that has taken over a parse can reach: no network, and no file to write to."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ingest.sandbox import ParseLimits, Sandbox
from rag_service.media_types import TEXT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")

HOSTILE = """
import sys
if "ingest.zygote" in sys.orig_argv:
    from ingest.parsers.canonical import CanonicalText
    from ingest.parsers.plain import PlainTextParser

    def run(self, data):
        said = {}
        try:
            exec(data, said)
        except OSError as error:
            said["answer"] = type(error).__name__
        canonical = CanonicalText()
        canonical.add("paragraph", str(said.get("answer")))
        return canonical.document("hostile")

    PlainTextParser.parse = run
"""
"""Every text is a program, which the parse runs; the document is its variable `answer`, or the error it met."""

REFUSED = """
import ctypes, sys
if "ingest.zygote" in sys.orig_argv:
    class Refusing(ctypes.CDLL):
        def unshare(self, flags):
            return -1

    ctypes.CDLL = Refusing
"""
"""As on a system that gives out no namespaces."""

Run = Callable[[str], str]


@pytest.fixture
def arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes every Python process started from now on run this first."""

    def put(program: str) -> None:
        folder = tmp_path / "armed"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(program)
        monkeypatch.syspath_prepend(folder)

    return put


@pytest.fixture
def run(arm: Callable[[str], None], tmp_path: Path) -> Iterator[Run]:
    """Runs a program as a parse, and tells its answer."""
    arm(HOSTILE)
    with Sandbox(ParseLimits(wall_seconds=20)) as sandbox:

        def parse(program: str) -> str:
            path = tmp_path / "program"
            path.write_text(program)
            return sandbox.parse(path, TEXT).text

        yield parse


@pytest.fixture
def cut_off(run: Run) -> Run:
    """The same, where the system gives out network namespaces."""
    program = "import ctypes; f = ctypes.CDLL(None).unshare; raise SystemExit(f(1 << 30) and f(1 << 30 | 1 << 28))"
    if subprocess.run([sys.executable, "-S", "-c", program]).returncode:
        pytest.skip("this system lets nobody have a network namespace")
    return run


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        yield listening


def test_a_parse_cannot_connect_even_to_this_machine(cut_off: Run, server: socket.socket) -> None:
    program = f"import socket; socket.create_connection({server.getsockname()}, 5); answer = 'connected'"

    assert cut_off(program) == "OSError"
    with pytest.raises(TimeoutError):
        server.accept()

    # The server was there all the time.
    with socket.create_connection(server.getsockname(), 5):
        server.accept()[0].close()


def test_a_parse_cannot_send_a_datagram_anywhere(cut_off: Run) -> None:
    for address in (("127.0.0.1", 53), ("192.0.2.1", 53)):
        program = f"import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', {address}); answer = 'sent'"
        assert cut_off(program) == "OSError"


def test_a_parse_sees_no_interface_but_a_loopback_that_is_down(cut_off: Run) -> None:
    seen = cut_off(
        "import json, socket; routes = len(open('/proc/net/route').readlines()[1:])\n"
        "answer = json.dumps([[name for _, name in socket.if_nameindex()], routes])"
    )

    assert json.loads(seen) == [["lo"], 0]


def test_a_parse_cannot_reach_a_socket_with_a_name_of_its_own(cut_off: Run) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        # In the namespace of abstract names, which belongs to the network.
        listening.bind("\0youju-test")
        listening.listen()
        program = "import socket; socket.socket(socket.AF_UNIX).connect('\\0youju-test'); answer = 'connected'"

        assert cut_off(program) == "ConnectionRefusedError"


def test_a_parse_can_write_nothing_into_a_file(run: Run, tmp_path: Path) -> None:
    present, new = tmp_path / "present", tmp_path / "new"
    present.write_text("as it was")
    for path in (present, new):
        assert run(f"import os; os.write(os.open({str(path)!r}, os.O_RDWR | os.O_CREAT), b'evil')") == "OSError"

    assert present.read_text() == "as it was"
    assert not new.exists() or new.read_bytes() == b""


def test_a_parse_still_ends_with_its_zygote(run: Run) -> None:
    told = run("import os; answer = f'{os.getppid()} {os.getpid()}'")

    zygote, child = (int(pid) for pid in told.split())
    assert _parent(child) == zygote
    os.kill(zygote, signal.SIGKILL)
    assert int(run("import os; answer = os.getppid()")) != zygote
    assert _parent(child) != zygote


def _parent(pid: int) -> int | None:
    status = Path(f"/proc/{pid}/stat")
    return int(status.read_text().rpartition(")")[2].split()[1]) if status.exists() else None


def test_where_the_system_refuses_parses_go_on_and_the_log_says_so_once(
    arm: Callable[[str], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arm(REFUSED)
    text = tmp_path / "text"
    text.write_text("A sentence.")
    with Sandbox() as sandbox:
        assert sandbox.parse(text, TEXT).text == "A sentence."
        assert sandbox._zygote is not None
        os.kill(sandbox._zygote._process.pid, signal.SIGKILL)
        assert sandbox.parse(text, TEXT).text == "A sentence."

    assert [record.levelname for record in caplog.records if "network" in record.message] == ["WARNING"]


def test_where_the_system_grants_it_the_log_says_nothing(cut_off: Run, caplog: pytest.LogCaptureFixture) -> None:
    assert cut_off("answer = 1") == "1"
    assert not [record for record in caplog.records if "network" in record.message]
