"""The embedder in a process of its own: `python -m ingest.embedding`, texts in, vectors out, over its standard streams.

Parsing, chunking and publishing hold the interpreter lock just when the forward pass lets go of it and soon wants it
back. In one process the three threads of the worker took 17 ms for a text that the embedder alone does in 9
(2026-11-23, two cores); apart, the embedder runs at its own rate.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np

from rag_service.inference.use_multilingual import UseMultilingual
from rag_service.ports import Vectors

_LENGTH_BYTES = 8
_MOST_SECONDS = 600.0
"""For one answer, the loading of the model included: a thousand times what it takes. More is a hang."""


class EmbeddingProcess:
    """Implements `ports.Embedder`; starts its process with the first texts, and anew should that have died."""

    name = UseMultilingual.name
    dimensions = UseMultilingual.dimensions

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Raises ChildProcessError when the process dies, or hangs and is ended, twice over the same texts."""
        request = json.dumps(list(texts)).encode()
        with self._lock:
            for _ in range(2):
                answer = self._ask(request, len(texts) * self.dimensions * 4)
                if answer is not None:
                    return np.frombuffer(answer, dtype="<f4").reshape(len(texts), self.dimensions)
        raise ChildProcessError("the embedding process died twice over the same texts")

    def close(self) -> None:
        with self._lock:
            self._stop()

    def _ask(self, request: bytes, answer_bytes: int) -> bytes | None:
        """The answer, or None when the process died before it was whole."""
        if self._process is None:
            self._process = subprocess.Popen(
                # -P: nothing is imported from whatever folder the command was given in.
                [sys.executable, "-P", "-m", "ingest.embedding"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Timer(_MOST_SECONDS, process.kill)
        late.start()
        try:
            process.stdin.write(len(request).to_bytes(_LENGTH_BYTES, "big") + request)
            process.stdin.flush()
            answer = process.stdout.read(answer_bytes)
        except BrokenPipeError:
            answer = b""
        finally:
            late.cancel()
        if len(answer) == answer_bytes:
            return answer
        self._stop()
        return None

    def _stop(self) -> None:
        """It ends with its standard input, as it does when this process is gone."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.communicate()


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Until `requests` ends: 8 bytes of length and that many of JSON in, float32 rows out."""
    model = UseMultilingual()
    while header := requests.read(_LENGTH_BYTES):
        texts = json.loads(requests.read(int.from_bytes(header, "big")))
        answers.write(np.ascontiguousarray(model.embed(texts), dtype="<f4").tobytes())
        answers.flush()


def main() -> None:
    # Its own group: a signal meant for the worker's terminal lets it finish what is under way.
    os.setpgid(0, 0)
    serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
