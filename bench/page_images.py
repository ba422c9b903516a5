"""Page images as scanners make them: text set by Pillow, then turned, blurred, speckled and compressed."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing
from PIL import Image, ImageDraw, ImageFilter, ImageFont

_FOLDERS = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), Path.home() / ".fonts")
_FONTS = ("NotoSerifCJK-Regular.ttc", "NotoSansCJK-Regular.ttc")
_FACES = {"zh": 2, "zh-Hant": 3, "en": 2}
"""Where a language's glyphs are in those collections."""
_A4_INCHES = (8.27, 11.69)
_POINT_SIZE, _LINE_SPACING, _MARGIN_INCHES = 10.5, 1.6, 0.9
_UNIT = re.compile(r"[A-Za-z0-9\u00c0-\u024f.,;:!?'\"()%$/&@#*+=_<>\[\]–-]+|.", re.DOTALL)
_NOT_FIRST = set("。，、；：！？）」』”’》】…,.;:!?)")


@dataclass(frozen=True, slots=True)
class Wear:
    """What became of a page between the printer and the file."""

    dpi: int = 200
    degrees: float = 0.0
    noise: float = 0.0
    """Standard deviation of the grain, in grey levels of 255."""
    speckles: float = 0.0
    """Share of pixels that turned black or white."""
    blur: float = 0.0
    """Radius, in pixels."""
    jpeg: int | None = None
    """Quality."""
    paper: int = 255
    ink: int = 0


def font_files() -> list[Path]:
    """The Noto CJK collections on this machine; none where they are not installed."""
    return [path for name in _FONTS for folder in _FOLDERS for path in folder.rglob(name)]


def page(paragraphs: list[str], language: str, font: Path, wear: Wear, columns: int = 1) -> tuple[Image.Image, str]:
    """An A4 page and what of the text it took, whole paragraphs joined by newlines."""
    size = round(_POINT_SIZE / 72 * wear.dpi)
    # The simple layout: the other one gives up on some texts.
    face = ImageFont.truetype(str(font), size, index=_FACES[language], layout_engine=ImageFont.Layout.BASIC)
    width, height = (round(inches * wear.dpi) for inches in _A4_INCHES)
    image = Image.new("L", (width, height), wear.paper)
    draw = ImageDraw.Draw(image)
    margin, step, gutter = round(_MARGIN_INCHES * wear.dpi), round(size * _LINE_SPACING), 2 * size
    measure = (width - 2 * margin - (columns - 1) * gutter) // columns
    taken: list[str] = []
    rest = list(paragraphs)
    for column in range(columns):
        left, top = margin + column * (measure + gutter), margin
        while rest:
            lines = list(_wrapped(rest[0], face, measure, indent=2 * size))
            if top + len(lines) * step > height - margin:
                break
            for number, line in enumerate(lines):
                draw.text((left + (2 * size if number == 0 else 0), top), line, fill=wear.ink, font=face)
                top += step
            top += step // 4
            taken.append(rest.pop(0))
    return worn(image, wear), "\n".join(taken)


def worn(image: Image.Image, wear: Wear, seed: int = 7) -> Image.Image:
    """The same picture after scanning."""
    if wear.degrees:
        image = image.rotate(wear.degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=wear.paper)
    if wear.blur:
        image = image.filter(ImageFilter.GaussianBlur(wear.blur))
    random = np.random.default_rng(seed)
    pixels: np.typing.NDArray[np.float64] = np.asarray(image, np.float64)
    if wear.noise:
        pixels = pixels + random.normal(0, wear.noise, pixels.shape)
    if wear.speckles:
        hit = random.random(pixels.shape)
        pixels = np.where(hit < wear.speckles / 2, 0, np.where(hit > 1 - wear.speckles / 2, 255, pixels))
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    if wear.jpeg is not None:
        packed = io.BytesIO()
        image.save(packed, "JPEG", quality=wear.jpeg)
        image = Image.open(packed)
    return image


def _wrapped(text: str, face: ImageFont.FreeTypeFont, measure: int, indent: int) -> Iterator[str]:
    """Lines no wider than `measure`, broken between words and between Chinese characters."""
    line, room = "", measure - indent
    for unit in _UNIT.findall(text):
        fits = face.getlength((line + unit).rstrip()) <= room or unit in _NOT_FIRST
        if line and not fits:
            yield line.rstrip()
            line, room = "", measure
        line += unit if line or unit != " " else ""
    if line.strip():
        yield line.rstrip()
