"""Pictures of pages: decoded by Pillow, read by OCR, and laid out like any page of a PDF."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import (
    BmpImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from ingest.parsers import ocr, pdf, pdf_scans
from ingest.parsers.canonical import CanonicalText
from rag_service import media_types
from rag_service.errors import ParseFailed
from rag_service.types import ParsedDocument

# Imported by name, as Pillow would load all its plugins to find one of these, in every child.
_FORMATS = tuple(
    plugin.format
    for plugin in (
        PngImagePlugin.PngImageFile,
        JpegImagePlugin.JpegImageFile,
        TiffImagePlugin.TiffImageFile,
        BmpImagePlugin.BmpImageFile,
        WebPImagePlugin.WebPImageFile,
    )
)
_DAMAGE = (
    OSError, EOFError, SyntaxError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, struct.error
)  # fmt: skip
"""What Pillow raises while it reads a damaged file: its plugins check little before they compute."""
_LONGEST_SIDE = 6_000
"""Pixels: A4 at 500 dpi. Larger pictures are halved until they fit, which leaves letters larger than OCR needs."""
_BRIGHT = 160
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each orientation a camera may note (Exif 2.32, 4.6.4)."""


class ImageParser:
    """Each picture of a TIFF file is a page; of an animation only the first counts."""

    name = "image/1"
    media_types = (media_types.PNG, media_types.JPEG, media_types.TIFF, media_types.BMP, media_types.WEBP)
    suffixes = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")

    def __init__(self, reader: pdf_scans.Reader | None = None) -> None:
        """`reader` reads the lines of a picture; without one, every picture is refused."""
        self._reader = reader

    def parse(self, data: bytes) -> ParsedDocument:
        if not data.strip():
            raise ParseFailed("empty", "the file is empty")
        if self._reader is None:
            detail = "reading pictures needs OCR: install youju[ocr], and leave the setting `ocr` at auto"
            raise ParseFailed("no-text", detail, needs="ocr")
        pages = [_read(image, number, self._reader) for number, image in enumerate(_pictures(data), start=1)]
        canonical = CanonicalText()
        pdf.compose(canonical, pages, {})
        return canonical.document(self.name, pages=len(pages), otherwise="no-text")


def _read(image: Image.Image, number: int, reader: pdf_scans.Reader) -> pdf.Page:
    """One page. Raises ParseFailed where there is writing that cannot be read: a document is not shortened."""
    try:
        found = reader(image)
    except ocr.Unreadable as error:
        raise ParseFailed("no-text", f"page {number}: {error}", page=number) from error
    lines = pdf_scans.lines(found)
    return pdf.scanned_page(lines, number, max((line.bottom for line in lines), default=0.0))


def _pictures(data: bytes) -> Iterator[Image.Image]:
    """The pages, grey or RGB, the right way up as far as the file says, and no larger than OCR has use for.

    Raises ParseFailed.
    """
    with _translated(), Image.open(io.BytesIO(data), formats=_FORMATS) as file:
        for number in range(_count(file)):
            file.seek(number)
            yield _upright(_flat(_reduced(file)), _orientation(file))


@contextmanager
def _translated() -> Iterator[None]:
    """Pillow's errors as reasons. It only warns of damage that it can read past, and of more than 89 million pixels;
    twice as many it refuses."""
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        detail = f"the picture has too many pixels; {limit:,} are allowed"
        raise ParseFailed("decompression-limit", detail, limit_bytes=3 * limit) from error
    except UnidentifiedImageError as error:
        raise ParseFailed("broken", "not a readable picture", error=type(error).__name__) from error
    except _DAMAGE as error:
        raise ParseFailed("broken", f"the picture is damaged: {error}", error=type(error).__name__) from error


def _count(file: Image.Image) -> int:
    return int(getattr(file, "n_frames", 1)) if file.format == "TIFF" else 1


def _reduced(file: Image.Image) -> Image.Image:
    """The picture decoded; halved until it fits."""
    # A JPEG need not be decoded in full.
    file.draft(None, (_LONGEST_SIDE // 2, _LONGEST_SIDE // 2))
    file.load()
    factor = 1
    while max(file.size) > factor * _LONGEST_SIDE:
        factor *= 2
    if factor == 1:
        return file
    if file.mode in ("1", "P", "PA"):
        file = file.convert("L" if file.mode == "1" else "RGBA")
    return file.reduce(factor)


def _flat(image: Image.Image) -> Image.Image:
    """Grey or RGB, 8 bits a channel, opaque."""
    if image.mode.startswith(("I", "F")):
        return _stretched(image)
    if image.mode in ("1", "L"):
        return image.convert("L")
    if image.has_transparency_data:
        return _opaque(image.convert("RGBA"))
    return image.convert("RGB")


def _stretched(image: Image.Image) -> Image.Image:
    """Deep greys over the range that they fill."""
    values = np.nan_to_num(np.asarray(image, np.float32))
    low, high = float(values.min()), float(values.max())
    grey = (values - low) * (255 / (high - low) if high > low else 0.0)
    return Image.fromarray(grey.astype(np.uint8))


def _opaque(image: Image.Image) -> Image.Image:
    """On white, or on black where what is visible is bright: writing on a transparent ground may be either."""
    alpha = np.asarray(image.getchannel("A"), np.float32)
    grey = np.asarray(image.convert("L"), np.float32)
    total = float(alpha.sum())
    is_bright = total > 0 and float((grey * alpha).sum()) / total > _BRIGHT and float(alpha.min()) < 128
    ground = Image.new("RGBA", image.size, "black" if is_bright else "white")
    return Image.alpha_composite(ground, image).convert("RGB")


def _orientation(file: Image.Image) -> int:
    """As the camera noted it; 1 where it did not, or where its notes are damaged, which harms no viewer either."""
    try:
        noted = file.getexif().get(_ORIENTATION)
    except _DAMAGE:
        return 1
    return noted if isinstance(noted, int) else 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    way = _UPRIGHT.get(orientation)
    return image if way is None else image.transpose(way)
