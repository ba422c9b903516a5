"""A scan of many pages takes its time: the limit is for each page, and a longer one for all of them together."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from ingest.sandbox import ParseLimits, Sandbox
from rag_service.errors import ParseFailed
from rag_service.media_types import TIFF

PAGES, SECONDS_A_PAGE = 5, 0.7
# Loaded by the zygote, as by every Python process that has its folder on the path.
SLOW_READER = f"""
import time
from ingest.parsers import ocr

def read(image):
    time.sleep({SECONDS_A_PAGE})
    return [ocr.OcrLine("这一页上写着一句完整的话。", 10.0, 10.0, 400.0, 40.0, 0.99)]

ocr.is_installed, ocr.read_image = lambda: True, read
"""


@pytest.fixture
def scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "sitecustomize.py").write_text(SLOW_READER, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    path, saved = tmp_path / "scan.tiff", io.BytesIO()
    first, *others = [Image.new("L", (500, 700), 255 - number) for number in range(PAGES)]
    first.save(saved, "TIFF", save_all=True, append_images=others)
    path.write_bytes(saved.getvalue())
    return path


def test_the_time_limit_starts_anew_with_each_page(scan: Path) -> None:
    with Sandbox(ParseLimits(wall_seconds=2.0, scan_seconds=60.0)) as sandbox:
        assert sandbox.parse(scan, TIFF).pages == PAGES


def test_all_pages_together_have_a_limit_too(scan: Path) -> None:
    limits = ParseLimits(wall_seconds=2.0, scan_seconds=2.5)
    with Sandbox(limits) as sandbox, pytest.raises(ParseFailed) as failed:
        sandbox.parse(scan, TIFF)
    assert failed.value.reason == "parse-timeout"
