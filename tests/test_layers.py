"""Arrows point down: reads every import, those inside functions included, and fails on any other arrow."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Longest prefix wins. Rooms of one level do not know each other, unless they are one room.
LEVELS = {
    "rag_service": 0, "rag_service.types": 0, "rag_service.errors": 0,
    "rag_service.ports": 1, "rag_service.config": 1, "rag_service.text": 1, "rag_service.media_types": 1,
    "rag_service.failpoints": 1, "rag_service.evaluated": 1,
    "migrations": 2,
    "rag_service.db": 2, "rag_service.dictionary": 2, "rag_service.index": 2, "rag_service.inference": 2,
    "rag_service.blobs": 2,
    "rag_service.archives": 2, "rag_service.archive_child": 2,
    "rag_service.langchain": 2, "rag_service.embedders": 2, "rag_service.embedder_pool": 2,
    "rag_service.retrieval": 3, "rag_service.prompting": 3, "rag_service.answering": 3, "rag_service.intake": 3,
    "rag_service.bootstrap": 4, "rag_service.generators": 4, "rag_service.verify": 4, "rag_service.folder": 4,
    "rag_service.mirror": 4, "rag_service.taking": 4, "rag_service.listing": 2, "rag_service.sync": 3,
    "rag_service.evaluation": 4,
    "rag_service.api": 5,
    "rag_service.supervisor": 6, "rag_service.console": 6, "rag_service.__main__": 6,
    "rag_service.eval_command": 6,
    "ingest": 0,
    "ingest.parse_protocol": 3,
    "ingest.chunker": 3, "ingest.parsers": 3, "ingest.sandbox": 3, "ingest.zygote": 3,
    "ingest.parse_child": 3,
    "ingest.pipeline": 4, "ingest.compactor": 4, "ingest.worker": 4, "ingest.embedding": 4, "ingest.reembedding": 4,
    "ingest.lanes": 4, "ingest.leases": 4,
    "ingest.bootstrap": 5,
    "ingest.__main__": 6,
}  # fmt: skip
SIDEWAYS = {
    # (from, to): why two rooms of one level may know each other in this direction.
    ("rag_service.ports", "rag_service.types"),
    ("rag_service.archives", "rag_service.archive_child"),
    # Opens what the settings name, for the service and, which may not reach higher, for ingestion.
    ("rag_service.embedders", "rag_service.inference"),
    ("rag_service.answering", "rag_service.retrieval"),
    ("rag_service.answering", "rag_service.prompting"),
    ("rag_service.bootstrap", "rag_service.generators"),
    ("rag_service.verify", "rag_service.bootstrap"),
    ("rag_service.folder", "rag_service.bootstrap"),
    ("rag_service.mirror", "rag_service.bootstrap"),
    ("rag_service.taking", "rag_service.bootstrap"),
    ("rag_service.mirror", "rag_service.taking"),
    ("rag_service.folder", "rag_service.taking"),
    ("rag_service.folder", "rag_service.mirror"),
    ("rag_service.__main__", "rag_service.supervisor"),
    ("rag_service.__main__", "rag_service.console"),
    ("rag_service.evaluation", "rag_service.bootstrap"),
    ("rag_service.__main__", "rag_service.eval_command"),
    ("rag_service.eval_command", "rag_service.console"),
    ("rag_service.__main__", "ingest.__main__"),
    ("ingest.worker", "ingest.pipeline"),
    ("ingest.reembedding", "ingest.pipeline"),
    ("ingest.worker", "ingest.lanes"),
    ("ingest.worker", "ingest.leases"),
    ("ingest.zygote", "ingest.parse_child"),
    ("ingest.zygote", "ingest.parsers"),
    ("ingest.parse_child", "ingest.parsers"),
    ("ingest.parse_protocol", "ingest.parsers"),
    ("ingest.parse_child", "ingest.parse_protocol"),
    ("ingest.zygote", "ingest.parse_protocol"),
    ("ingest.sandbox", "ingest.parse_protocol"),
    ("migrations", "rag_service.db"),
    ("rag_service.db", "migrations"),
}


def _modules() -> Iterator[tuple[str, Path]]:
    for package in ("rag_service", "ingest", "migrations"):
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _room(module: str) -> str | None:
    parts = module.split(".")
    candidates = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((name for name in candidates if name in LEVELS), None)


def _wrong_arrows(module: str, path: Path) -> Iterator[str]:
    here = _room(module)
    assert here is not None, f"{module} belongs to no room: give it one in LEVELS"
    for imported in _imports(path):
        there = _room(imported)
        if there is None or there == here or there in ("rag_service", "ingest"):
            continue
        down = LEVELS[there] < LEVELS[here]
        if not down and (here, there) not in SIDEWAYS:
            yield f"{module} → {imported}"
        if here.startswith("rag_service") and there.startswith("ingest") and here != "rag_service.__main__":
            yield f"{module} → {imported}: the service never imports ingestion"
        if here.startswith("ingest") and there.startswith("rag_service") and LEVELS[there] > 2:
            yield f"{module} → {imported}: ingestion uses levels 0 to 2 of the service"


@pytest.mark.parametrize(("module", "path"), sorted(_modules()), ids=lambda value: str(value).rsplit("/", 1)[-1])
def test_a_module_imports_only_from_below(module: str, path: Path) -> None:
    assert list(_wrong_arrows(module, path)) == []


def test_types_and_errors_need_only_the_standard_library() -> None:
    for name in ("types", "errors"):
        for imported in _imports(ROOT / "rag_service" / f"{name}.py"):
            assert imported.split(".")[0] in ("__future__", "dataclasses", "typing", "rag_service")


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("from rag_service.api import app", True),
        ("def f():\n    import rag_service.bootstrap", True),
        ("from rag_service.index import dense", True),
        ("from ingest import worker", True),
        ("from rag_service.types import Hit", False),
    ],
)
def test_the_check_itself_sees_a_wrong_arrow_out_of_the_sql_room(tmp_path: Path, source: str, wrong: bool) -> None:
    path = tmp_path / "seeded.py"
    path.write_text(source, "utf-8")
    assert bool(list(_wrong_arrows("rag_service.db.seeded", path))) is wrong
