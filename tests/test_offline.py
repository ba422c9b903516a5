"""After installation nothing needs the network: `serve`, `ingest` and `ask` try no address but this machine's own.

Two witnesses. An audit hook in every Python process, the workers and the parsing children included, writes down each
connection and each name that is looked up. And where a network namespace can be made, everything runs in one that has
only loopback, whose kernel counts each packet it had no route for, whichever library wanted to send it.
"""

from __future__ import annotations

import ast
import ipaddress
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import SAMPLES, free_port

HOOK = """
import os, sys

_log = os.open({log!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
_events = {{"socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname",
            "socket.gethostbyaddr", "socket.getnameinfo", "urllib.Request", "http.client.connect"}}


def _witness(event, arguments):
    if event in _events:
        os.write(_log, (repr((os.getpid(), event, [str(a) if not isinstance(a, (str, int, tuple, type(None))) else a
                                                   for a in arguments])) + "\\n").encode())


sys.addaudithook(_witness)
os.write(_log, (repr((os.getpid(), "begun", sys.orig_argv)) + "\\n").encode())
"""

# Runs inside the namespace: what a newcomer does, and then what the kernel had no route for.
SESSION = """
import fcntl, json, os, pathlib, socket, struct, subprocess, sys, time, urllib.request

data, samples, port, cut_off = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "cut off"
if cut_off:
    with socket.socket() as s:  # SIOCGIFFLAGS, SIOCSIFFLAGS: loopback up
        flags = struct.unpack("16sh", fcntl.ioctl(s, 0x8913, struct.pack("16sh", b"lo", 0)))[1]
        fcntl.ioctl(s, 0x8914, struct.pack("16sh", b"lo", flags | 1))


def unroutable():
    total = 0
    for line in pathlib.Path("/proc/self/net/snmp6").read_text().splitlines():
        name, value = line.split()
        total += int(value) if name == "Ip6OutNoRoutes" else 0
    names, values = [l.split() for l in pathlib.Path("/proc/self/net/snmp").read_text().splitlines() if l[:3] == "Ip:"]
    return total + int(dict(zip(names, values))["OutNoRoutes"])


def youju(*arguments):
    return [sys.executable, "-m", "rag_service", *arguments, "--data", data]


def call(path, body=None):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body and json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    with opener.open(request, timeout=30) as response:
        return json.load(response)


opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
subprocess.run(youju("ingest", samples, "--kb", "samples"), check=True)
subprocess.run(youju("ask", "How long is the warranty?", "--kb", "samples"), check=True)
serving = subprocess.Popen(youju("serve", "--no-auth", "--port", str(port)))
deadline = time.monotonic() + 60
while True:
    try:
        call("/readyz")
        break
    except OSError:
        assert time.monotonic() < deadline and serving.poll() is None
        time.sleep(0.1)
kb = call("/v1/knowledge-bases")["items"][0]["id"]
job = call(f"/v1/knowledge-bases/{kb}/texts", {"title": "late", "text": "The cafeteria opens at eleven."})["job_id"]
while call(f"/v1/jobs/{job}")["finished_at"] is None:
    assert time.monotonic() < deadline
    time.sleep(0.1)
answer = call("/v1/answers", {"query": "When does the cafeteria open?", "knowledge_base_ids": [kb]})
serving.terminate()
serving.wait(30)
told = {"outcome": answer["outcome"], "unroutable": unroutable() if cut_off else None}
if cut_off:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(type=kind) as s:
            try:
                s.connect(("192.0.2.1", 53))
            except OSError:
                pass
    told["counted"] = unroutable() - told["unroutable"]
print(json.dumps(told))
"""


@dataclass(frozen=True)
class Witnessed:
    """What the session printed, and (process, event, arguments) of everything the hook saw."""

    told: dict[str, object]
    events: list[tuple[int, str, list[object]]]

    def of(self, *names: str) -> list[list[object]]:
        return [arguments for _, event, arguments in self.events if event in names]


def _namespace() -> list[str]:
    """The command that cuts what follows off the network, empty where there is none."""
    for command in (["unshare", "-n"], ["unshare", "-rn"]):
        try:
            if subprocess.run([*command, "true"], capture_output=True).returncode == 0:
                return command
        except FileNotFoundError:
            break
    return []


@pytest.fixture(scope="module")
def witnessed(tmp_path_factory: pytest.TempPathFactory) -> Witnessed:
    folder = tmp_path_factory.mktemp("offline")
    log, hooks = folder / "log", folder / "hooks"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(HOOK.format(log=str(log)))
    namespace = _namespace()
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("YOUJU_")}
    command = [sys.executable, "-c", SESSION, folder / "data", SAMPLES / "documents", str(free_port())]
    ended = subprocess.run(
        [*namespace, *command, "cut off" if namespace else "connected"],
        env=environment | {"PYTHONPATH": str(hooks)}, cwd=Path(__file__).parents[1], capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    events = [ast.literal_eval(line) for line in log.read_text().splitlines()]
    return Witnessed(json.loads(ended.stdout.splitlines()[-1]), events)


def test_everything_works_with_the_network_cut(witnessed: Witnessed) -> None:
    assert witnessed.told["outcome"] == "answered"


def test_the_witness_was_in_every_process(witnessed: Witnessed) -> None:
    begun = [" ".join(map(str, arguments)) for arguments in witnessed.of("begun")]

    for part in ("rag_service ingest", "rag_service ask", "rag_service serve", "-m ingest --until", "-m ingest.zygote"):
        assert any(part in command for command in begun), (part, begun)
    assert witnessed.of("socket.connect"), "the session's own calls to the service were not even seen"


def test_no_connection_but_loopback_is_attempted(witnessed: Witnessed) -> None:
    addresses = [arguments[1] for arguments in witnessed.of("socket.connect", "socket.sendto", "socket.sendmsg")]

    foreign = [address for address in addresses if isinstance(address, tuple) and not _is_loopback(address[0])]
    # The session itself tried twice at its end, to see whether somebody would notice.
    assert foreign == ([] if witnessed.told["unroutable"] is None else [("192.0.2.1", 53)] * 2)


def test_no_name_is_looked_up(witnessed: Witnessed) -> None:
    hosts = {a[0] for a in witnessed.of("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")}
    hosts |= {arguments[1] for arguments in witnessed.of("http.client.connect")}

    assert {host for host in hosts if host is not None and not _is_loopback(str(host))} == set()


def test_the_kernel_had_nothing_to_route(witnessed: Witnessed) -> None:
    if witnessed.told["unroutable"] is None:
        pytest.skip("needs a network namespace (root, or user namespaces)")

    assert witnessed.told["unroutable"] == 0
    # The counter does count those two.
    assert witnessed.told["counted"] == 2


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
