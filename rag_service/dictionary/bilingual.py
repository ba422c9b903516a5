"""CC-CEDICT, both ways, in some ten megabytes of arrays. Data and its licence: see `NOTICE` beside it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag_service.text import TERMS_VERSION

DATA = "cedict.npz"
WORD_BYTES = 36
"""Longest word, in UTF-8: twelve characters."""
PHRASE_BYTES = 40
LONGEST_PHRASE = 4
"""Stems of a phrase, at most."""


class Bilingual:
    """Implements `ports.Translations`; made once, read by any thread."""

    def __init__(self) -> None:
        """Reads the data that the package brings along. Raises RuntimeError where it was made for other stems."""
        with resources.files("rag_service.dictionary").joinpath(DATA).open("rb") as file, np.load(file) as data:
            if int(data["terms_version"]) != TERMS_VERSION:
                raise RuntimeError(f"{DATA} has terms of another version: python -m rag_service.dictionary.compilation")
            self._words: NDArray[Any] = data["words"]
            self._phrases: NDArray[Any] = data["phrases"]
            self._starts: NDArray[np.uint32] = data["starts"]
            self._glosses: NDArray[np.uint32] = data["glosses"]
        # The other way round, senses that stand first in their entry first.
        rank = np.arange(len(self._glosses)) - np.repeat(self._starts[:-1], np.diff(self._starts))
        order = np.lexsort((rank, self._glosses))
        self._word_of = np.repeat(np.arange(len(self._words), dtype=np.uint32), np.diff(self._starts))[order]
        self._rank_of = rank[order].astype(np.uint16)
        self._phrase_starts = np.searchsorted(self._glosses[order], np.arange(len(self._phrases) + 1))

    def english(self, words: Sequence[str]) -> dict[str, list[tuple[str, ...]]]:
        """Those of the Chinese `words` (folded) that it has, each with its glosses as stems, in the entry's order."""
        found: dict[str, list[tuple[str, ...]]] = {}
        for word, at in _looked_up(self._words, words):
            glosses = self._glosses[self._starts[at] : self._starts[at + 1]]
            found[word] = [tuple(phrase.decode().split(" ")) for phrase in self._phrases[glosses].tolist()]
        return found

    def chinese(self, phrases: Sequence[str], most: int) -> dict[str, list[tuple[str, int]]]:
        """Those of the English `phrases` (stems with a space between them) that it has, each with at most `most` words
        and the place, from 0, where the phrase stands among the word's glosses; the lowest places first."""
        found: dict[str, list[tuple[str, int]]] = {}
        for phrase, at in _looked_up(self._phrases, phrases):
            which = slice(self._phrase_starts[at], min(self._phrase_starts[at + 1], self._phrase_starts[at] + most))
            words = (word.decode() for word in self._words[self._word_of[which]].tolist())
            found[phrase] = list(zip(words, self._rank_of[which].tolist(), strict=True))
        return found


def _looked_up(known: NDArray[Any], wanted: Sequence[str]) -> list[tuple[str, int]]:
    """(text, its place in `known`, sorted bytes) for those of `wanted` that are in it."""
    fitting = [(text, code) for text in dict.fromkeys(wanted) if len(code := text.encode()) <= known.dtype.itemsize]
    if not fitting:
        return []
    codes = np.array([code for _, code in fitting], dtype=known.dtype)
    places = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    return [
        (text, at) for (text, _), at, same in zip(fitting, places.tolist(), known[places] == codes, strict=True) if same
    ]
