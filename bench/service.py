"""A real service in its own process, and a client that costs next to nothing, so that timings are the service's."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Client:
    """One kept-alive connection; one thread at a time."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=120)

    def raw(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        return response.status, response.read()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The decoded answer; anything but a 2xx ends the bench."""
        encoded = None if body is None else json.dumps(body).encode()
        status, content = self.raw(method, path, encoded)
        if not 200 <= status < 300:
            raise SystemExit(f"{method} {path} answered {status}: {content[:500]!r}")
        return json.loads(content) if content else None

    def upload(self, kb: str, files: dict[str, str] | dict[str, bytes]) -> str:
        """Files in one multipart request; returns the job's id. Anything not taken ends the bench."""
        status, content = self.offer(kb, files)
        if status != 202 or any(item["status"] != "queued" for item in content["items"]):
            raise SystemExit(f"an upload answered {status}: {content}")
        return str(content["job_id"])

    def offer(self, kb: str, files: dict[str, str] | dict[str, bytes]) -> tuple[int, Any]:
        """Files in one multipart request; status and answer, whatever they are."""
        boundary = "youju-bench-4bd1c2"
        head = '--{}\r\nContent-Disposition: form-data; name="files"; filename="{}"\r\n\r\n'
        parts = [
            head.format(boundary, name).encode() + (file.encode() if isinstance(file, str) else file) + b"\r\n"
            for name, file in files.items()
        ]
        body = b"".join(parts) + f"--{boundary}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        self._connection.request("POST", f"/v1/knowledge-bases/{kb}/documents", body, headers)
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())


class Running:
    def __init__(self, process: subprocess.Popen[bytes], port: int, seconds_to_ready: float) -> None:
        self.process = process
        self.port = port
        self.seconds_to_ready = seconds_to_ready

    def client(self) -> Client:
        return Client(self.port)

    def resident_bytes(self) -> int:
        """Of the service process alone, its workers not counted."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) * 1024


@contextmanager
def serving(data: Path, workers: int, **settings: object) -> Iterator[Running]:
    """`youju serve --no-auth` on a free loopback port with these settings, once it says that it is ready."""
    port = free_port()
    command = [sys.executable, "-m", "rag_service", "serve", "--data", str(data), "--port", str(port)]
    command += ["--no-auth", "--workers", str(workers)]
    begun = time.perf_counter()
    environment = {f"YOUJU_{name.upper()}": str(value) for name, value in settings.items()}
    process = subprocess.Popen(command, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "", **environment})
    try:
        _wait_until_ready(process, port)
        yield Running(process, port, time.perf_counter() - begun)
    finally:
        process.terminate()
        process.wait(60)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"the service ended with {process.returncode}")
        try:
            if Client(port).raw("GET", "/readyz")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.02)
    raise SystemExit("the service did not become ready")


def wait_until_finished(client: Client, job_ids: list[str], pause: float = 0.25) -> None:
    for job_id in job_ids:
        while client.call("GET", f"/v1/jobs/{job_id}")["finished_at"] is None:
            time.sleep(pause)
