"""Every file of the evaluation set's `files/`, as its `mode` says."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.results import Result
from ingest.parsers import ocr
from ingest.sandbox import Sandbox
from rag_service import media_types
from rag_service.archives import Archives
from rag_service.errors import InvalidInput, ParseFailed, UnsupportedType


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    mode: str
    contains: tuple[str, ...]


def run(evaluation: Path, scratch: Path) -> list[Result]:
    files = _files(evaluation)
    with Sandbox() as sandbox:
        wrong = {file.path.name: fault for file in files if (fault := _fault(sandbox, file, scratch)) is not None}
    modes = ", ".join(f"{count} {mode}" for mode, count in Counter(file.mode for file in files).items())
    told = "; ".join(f"{name}: {fault}" for name, fault in wrong.items())
    reached = f"{len(files) - len(wrong)} of {len(files)}" + (f" ({told})" if told else "")
    return [Result(f"files of the evaluation set ({modes}) as their mode says", "all", reached, not wrong)]


def _files(evaluation: Path) -> Sequence[_File]:
    lines = (evaluation / "files.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [_File(evaluation / row["file"], row["mode"], tuple(row["contains"])) for row in rows]


def _fault(sandbox: Sandbox, file: _File, scratch: Path) -> str | None:
    """What is not as the mode says, or None."""
    try:
        text = _text(sandbox, file.path, scratch)
    except (ParseFailed, UnsupportedType, InvalidInput) as error:
        reason = str(error.data.get("reason", error.code))
        if file.mode == "text":
            return f"refused: {reason}"
        if file.mode == "text_ocr" and (ocr.is_installed() or reason != "no-text"):
            return f"not read: {reason}"
        return "crashed" if reason == "crashed" else None
    if file.mode == "reject":
        return "taken"
    missing = [fragment for fragment in file.contains if _bare(fragment) not in _bare(text)]
    return f"lacks {missing[0]!r}" if missing else None


def _text(sandbox: Sandbox, path: Path, scratch: Path) -> str:
    with path.open("rb") as content:
        media_type = media_types.detect(path.name, None, content)
        if media_type != media_types.ZIP:
            return sandbox.parse(path, media_type).text
        archives = Archives(10_000, 2_000_000_000, 100_000_000, folder=scratch)
        problems = [member.problem for member in archives.members(content, path.name) if member.problem is not None]
    if problems:
        raise InvalidInput(problems[0].detail, reason=str(problems[0].data.get("reason")))
    return ""


def _bare(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split())
