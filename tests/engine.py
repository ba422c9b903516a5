"""A completions server on raw sockets: healthy by default, and as faulty as a test writes it.

`Engine(answer)` streams `answer(asked)` in pieces; `engine.plays(script, …)` scripts the next questions one by one, the
last script for all that follow. A script gets the `Wire` and writes what it likes onto it, byte by byte if need be.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Asked:
    """One request for a completion, as it came."""

    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.raw)
        return parsed


@dataclass
class Wire:
    """The server's end of one question."""

    asked: Asked
    connection: socket.socket
    left: threading.Event = field(default_factory=threading.Event)
    """Set once the server has noticed that the client closed the connection while it still had something to say."""

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def head(self, status: int = 200, kind: str = "text/event-stream", **headers: str) -> None:
        """No length is given: the end of the body is the end of the connection."""
        lines = [f"HTTP/1.1 {status} Whatever", f"content-type: {kind}", "connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join([*lines, "", ""]).encode())

    def event(self, payload: object) -> None:
        self.send(event(payload))

    def piece(self, text: str, finish: str | None = None) -> None:
        self.event(chunk(text, finish))

    def reset(self) -> None:
        """As a crashed server's kernel would: RST instead of an orderly end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def hang(self) -> None:
        """Says nothing more; ends when the client has closed the connection."""
        with contextlib.suppress(ConnectionError):
            while self.connection.recv(4096):
                pass
        self.left.set()


Script = Callable[[Wire], object]


def chunk(text: str, finish: str | None = None, **members: object) -> dict[str, object]:
    return {"object": "text_completion", "choices": [{"index": 0, "text": text, "finish_reason": finish}], **members}


def event(payload: object) -> bytes:
    return f"data: {json.dumps(payload, ensure_ascii=False)}\n\n".encode()


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, object]:
    return {"choices": [], "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}}


DONE = b"data: [DONE]\n\n"


def says(*pieces: str, finish: str = "stop") -> Script:
    """A healthy reply, as vLLM streams it."""

    def script(wire: Wire) -> None:
        wire.head()
        for piece in pieces:
            wire.piece(piece)
        wire.piece("", finish)
        wire.event(usage(len(wire.asked.body["prompt"]), len(pieces)))
        wire.send(DONE)

    return script


def fails(status: int, body: str = '{"error": {"message": "no"}}', **headers: str) -> Script:
    def script(wire: Wire) -> None:
        wire.head(status, "application/json", **headers)
        wire.send(body.encode())

    return script


def hangs(wire: Wire) -> None:
    wire.hang()


def resets(wire: Wire) -> None:
    wire.reset()


class Engine:
    """Listens from the start; `close` ends every connection. Each question is one thread."""

    def __init__(self, answer: Callable[[Asked], str] = lambda asked: "Fine [1].") -> None:
        self._answer = answer
        self._scripts: list[Script] = []
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.wires: list[Wire] = []
        self.checks = 0
        self.models_status = 200
        self._spawn(self._accept)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}/v1"

    @property
    def asked(self) -> list[Asked]:
        return [wire.asked for wire in self.wires]

    @property
    def open(self) -> int:
        """Connections that the server still holds."""
        return len(self._connections)

    def plays(self, *scripts: Script) -> None:
        with self._lock:
            self._scripts = list(scripts)

    def wire(self, number: int, seconds: float = 10.0) -> Wire:
        """The question of that number, from 0, once it has come."""
        deadline = time.monotonic() + seconds
        while len(self.wires) <= number:
            assert time.monotonic() < deadline, f"question {number} never came"
            time.sleep(0.005)
        return self.wires[number]

    def close(self) -> None:
        # A thread blocked in accept does not notice a close, but does notice this.
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(10)

    def _spawn(self, run: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True, name="engine")
        self._threads = [thread for thread in self._threads if thread.is_alive()] + [thread]
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self._connections.add(connection)
                self._spawn(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            method, asked = _read(connection)
            wire = Wire(asked, connection)
            if method == "GET":
                self.checks += 1
                wire.head(self.models_status, "application/json")
                wire.send(b'{"data": []}')
            else:
                self._next(wire)(wire)
        except (ConnectionError, ValueError):
            # The client left, or never asked anything.
            pass
        finally:
            connection.close()
            with self._lock:
                self._connections.discard(connection)

    def _next(self, wire: Wire) -> Script:
        with self._lock:
            self.wires.append(wire)
            if not self._scripts:
                return says(*_pieces(self._answer(wire.asked)))
            return self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]


@contextlib.contextmanager
def running_engine(answer: Callable[[Asked], str] = lambda asked: "Fine [1].") -> Iterator[Engine]:
    engine = Engine(answer)
    try:
        yield engine
    finally:
        engine.close()


def _pieces(text: str) -> list[str]:
    return [text[at : at + 3] for at in range(0, len(text), 3)]


def _read(connection: socket.socket) -> tuple[str, Asked]:
    with connection.makefile("rb") as reader:
        method, path, _ = reader.readline().decode().split(" ", 2)
        headers: dict[str, str] = {}
        while (line := reader.readline().decode().strip()) != "":
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return method, Asked(path, headers, reader.read(int(headers.get("content-length", 0))))
