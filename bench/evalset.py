"""Reads the evaluation sets (`--eval`): corpora and questions as JSON lines, plain or gzipped."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

ZH = (("xquad", "zh"), ("cmrc", "zh"), ("drcd", "zh-Hant"))
EN = (("xquad", "en"), ("pubmedqa", "en"), ("clapnq", "en"), ("rgb", "en"))


def rows(folder: Path, kind: str, name: str, language: str) -> list[dict[str, Any]]:
    found = path(folder, kind, name, language)
    content = found.read_bytes()
    text = (gzip.decompress(content) if found.suffix == ".gz" else content).decode()
    # Not `splitlines`, which also cuts at U+2028 and the like, and these may stand in a line of JSON.
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def path(folder: Path, kind: str, name: str, language: str) -> Path:
    """Of the passages or queries of a set, plain or gzipped."""
    plain = folder / kind / f"{kind}.{name}.{language}.jsonl"
    return plain if plain.exists() else Path(f"{plain}.gz")


def corpus(folder: Path, sets: tuple[tuple[str, str], ...]) -> list[dict[str, Any]]:
    return [row for name, language in sets for row in rows(folder, "passages", name, language)]


def equivalents(folder: Path) -> dict[str, str]:
    """Passage id to the first id of its group of equal texts."""
    groups = json.loads((folder / "passages" / "equivalents.json").read_text("utf-8"))
    return {member: group[0] for group in groups for member in group}
