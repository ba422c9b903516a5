"""The embedding process: whatever becomes of it, the texts get their vectors, or whoever waits is told."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing

import pytest

from ingest import embedding
from ingest.embedding import EmbeddingProcess


@pytest.fixture
def process() -> Iterator[EmbeddingProcess]:
    with closing(EmbeddingProcess()) as started:
        started.embed(["It is loaded by now."])
        yield started


def pid_of(process: EmbeddingProcess) -> int:
    assert process._process is not None
    return process._process.pid


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_died_or_hangs_is_replaced_by_another(
    process: EmbeddingProcess, signal_number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "_MOST_SECONDS", 30.0)
    before = pid_of(process)
    os.kill(before, signal_number)

    assert process.embed(["泵的保修期", "The warranty"]).shape == (2, process.dimensions)
    assert pid_of(process) != before


def test_texts_over_which_every_process_hangs_are_given_up(
    process: EmbeddingProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "_MOST_SECONDS", 0.001)

    with pytest.raises(ChildProcessError):
        process.embed(["A text that takes longer than that."] * 200)
