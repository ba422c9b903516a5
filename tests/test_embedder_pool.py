"""Embedders by name: opened once, kept while used, the least used closed."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest

from rag_service.embedder_pool import QuestionEmbedders
from rag_service.errors import EmbedderUnavailable, InvalidConfiguration
from rag_service.ports import Vector, Vectors


class Opened:
    def __init__(self, name: str) -> None:
        self.name, self.dimensions, self.closed = name, len(name), 0

    def embed(self, texts: Sequence[str]) -> Vectors:
        assert not self.closed
        return np.zeros((len(texts), self.dimensions), np.float32)

    def embed_query(self, text: str) -> Vector:
        return self.embed([text])[0]

    def close(self) -> None:
        self.closed += 1


class Pool:
    def __init__(self, most: int = 2, seconds: float = 0.0) -> None:
        self.opened: list[Opened] = []
        self.kept = Opened("kept")
        self._seconds = seconds
        self.embedders = QuestionEmbedders(self._open, {"kept": self.kept}, most)

    def _open(self, name: str) -> Opened:
        time.sleep(self._seconds)
        if name == "nothing":
            raise InvalidConfiguration("there is none")
        self.opened.append(Opened(name))
        return self.opened[-1]

    def names(self) -> list[str]:
        """Of those opened, the ones that are still open."""
        return [one.name for one in self.opened if not one.closed]


def test_each_is_opened_once_whoever_wants_it_at_once() -> None:
    pool = Pool(seconds=0.05)
    threads = [threading.Thread(target=pool.embedders.embed, args=(name, ["text"])) for name in "abab" * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(pool.names()) == ["a", "b"]
    assert len(pool.opened) == 2


def test_the_one_not_used_for_longest_is_closed() -> None:
    pool = Pool(most=2)
    for name in ("a", "b", "a", "c"):
        pool.embedders.embed(name, ["text"])
    assert pool.names() == ["a", "c"]
    pool.embedders.embed("b", ["text"])
    assert pool.names() == ["c", "b"]


def test_one_at_work_is_not_closed_before_it_is_done() -> None:
    pool = Pool(most=1)
    with pool.embedders.using("a") as working:
        pool.embedders.embed("b", ["text"])
        pool.embedders.embed("c", ["text"])
        assert working.embed(["text"]).shape == (1, 1)
        with pool.embedders.using("a") as again:
            assert again is working
    assert pool.names() == ["a"]


def test_opening_one_makes_nobody_wait_who_wants_another() -> None:
    pool = Pool(seconds=0.5)
    slow = threading.Thread(target=pool.embedders.embed, args=("slow", ["text"]))
    slow.start()
    begun = time.monotonic()
    pool.embedders.embed("kept", ["text"])
    assert time.monotonic() - begun < 0.4
    slow.join()


def test_one_that_cannot_be_opened_is_tried_again_and_takes_no_place() -> None:
    pool = Pool(most=1)
    pool.embedders.embed("a", ["text"])
    for _ in range(2):
        with pytest.raises(InvalidConfiguration):
            pool.embedders.embed("nothing", ["text"])
    assert pool.names() == ["a"]


def test_a_question_to_one_that_is_not_here_is_told_as_such() -> None:
    with pytest.raises(EmbedderUnavailable, match="nothing cannot be opened here: there is none"):
        Pool().embedders.embed_query("nothing", "question")


def test_closing_closes_all_of_them_once() -> None:
    pool = Pool()
    pool.embedders.embed("a", ["text"])
    pool.embedders.close()
    assert (pool.kept.closed, [one.closed for one in pool.opened]) == (1, [1])
