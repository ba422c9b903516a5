"""Characters read right off page images, and the time a page takes in the sandbox."""

from __future__ import annotations

import itertools
import re
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench import evalset
from bench.page_images import Wear, font_files, page
from bench.results import Result
from ingest.parsers import ocr
from ingest.sandbox import Sandbox
from rag_service import media_types

_TEXTS = (("xquad", "zh"), ("xquad", "en"), ("drcd", "zh-Hant"))
_PAGES = 2
"""Of each language and wear, one in a serif, one in a sans-serif type."""
_TARGET = 0.99
_TIMED = 6

_SCAN = Wear(noise=10, jpeg=75)
_WEARS: dict[str, tuple[Wear, int, bool]] = {
    "clean, 200 dpi": (Wear(), 1, True),
    "noise, blur, specks, grey paper, JPEG, 200 dpi": (
        Wear(noise=20, speckles=0.01, blur=0.6, jpeg=60, paper=235, ink=40), 1, True
    ),
    "askew by 1°, 200 dpi": (replace(_SCAN, degrees=1), 1, True),
    "askew by 3°, 200 dpi": (replace(_SCAN, degrees=-3), 1, True),
    "askew by 5°, 200 dpi": (replace(_SCAN, degrees=5), 1, False),
    "two columns, 200 dpi": (_SCAN, 2, False),
    "upside down, 200 dpi": (replace(_SCAN, degrees=180), 1, False),
    "150 dpi": (replace(_SCAN, dpi=150), 1, False),
    "100 dpi": (replace(_SCAN, dpi=100), 1, False),
    "300 dpi": (replace(_SCAN, dpi=300), 1, False),
}  # fmt: skip
"""Wear, columns, and whether the target holds."""

# What a reader of the picture cannot tell, and the search folds: widths of marks, dashes of several lengths.
_FOLDED = str.maketrans("，；：！？（）“”‘’–—−‐", ",;:!?()\"\"''----")
_WIDE = r"[\u2e80-\u9fff\uf900-\ufaff\uff00-\uff60]"
_SPACE_AT_WIDE = re.compile(rf" (?={_WIDE})|(?<={_WIDE}) ")


@dataclass(frozen=True, slots=True)
class _Reading:
    errors: int
    characters: int
    least_score: float


def run(evaluation: Path, scratch: Path) -> list[Result]:
    if not font_files() or not ocr.is_installed():
        return [Result("OCR", "–", "not measured: needs youju[ocr] and the Noto CJK fonts", None)]
    results = [_accuracy(evaluation, name) for name in _WEARS]
    return [*results, _pace(evaluation, scratch)]


def _accuracy(evaluation: Path, name: str) -> Result:
    wear, columns, has_target = _WEARS[name]
    shares, readings = [], []
    for dataset, language in _TEXTS:
        of_language = [
            _reading(texts, language, font, wear, columns)
            for texts, font in zip(_batches(evaluation, dataset, language), itertools.cycle(font_files()))
        ]
        readings += of_language
        share = 1 - sum(r.errors for r in of_language) / sum(r.characters for r in of_language)
        shares.append(f"{language} {share:.2%}")
    total = 1 - sum(r.errors for r in readings) / sum(r.characters for r in readings)
    least = min(reading.least_score for reading in readings)
    return Result(
        f"characters right by OCR, {len(readings)} pages: {name}",
        f"≥ {_TARGET:.0%}" if has_target else "–",
        f"{total:.2%} ({', '.join(shares)}; least sure line {least:.2f})",
        total >= _TARGET if has_target else None,
    )


def _batches(evaluation: Path, dataset: str, language: str) -> Iterator[list[str]]:
    """Paragraphs enough for a page, another page's each time."""
    texts = [row["text"] for row in evalset.rows(evaluation, "passages", dataset, language)]
    for number in range(_PAGES):
        yield texts[number * 20 : number * 20 + 20]


def _reading(texts: list[str], language: str, font: Path, wear: Wear, columns: int) -> _Reading:
    image, text = page(texts, language, font, wear, columns)
    lines = ocr.read_image(image)
    if columns > 1:
        # Rows of two columns, as the layout of a page puts them in order only later.
        middle = image.width / 2
        lines = sorted(lines, key=lambda line: (line.left > middle - line.bottom + line.top, line.top))
    expected, read = _folded(text), _folded("\n".join(line.text for line in lines))
    return _Reading(distance(expected, read), len(expected), min(line.score for line in lines))


def _folded(text: str) -> str:
    one_spaced = " ".join(text.replace("\ufeff", "").split()).translate(_FOLDED)
    return _SPACE_AT_WIDE.sub("", one_spaced).replace("----", "--").replace("--", "-")


def distance(first: str, second: str) -> int:
    """Levenshtein's, a row at a time."""
    if not first or not second:
        return len(first) + len(second)
    codes = np.array([ord(character) for character in second])
    places = np.arange(len(second) + 1)
    row = places.copy()
    for number, character in enumerate(first, start=1):
        stepped = np.minimum(row[1:] + 1, row[:-1] + (codes != ord(character)))
        stepped = np.concatenate(([number], stepped))
        row = np.minimum.accumulate(stepped - places) + places
    return int(row[-1])


def _pace(evaluation: Path, scratch: Path) -> Result:
    """Seconds from a file to its text, in a sandbox that has read one before."""
    paths = list(_files(evaluation, scratch))
    with Sandbox() as sandbox:
        first = _seconds(sandbox, paths[0])
        sandbox.parse(paths[0], media_types.PNG)
        times = [_seconds(sandbox, path) for path in paths]
    return Result(
        f"seconds for an A4 page at 200 dpi by OCR in the sandbox, one at a time, {len(times)} pages",
        "–",
        f"median {statistics.median(times):.1f} s, longest {max(times):.1f} s; the first of a worker {first:.1f} s",
        None,
    )


def _files(evaluation: Path, scratch: Path) -> Iterator[Path]:
    batches: Sequence[Iterator[list[str]]] = [_batches(evaluation, *which) for which in _TEXTS]
    for number in range(_TIMED):
        dataset = number % len(_TEXTS)
        image, _ = page(next(batches[dataset]), _TEXTS[dataset][1], font_files()[0], replace(_SCAN, degrees=1))
        path = scratch / f"page-{number}.png"
        image.save(path)
        yield path


def _seconds(sandbox: Sandbox, path: Path) -> float:
    begun = time.perf_counter()
    sandbox.parse(path, media_types.PNG)
    return time.perf_counter() - begun
