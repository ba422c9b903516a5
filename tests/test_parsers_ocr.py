"""Reading pictures: what stands on them, in the order it is read, in every format, and nothing that does not."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from ingest.parsers import ocr
from ingest.parsers.image import ImageParser
from ingest.parsers.ocr import OcrLine
from ingest.parsers.registry import parser_for
from ingest.sandbox import ParseLimits, Sandbox
from rag_service import media_types
from rag_service.errors import ParseFailed

IMAGES = Path(__file__).parent / "images"
"""Set by Pillow in Noto Serif CJK, sixteen greys, so that the tests need no font."""

MIXED = """差旅报销管理办法

第3.2条员工因公出差，应在返回后10个工作日内提交报销单，并附发票原件；逾期未提交的，须由部门负责人书面说明原因。

Employees who travel on business must hand in their receipts within ten working days. Claims above 5,000 yuan need the \
approval of the finance department.

住宿标准为每晚450元（北京、上海为600元），超出部分由本人承担。

臺灣地區之差旅費，依當地規定辦理，並應檢附統一發票。"""
COLUMNS = """Quarterly notes on water quality

The first station lies above the town, where the river is still narrow. Samples were taken every week from April to \
June, always before noon, and kept cool until they reached the laboratory. Nitrate stayed below the limit in all of \
them.

The second station lies below the harbour. Here the values rose twice, after heavy rain in May, and fell again within \
four days. The report recommends a third station between the two, so that the source can be found without delay."""
TABLE = """各部门二季度支出如下表所示，单位为万元。

| 部门 | 人数 | 预算 | 支出 |
| --- | --- | --- | --- |
| 研发部 | 42 | 310.5 | 298.0 |
| 市场部 | 18 | 120.0 | 131.4 |
| 行政部 | 9 | 45.2 | 44.8 |
| 财务部 | 7 | 38.0 | 36.1 |

表中数字已经审计，与上年同期相比增长百分之三。"""

with_engine = pytest.mark.skipif(not ocr.is_installed(), reason="needs youju[ocr]")


def picture(name: str) -> Image.Image:
    image = Image.open(IMAGES / name)
    return image.convert("L")


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def text_of(data: bytes) -> str:
    return ImageParser(ocr.read_image).parse(data).text


class Reader:
    """Reads nothing and remembers what it was shown."""

    def __init__(self) -> None:
        self.shown: list[Image.Image] = []

    def __call__(self, image: Image.Image) -> list[OcrLine]:
        self.shown.append(image.copy())
        return [OcrLine("words on a line", 10, 10, 200, 30, 0.99)]

    def see(self, data: bytes) -> Image.Image:
        ImageParser(self).parse(data)
        return self.shown[-1]


# --- what is read


@with_engine
@pytest.mark.parametrize(
    ("name", "expected"),
    [("zh-en.png", MIXED), ("columns.png", COLUMNS), ("table.png", TABLE)],
    ids=lambda value: value[:8],
)
def test_a_page_is_read_to_the_letter_in_reading_order(name: str, expected: str) -> None:
    assert text_of((IMAGES / name).read_bytes()) == expected


def noisy(image: Image.Image) -> Image.Image:
    grain = np.random.default_rng(3).normal(0, 18, (image.height, image.width))
    return Image.fromarray(np.clip(np.asarray(image) * 0.8 + 30 + grain, 0, 255).astype(np.uint8))


def askew(degrees: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=255)


def widely_bordered(image: Image.Image) -> Image.Image:
    page = Image.new("L", (image.width * 3, image.height * 4), 255)
    page.paste(image, (image.width, image.height))
    return page


@with_engine
@pytest.mark.parametrize(
    "wear",
    [noisy, askew(2), askew(-5), askew(90), askew(180), askew(270), lambda image: Image.eval(image, lambda v: 255 - v),
     lambda image: image.reduce(2), lambda image: image.resize((image.width * 3, image.height * 3)), widely_bordered],
    ids=["noisy", "2°", "-5°", "on its side", "upside down", "on the other", "dark", "half size", "large", "small"],
)  # fmt: skip
def test_a_page_that_is_worn_or_turned_reads_the_same(wear: Callable[[Image.Image], Image.Image]) -> None:
    read = text_of(saved(wear(picture("zh-en.png")), "PNG"))
    assert read.split("\n\n")[0] == "差旅报销管理办法"
    assert distance(read.replace("\n\n", ""), MIXED.replace("\n\n", "")) <= 0.01 * len(MIXED)


def distance(first: str, second: str) -> int:
    """Levenshtein's."""
    row = list(range(len(second) + 1))
    for at, a in enumerate(first, start=1):
        before, row[0] = row[0], at
        for column, b in enumerate(second, start=1):
            before, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, before + (a != b))
    return row[-1]


@with_engine
def test_lines_stand_where_they_stand_on_the_page() -> None:
    lines = ocr.read_image(picture("zh-en.png"))
    title, *_, last = lines
    assert title.text == "差旅报销管理办法"
    # Set at (430, 40) with eight characters of 44 pixels.
    assert title.left == pytest.approx(430, abs=12)
    assert title.right == pytest.approx(430 + 8 * 44, abs=12)
    assert 30 < title.top < 60 < 80 < title.bottom < 115
    assert last.top == pytest.approx(464, abs=6)
    assert last.bottom - last.top == pytest.approx(30, abs=2)
    assert all(line.score > 0.9 for line in lines)


@with_engine
def test_each_frame_of_a_tiff_is_a_page() -> None:
    frames = [
        picture(name).point(lambda value: 255 * (value > 128)).convert("1") for name in ("table.png", "zh-en.png")
    ]
    frames.insert(1, Image.new("1", (800, 600), 1))
    parsed = ImageParser(ocr.read_image).parse(
        saved(frames[0], "TIFF", save_all=True, append_images=frames[1:], compression="group4")
    )
    assert parsed.pages == 3
    assert parsed.text == f"{TABLE}\n\n{MIXED}"
    assert [block.page for block in parsed.blocks] == [1, 1, 1, 3, 3, 3, 3, 3]


# --- what is not


@with_engine
def test_a_picture_without_writing_is_no_text() -> None:
    speckled = Image.fromarray(np.random.default_rng(1).integers(0, 255, (600, 500, 3), np.uint8))
    for image in (Image.new("L", (800, 600), 255), speckled):
        with pytest.raises(ParseFailed) as caught:
            text_of(saved(image, "PNG"))
        assert caught.value.reason == "no-text"


@with_engine
def test_writing_that_cannot_be_read_is_refused_not_indexed() -> None:
    scrawl = scribbled_lines(12)
    with pytest.raises(ocr.Unreadable):
        ocr.read_image(scrawl)
    with pytest.raises(ParseFailed, match=r"page 1: \d+ lines of writing could not be read") as caught:
        text_of(saved(scrawl, "PNG"))
    assert caught.value.reason == "no-text"
    assert caught.value.data["page"] == 1


def scribbled_lines(count: int) -> Image.Image:
    """What looks like handwriting and says nothing."""
    image = Image.new("L", (1200, 40 * count + 60), 255)
    draw, random = ImageDraw.Draw(image), np.random.default_rng(1)
    for line in range(count):
        for word in range(13):
            across = 40 + 84 * word + np.linspace(0, 70, 9)
            height = 30 + 40 * line + random.integers(0, 26, 9)
            draw.line(list(zip(across.tolist(), height.tolist(), strict=True)), fill=0, width=2)
    return image


def test_without_ocr_the_failure_says_what_to_install() -> None:
    with pytest.raises(ParseFailed, match=r"install youju\[ocr\]") as caught:
        parser_for(media_types.PNG, None).parse(saved(picture("table.png"), "PNG"))
    assert caught.value.reason == "no-text"
    assert caught.value.data["needs"] == "ocr"


# --- decoding


def colours() -> Iterator[tuple[str, Image.Image, str]]:
    grey = picture("table.png")
    clear = Image.new("RGBA", grey.size, (0, 0, 0, 0))
    clear.putalpha(Image.eval(grey, lambda value: 255 - value))
    white = Image.merge("LA", (Image.new("L", grey.size, 255), clear.getchannel("A")))
    deep = Image.fromarray(np.asarray(grey, np.uint16) * 64)
    yield "1", grey.convert("1"), "PNG"
    yield "palette", grey.convert("RGB").quantize(8), "PNG"
    yield "black on nothing", clear, "PNG"
    yield "white on nothing", white, "PNG"
    yield "16 bits", deep, "PNG"
    yield "16 bits", deep, "TIFF"
    yield "CMYK", grey.convert("CMYK"), "JPEG"
    yield "CMYK", grey.convert("CMYK"), "TIFF"
    yield "floats", Image.fromarray(np.asarray(grey, np.float32) / 255), "TIFF"
    yield "RGB", grey.convert("RGB"), "BMP"
    yield "RGBA", grey.convert("RGBA"), "WEBP"


@pytest.mark.parametrize(("image", "kind"), [c[1:] for c in colours()], ids=[f"{c[0]} {c[2]}" for c in colours()])
def test_every_kind_of_colour_becomes_dark_on_bright_or_bright_on_dark(image: Image.Image, kind: str) -> None:
    expected = np.asarray(picture("table.png"), np.float64)
    seen = Reader().see(saved(image, kind))
    assert seen.mode in ("L", "RGB")
    likeness = np.corrcoef(np.asarray(seen.convert("L"), np.float64).ravel(), expected.ravel())[0, 1]
    assert abs(likeness) > 0.9


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_a_camera_noted_is_honoured(orientation: int) -> None:
    upright = picture("table.png").convert("RGB")
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    seen = Reader().see(saved(stored, "JPEG", exif=exif, quality=95))
    assert seen.size == upright.size
    assert np.abs(np.asarray(seen.convert("L"), int) - np.asarray(upright.convert("L"), int)).mean() < 3


def test_damaged_notes_of_a_camera_do_no_harm() -> None:
    data = saved(picture("table.png").convert("RGB"), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    assert Reader().see(data).size == (1100, 620)


def test_only_the_first_frame_of_an_animation_counts() -> None:
    frames = [picture("table.png").convert("RGB"), Image.new("RGB", (1100, 620), "black")]
    for kind in ("WEBP", "PNG"):
        reader = Reader()
        ImageParser(reader).parse(saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=50))
        assert len(reader.shown) == 1
        assert np.asarray(reader.shown[0]).mean() > 200


def test_a_huge_page_is_made_smaller_before_it_is_read() -> None:
    page = Image.new("1", (13_000, 9_000), 1)
    seen = Reader().see(saved(page, "TIFF", compression="group4"))
    assert seen.size == (3_250, 2_250)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
def test_a_picture_cut_short_is_broken(kind: str) -> None:
    data = saved(picture("table.png").convert("RGB"), kind)
    for share in (0.01, 0.5, 0.9):
        with pytest.raises(ParseFailed) as caught:
            Reader().see(data[: int(len(data) * share)])
        assert caught.value.reason == "broken"


def test_a_picture_that_inflates_to_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    bomb = bytearray(saved(Image.new("1", (8, 8)), "PNG"))
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    # The header's checksum.
    bomb[29:33] = zlib.crc32(bytes(bomb[12:29])).to_bytes(4, "big")
    with pytest.raises(ParseFailed, match="too many pixels") as caught:
        Reader().see(bytes(bomb))
    assert caught.value.reason == "decompression-limit"
    assert caught.value.data["limit_bytes"] > 0


@pytest.mark.parametrize("data", [b"", b"   \n"])
def test_an_empty_file_is_empty(data: bytes) -> None:
    with pytest.raises(ParseFailed) as caught:
        Reader().see(data)
    assert caught.value.reason == "empty"


def test_another_kind_of_picture_is_broken() -> None:
    for data in (saved(picture("table.png"), "GIF"), b"\x89PNG\r\n\x1a\n" + b"\0" * 100, b"not a picture"):
        with pytest.raises(ParseFailed) as caught:
            Reader().see(data)
        assert caught.value.reason == "broken"


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["PNG", "JPEG", "TIFF", "BMP", "WEBP"]),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_a_damaged_picture_is_read_or_refused(kind: str, damage: list[tuple[int, int]]) -> None:
    data = bytearray(saved(Image.linear_gradient("L").resize((40, 30)), kind))
    for at, value in damage:
        data[at % len(data)] = value
    assert outcome(bytes(data)) in ("read", "broken", "decompression-limit")


def outcome(data: bytes) -> str:
    try:
        Reader().see(data)
    except ParseFailed as failure:
        return failure.reason
    return "read"


# --- punctuation


@given(st.text("中文，。,;:!?()ab 1"))
def test_punctuating_changes_marks_and_spaces_between_chinese_characters_only(text: str) -> None:
    after = ocr._punctuated(text)
    assert after.replace(" ", "").translate(str.maketrans("，；：！？（）", ",;:!?()")) == text.replace(
        " ", ""
    ).translate(str.maketrans("，；：！？（）", ",;:!?()"))
    if text.isascii():
        assert after == text.strip()


@pytest.mark.parametrize(
    ("read", "written"),
    [
        ("中国,北京;上海", "中国，北京；上海"),
        ("国手语 (ASL) 翻译", "国手语 (ASL) 翻译"),
        ("共 3,000 元", "共 3,000 元"),
        ("Hello, world", "Hello, world"),
        ("报销 单,", "报销单，"),
        ("(北京)", "（北京）"),
    ],
)
def test_marks_between_chinese_characters_are_full_width(read: str, written: str) -> None:
    assert ocr._punctuated(read) == written


# --- in the sandbox


@with_engine
def test_the_sandbox_reads_pictures_and_is_warm_after_the_first() -> None:
    with Sandbox() as sandbox:
        assert sandbox.parse(IMAGES / "table.png", media_types.PNG).text == TABLE
        zygote = sandbox._zygote
        assert zygote is not None
        maps = Path(f"/proc/{zygote._process.pid}/maps")
        if not maps.exists():
            pytest.skip("/proc does not tell what a process has loaded")
        deadline = time.monotonic() + 60
        while "onnxruntime" not in maps.read_text():
            assert time.monotonic() < deadline, "the zygote did not load the engine"
            time.sleep(0.05)
        # Only a process with one thread may be forked.
        assert "Threads:\t1\n" in maps.with_name("status").read_text()
        assert sandbox.parse(IMAGES / "zh-en.png", media_types.PNG).text == MIXED
        assert sandbox._zygote is zygote


def test_the_sandbox_does_not_load_the_engine_for_other_files(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<p>Words.</p>")
    with Sandbox() as sandbox:
        sandbox.parse(tmp_path / "page.html", media_types.HTML)
        assert sandbox._zygote is not None
        maps = Path(f"/proc/{sandbox._zygote._process.pid}/maps")
        assert not maps.exists() or "onnxruntime" not in maps.read_text()


def test_the_sandbox_reads_no_pictures_when_that_is_switched_off() -> None:
    with Sandbox(ParseLimits(ocr=False)) as sandbox, pytest.raises(ParseFailed) as caught:
        sandbox.parse(IMAGES / "table.png", media_types.PNG)
    assert caught.value.reason == "no-text"
    assert caught.value.data["needs"] == "ocr"


_WITHOUT_NETWORK = """
import socket, sys, threading
def refused(*given, **named):
    raise AssertionError("a socket was opened")
socket.socket.connect = refused
socket.getaddrinfo = refused
from PIL import Image
from ingest.parsers import ocr
lines = ocr.read_image(Image.open(sys.argv[1]).convert("RGB"))
assert lines, "nothing read"
with open("/proc/self/status") as status:
    assert "Threads:\\t1\\n" in status.read(), "the engine has started a thread"
"""


@with_engine
@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_reading_needs_no_network_starts_no_thread_and_leaves_nothing_at_home(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    for name in ("XDG_CACHE_HOME", "ORT_DISABLE_TELEMETRY"):
        environment.pop(name, None)
    program = [sys.executable, "-c", _WITHOUT_NETWORK, str(IMAGES / "table.png")]
    subprocess.run(program, check=True, env=environment, cwd=Path(__file__).parents[1])
    assert list(tmp_path.iterdir()) == []
