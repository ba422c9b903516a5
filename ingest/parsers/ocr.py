"""Reading text off a picture, where the extra `[ocr]` is installed: RapidOCR with PP-OCRv6 on onnxruntime.

Nothing is downloaded: the models are those in RapidOCR's wheel, named by their paths. Nothing is sent: onnxruntime from
1.29 on keeps a store of telemetry in the home folder and a thread that uploads it, unless told not to before it is
imported. One thread does all the work, so that a process may load the engine and then be forked.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import os
import re
import statistics
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[np.uint8]

LEAST_SCORE = 0.6
"""A line the recogniser is less sure of is dropped, as a reader's eye passes over a stain."""
LEGIBLE_SCORE = 0.85
"""Below it a line is doubtful. Measured: lines of pages that a person can read score .93 and more, of blurred pages,
scribbles and scripts the model does not know (Hebrew, Greek, Arabic) .87 and less."""

_MODELS = {
    "Det.model_path": "PP-OCRv6_det_small.onnx",
    "Rec.model_path": "PP-OCRv6_rec_small.onnx",
    "Cls.model_path": "ch_ppocr_mobile_v2.0_cls_mobile.onnx",
}
_LONGEST_LOOKED_AT = 1280
"""Lines are looked for in a copy with sides no longer than this, and read at the full resolution."""
_LONGEST_READ = 6_000
_SHORTEST_READ = 640
_BORDER = 24
_SAMPLE = 5
_LONG = 3.0
"""A line's length in heights from which on it is no page number, and no spot in a photograph."""
_SPARSE = 0.4
"""Columns of text to a height of length: 2 to 3 where a line is read, hardly any where no letter of it is known."""
_MOST_DOUBTFUL = 1 / 3
"""Of a page's writing, by its length."""
_FEWEST_DOUBTFUL = 3
_INSET = 0.15
"""Of a box's height: what the detector adds to a line before and after it."""
_SIZE = 0.8
"""The size of type in heights of a box, give or take a fifth."""
_FEWEST_EMS = 4.0
_LOOSEST = 1.35


@dataclass(frozen=True, slots=True)
class OcrLine:
    """What stands on one line, or in one cell of it, of the page as a reader holds it: upright and straight.

    In pixels of the picture given (where that lay sideways, of the picture turned); from `top` to `bottom` is the size
    of the type.
    """

    text: str
    left: float
    top: float
    right: float
    bottom: float
    score: float
    """How sure the recogniser is, 0 to 1: the mean over the characters."""


class Unreadable(Exception):
    """There is writing on the page, much of which could not be read with confidence."""

    def __init__(self, doubtful: int) -> None:
        super().__init__(f"{doubtful} lines of writing could not be read with confidence")
        self.doubtful = doubtful


@functools.cache
def is_installed() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("rapidocr", "onnxruntime", "cv2"))


def is_loaded() -> bool:
    """Whether this process holds the engine, loaded here or before it was forked."""
    return load.cache_info().currsize > 0


@functools.cache
def load() -> Any:
    """The engine, a `rapidocr.RapidOCR`: half a second and 140 MB the first time."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    # Here, because the extra may be missing, and because most processes that parse never see a picture.
    import cv2  # noqa: PLC0415
    import rapidocr  # noqa: PLC0415

    cv2.setNumThreads(1)
    models = Path(rapidocr.__file__).parent / "models"
    engine: Any = rapidocr.RapidOCR(
        params={
            **{name: str(models / file) for name, file in _MODELS.items()},
            "Global.log_level": "critical",
            "Global.use_vertical_padding": False,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            # The arena saves a tenth of the time and costs a third more memory, as every line has its own width.
            "EngineConfig.onnxruntime.enable_cpu_mem_arena": False,
            "Det.limit_type": "max",
            "Det.limit_side_len": _LONGEST_LOOKED_AT,
            # One line at a time: a batch is padded to its longest, and measured slower on one thread even without.
            "Rec.rec_batch_num": 1,
        }
    )
    engine._load_det_model()
    engine._load_rec_model()
    return engine


def read_image(image: Image | Pixels) -> list[OcrLine]:
    """The lines of a page, row by row from the top, each row from the left; none where there is no writing.

    A page that lies on its side or upside down is turned; one that is askew is straightened. Arrays are RGB or grey.
    Raises Unreadable.
    """
    pixels, scale = _prepared(image)
    boxes, texts, scores = _read(pixels)
    if not _is_legible(boxes, texts, scores):
        return []
    lines = [
        _line(text, box, score, scale)
        for text, box, score in zip(texts, _straightened(boxes), scores, strict=True)
        if text and score >= LEAST_SCORE
    ]
    return [line for row in _rows(lines) for line in _joined(row)]


def _prepared(image: Image | Pixels) -> tuple[Pixels, float]:
    """Blue, green, red as the engine has it, neither too large nor too small, with a border; and the scale."""
    import cv2  # noqa: PLC0415

    if not isinstance(image, np.ndarray) and image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    pixels: Any = np.asarray(image, np.uint8)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, np.newaxis], 3, axis=2)
    pixels = pixels[:, :, 2::-1]
    longest = max(pixels.shape[:2])
    scale = min(1.0, _LONGEST_READ / longest) if longest > _SHORTEST_READ else min(2.0, _SHORTEST_READ / longest)
    if scale != 1.0:
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=way)
    # Writing that touches the edge is found only with something around it.
    pixels = cv2.copyMakeBorder(pixels, _BORDER, _BORDER, _BORDER, _BORDER, cv2.BORDER_REPLICATE)
    return pixels, scale


def _read(pixels: Pixels) -> tuple[NDArray[np.float64], list[str], list[float]]:
    """Boxes (lines × 4 corners × 2), texts and scores, of the page the right way up."""
    boxes, crops = _found(pixels)
    if _lies_sideways(boxes):
        pixels = np.ascontiguousarray(np.rot90(pixels))
        boxes, crops = _found(pixels)
    if _is_upside_down(crops):
        pixels = np.ascontiguousarray(np.rot90(pixels, 2))
        boxes, crops = _found(pixels)
    texts, scores = _recognised(crops)
    return boxes, texts, scores


def _found(pixels: Pixels) -> tuple[NDArray[np.float64], list[Pixels]]:
    engine = load()
    found = engine.text_det(pixels)
    if found.boxes is None:
        return np.empty((0, 4, 2)), []
    crops: list[Pixels] = engine.crop_text_regions(pixels, found.boxes)
    return np.asarray(found.boxes, np.float64), crops


def _recognised(crops: Sequence[Pixels]) -> tuple[list[str], list[float]]:
    if not crops:
        return [], []
    read = load().recognize_txt(list(crops))
    return [_punctuated(text) for text in read.txts], [float(score) for score in read.scores]


def _lies_sideways(boxes: NDArray[np.float64]) -> bool:
    """Whether most of the writing, by its length, runs up or down."""
    wide, high = _sides(boxes)
    upright, sideways = wide[wide >= high].sum(), high[high >= 1.5 * wide].sum()
    return bool(sideways > upright)


def _is_upside_down(crops: Sequence[Pixels]) -> bool:
    """Told by reading some long lines both ways: the engine's own classifier errs on one upright line in twenty."""
    sample = sorted(crops, key=lambda crop: crop.shape[1] / crop.shape[0], reverse=True)[:_SAMPLE]
    if not sample:
        return False
    upright = statistics.fmean(_recognised(sample)[1])
    if upright >= LEGIBLE_SCORE:
        return False
    turned = [np.ascontiguousarray(np.rot90(crop, 2)) for crop in sample]
    return statistics.fmean(_recognised(turned)[1]) > upright


def _sides(boxes: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lengths of the upper and the left side of each box."""
    return (
        np.linalg.norm(boxes[:, 1] - boxes[:, 0], axis=1),
        np.linalg.norm(boxes[:, 3] - boxes[:, 0], axis=1),
    )


def _is_legible(boxes: NDArray[np.float64], texts: Sequence[str], scores: Sequence[float]) -> bool:
    """Whether the writing was read; raises Unreadable where there is much that was not."""
    wide, high = _sides(boxes)
    lengths = wide / np.maximum(high, 1.0)
    columns = np.array([sum(1 + _is_wide(character) for character in text) for text in texts])
    doubtful = (np.array(scores) < LEGIBLE_SCORE) | (columns < _SPARSE * lengths)
    if lengths[doubtful].sum() <= _MOST_DOUBTFUL * lengths.sum():
        return len(texts) > 0
    long = int((doubtful & (lengths >= _LONG)).sum())
    if long >= _FEWEST_DOUBTFUL:
        raise Unreadable(long)
    return False


def _straightened(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The boxes turned by the angle at which most of the writing runs."""
    wide, high = _sides(boxes)
    long = wide > 3 * high
    if not long.any():
        return boxes
    runs = boxes[long, 1] - boxes[long, 0]
    angle = float(np.median(np.arctan2(runs[:, 1], runs[:, 0])))
    cosine, sine = math.cos(angle), math.sin(angle)
    centre = boxes.reshape(-1, 2).mean(axis=0)
    turned: NDArray[np.float64] = (boxes - centre) @ np.array([[cosine, -sine], [sine, cosine]]) + centre
    return turned


def _line(text: str, box: NDArray[np.float64], score: float, scale: float) -> OcrLine:
    (left, top), (right, bottom) = box.min(axis=0), box.max(axis=0)
    inset = _INSET * (bottom - top)
    left, right = left + inset, right - inset
    middle, size = (top + bottom) / 2, _type_size(text, right - left, _SIZE * (bottom - top))
    edges = (left, middle - size / 2, right, middle + size / 2)
    left, top, right, bottom = (float(edge - _BORDER) / scale for edge in edges)
    return OcrLine(text, left, top, right, bottom, score)


def _type_size(text: str, width: float, by_height: float) -> float:
    """By what its characters take up along the line, which varies less than the height at which a line is found."""
    ems = sum(map(_ems, text))
    by_width = width / max(ems, 1.0)
    is_set_tight = by_height / _LOOSEST < by_width < by_height * _LOOSEST
    return by_width if ems >= _FEWEST_EMS and is_set_tight else by_height


def _ems(character: str) -> float:
    """About how wide a character is, in sizes of its type."""
    if _is_wide(character):
        return 1.0
    if character in " .,:;'|!()[]-ijlftr1":
        return 0.32
    return 0.75 if character.isupper() or character in "mw@%" else 0.55


def _rows(lines: Sequence[OcrLine]) -> list[list[OcrLine]]:
    """Lines that stand on one height, from the top; each row from the left."""
    rows: list[list[OcrLine]] = []
    for line in sorted(lines, key=lambda line: line.top + line.bottom):
        if rows and _stands_beside(rows[-1][-1], line):
            rows[-1].append(line)
        else:
            rows.append([line])
    return [sorted(row, key=lambda line: line.left) for row in rows]


def _stands_beside(other: OcrLine, line: OcrLine) -> bool:
    overlap = min(other.bottom, line.bottom) - max(other.top, line.top)
    return overlap > 0.5 * min(other.bottom - other.top, line.bottom - line.top)


def _joined(row: Sequence[OcrLine]) -> list[OcrLine]:
    """A row with the parts of one line, which stand no further apart than words do, as one."""
    joined: list[OcrLine] = []
    for line in row:
        before = joined[-1] if joined else None
        height = line.bottom - line.top
        if before is not None and -0.5 * height < line.left - before.right < 0.6 * height:
            joined[-1] = _one(before, line)
        else:
            joined.append(line)
    return joined


def _one(before: OcrLine, line: OcrLine) -> OcrLine:
    space = "" if _is_wide(before.text[-1]) and _is_wide(line.text[0]) else " "
    return replace(
        before,
        text=f"{before.text}{space}{line.text}",
        top=min(before.top, line.top),
        right=max(before.right, line.right),
        bottom=max(before.bottom, line.bottom),
        score=min(before.score, line.score),
    )


_FULL_WIDTH = str.maketrans(",;:!?()", "，；：！？（）")
_HALF_WIDTH_MARK = re.compile(r"[,;:!?()]")
_SPACE_BETWEEN_WIDE = re.compile(
    r"(?<=[\u3000-\u303f\u3400-\u9fff\uff00-\uff60]) +(?=[\u3000-\u303f\u3400-\u9fff\uff00-\uff60])"
)


def _punctuated(text: str) -> str:
    """Marks between Chinese characters full width, as they are written there, and no spaces between these."""
    text = _SPACE_BETWEEN_WIDE.sub("", text.strip())
    return _HALF_WIDTH_MARK.sub(lambda mark: _mark(text, mark.start()), text)


def _mark(text: str, at: int) -> str:
    around = [text[place] for place in (at - 1, at + 1) if 0 <= place < len(text)]
    is_within = bool(around) and all(_is_wide(character) for character in around)
    return text[at].translate(_FULL_WIDTH) if is_within else text[at]


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in ("W", "F")
