"""Reads the evaluation sets (`--eval`): corpora and questions as JSON lines, plain or gzipped."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

ZH = (("xquad", "zh"), ("cmrc", "zh"), ("drcd", "zh-Hant"))
EN = (("xquad", "en"), ("pubmedqa", "en"), ("clapnq", "en"), ("rgb", "en"))


def rows(folder: Path, kind: str, name: str, language: str) -> list[dict[str, Any]]:
    plain = folder / kind / f"{kind}.{name}.{language}.jsonl"
    if plain.exists():
        lines = plain.read_text("utf-8").splitlines()
    else:
        with gzip.open(f"{plain}.gz", "rt", encoding="utf-8") as file:
            lines = file.read().splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def corpus(folder: Path, sets: tuple[tuple[str, str], ...]) -> list[dict[str, Any]]:
    return [row for name, language in sets for row in rows(folder, "passages", name, language)]


def equivalents(folder: Path) -> dict[str, str]:
    """Passage id to the first id of its group of equal texts."""
    groups = json.loads((folder / "passages" / "equivalents.json").read_text("utf-8"))
    return {member: group[0] for group in groups for member in group}
