"""The embedder in a process of its own: `python -m ingest.embedding`, texts in, vectors out, over its standard streams.

Parsing, chunking and publishing hold the interpreter lock just when the forward pass lets go of it and soon wants it
back. In one process the three threads of the worker took 17 ms for a text that the embedder alone does in 9
(2026-11-23, two cores); apart, the embedder runs at its own rate.

An embedder that is a server's is no work for this machine: it is asked by the worker itself, without such a process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from rag_service.errors import (
    EmbedderTimeout,
    EmbedderUnavailable,
    EmbeddingFailed,
    InvalidConfiguration,
    Overloaded,
    YoujuError,
)
from rag_service.inference.in_process import dimensions_known, open_in_process
from rag_service.inference.use_multilingual import UseMultilingual
from rag_service.ports import Bounded, Embedder, Vectors

_LENGTH_BYTES = 8
_MOST_SECONDS = 600.0
"""For one answer, the loading of the model included: a thousand times what it takes. More is a hang."""
_ERRORS: dict[str, type[YoujuError]] = {
    kind.code: kind
    for kind in (InvalidConfiguration, EmbedderUnavailable, EmbedderTimeout, EmbeddingFailed, Overloaded)
}
"""What an embedder raises, by code: it is raised again on this side."""


@dataclass(frozen=True, slots=True)
class _Model:
    """What the process says of its model."""

    dimensions: int
    most_tokens: int | None


@dataclass(frozen=True, slots=True)
class _Answer:
    """`error` is one of `_ERRORS` with its members; `model` is None while it could not be opened."""

    model: _Model | None
    error: dict[str, Any] | None
    rows: bytes


class EmbeddingProcess:
    """Implements `ports.TextEmbedder`; starts its process with the first texts, and anew should that have died.

    For an embedder whose dimensions only the model knows, asking for them starts it too.
    """

    def __init__(self, name: str = UseMultilingual.name, models: Path = Path("models")) -> None:
        self.name = name
        self._models = models
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._model = _Model(known, None) if (known := dimensions_known(name)) else None

    @property
    def dimensions(self) -> int:
        """Raises as `embed` does."""
        return self._known().dimensions

    @property
    def most_tokens(self) -> int | None:
        """See `ports.Bounded`. Raises as `embed` does."""
        return self._known().most_tokens

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Raises what the embedder raises, and ChildProcessError when the process dies, or hangs and is ended, twice
        over the same texts."""
        content = self._asked(json.dumps(list(texts)).encode())
        rows: Vectors = np.frombuffer(content, dtype="<f4").reshape(len(texts), self.dimensions)
        return rows

    def close(self) -> None:
        with self._lock:
            self._stop()

    def _known(self) -> _Model:
        if self._model is None:
            self._asked(b"[]")
        assert self._model is not None
        return self._model

    def _asked(self, request: bytes) -> bytes:
        with self._lock:
            for _ in range(2):
                answer = self._answer(request)
                if answer is not None:
                    return self._rows_in(answer)
        raise ChildProcessError("the embedding process died twice over the same texts")

    def _rows_in(self, answer: _Answer) -> bytes:
        if answer.error is not None:
            raise _ERRORS[answer.error["code"]](answer.error["detail"], **answer.error["data"])
        if self._model not in (None, answer.model):
            raise EmbeddingFailed(f"{self.name} is another model than it was before", reason="dimensions")
        self._model = answer.model
        return answer.rows

    def _answer(self, request: bytes) -> _Answer | None:
        """None when the process died before the answer was whole."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Timer(_MOST_SECONDS, process.kill)
        late.start()
        try:
            _write(process.stdin, request)
            head, rows = json.loads(_read(process.stdout)), _read(process.stdout)
        except (BrokenPipeError, EOFError):
            self._stop()
            return None
        finally:
            late.cancel()
        return _Answer(_Model(**head["model"]) if head["model"] else None, head["error"], rows)

    def _start(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(
            # -P: nothing is imported from whatever folder the command was given in.
            [sys.executable, "-P", "-m", "ingest.embedding", self.name, str(self._models)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        return self._process

    def _stop(self) -> None:
        """It ends with its standard input, as it does when this process is gone."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.communicate()


def serve(requests: BinaryIO, answers: BinaryIO, open_model: Callable[[], Embedder]) -> None:
    """Until `requests` ends: a JSON list of texts in; what is known of the model, or its error, and float32 rows out.

    A model that cannot be opened is tried again with the next request.
    """
    opened = None
    while (request := _read_or_end(requests)) is not None:
        rows, error = b"", None
        try:
            opened = opened or open_model()
            rows = np.ascontiguousarray(opened.embed(json.loads(request)), dtype="<f4").tobytes()
        except tuple(_ERRORS.values()) as raised:
            error = {"code": raised.code, "detail": raised.detail, "data": raised.data}
        model = asdict(_model_of(opened)) if opened is not None else None
        _write(answers, json.dumps({"model": model, "error": error}).encode())
        _write(answers, rows)


def _model_of(embedder: Embedder) -> _Model:
    return _Model(embedder.dimensions, embedder.most_tokens if isinstance(embedder, Bounded) else None)


def _write(to: BinaryIO | IO[bytes], content: bytes) -> None:
    to.write(len(content).to_bytes(_LENGTH_BYTES, "big") + content)
    to.flush()


def _read(source: BinaryIO | IO[bytes]) -> bytes:
    """Raises EOFError where it ends before it is whole."""
    content = _read_or_end(source)
    if content is None:
        raise EOFError
    return content


def _read_or_end(source: BinaryIO | IO[bytes]) -> bytes | None:
    header = source.read(_LENGTH_BYTES)
    if not header:
        return None
    length = int.from_bytes(header, "big")
    content = source.read(length)
    if len(header) < _LENGTH_BYTES or len(content) < length:
        raise EOFError
    return content


def main(name: str, models: str) -> None:
    # Its own group: a signal meant for the worker's terminal lets it finish what is under way.
    os.setpgid(0, 0)
    # Libraries print as they please: what they say belongs in the log, not among the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin.buffer, answers, partial(open_in_process, name, Path(models)))


if __name__ == "__main__":
    main(*sys.argv[1:])
