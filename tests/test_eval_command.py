"""`youju eval`: one command from a set with its passages to a table, a picture and an exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from eval_set import short_set
from test_cli import youju

from rag_service import config
from rag_service.bootstrap import open_storage

LEAVE = "员工每年享有十五天带薪年假，可以分两次休完。"
WARRANTY = "The warranty of the Star River router lasts two years from delivery."


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(questions, passages); two passages have the same text, and one equals another by the list beside them."""
    folder = tmp_path_factory.mktemp("set")
    passages = [
        {"id": "p:leave", "text": LEAVE}, {"id": "p:copy", "text": LEAVE}, {"id": "p:warranty", "text": WARRANTY},
        {"id": "p:twin", "text": f" {WARRANTY}"}, {"id": "p:other", "text": "Trips by train are in second class."},
    ]  # fmt: skip
    questions = [
        {"id": "s:zh:1", "text": "员工每年有多少天带薪年假？", "relevant": ["p:copy"], "answers": ["十五天"]},
        {"id": "s:en:2", "text": "How long is the warranty of the router?", "relevant": ["p:twin"],
         "relevant_cross": ["p:leave"], "answers": ["two years"]},
    ]  # fmt: skip
    (folder / "equivalents.json").write_text('[["p:warranty", "p:twin"]]', "utf-8")
    return lines(folder / "set.jsonl", questions), lines(folder / "passages.jsonl", passages)


def knowledge_bases(data: Path) -> list[str]:
    storage = open_storage(config.load(data=data))
    names = [kb.name for kb in storage.knowledge_bases.browse("default", 50, None).items]
    storage.close()
    return names


def test_a_set_with_its_passages_is_one_command(files: tuple[Path, Path], tmp_path: Path) -> None:
    questions, passages = files
    data, out = tmp_path / "data", {name: tmp_path / f"out.{name}" for name in ("json", "md", "png")}

    result = youju(
        "eval", questions, "--passages", passages, "--data", data, "--withhold", "--fail-below", "R@1=1",
        "--json", out["json"], "--markdown", out["md"], "--plot", out["png"],
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    told = json.loads(out["json"].read_text("utf-8"))
    assert told["metrics"]["all"]["figures"]["R@1"]["value"] == 1.0
    assert told["results"] == 4
    assert out["md"].read_text("utf-8").startswith("|  | en→en | zh→zh | all |")
    assert out["png"].read_bytes().startswith(b"\x89PNG")
    assert told["id"] in result.stdout
    assert knowledge_bases(data) == []


def test_what_is_kept_is_there_for_the_next_run(files: tuple[Path, Path], tmp_path: Path) -> None:
    questions, passages = files
    data = tmp_path / "data"
    both = ("--passages", passages, "--kb", "mine", "--data", data, "--json", "-")
    first = json.loads(youju("eval", questions, *both, "--keep").stdout)
    assert knowledge_bases(data) == ["mine"]

    second = youju("eval", questions, *both, "--compare", first["id"])

    told = json.loads(second.stdout)
    assert told["revision"] == first["revision"]
    assert {one["difference"] for one in told["comparison"]} == {0.0}
    # It was not made by the second run, so it is not the second run's to delete.
    assert knowledge_bases(data) == ["mine"]


def test_a_threshold_that_is_missed_is_told_and_ends_in_1(files: tuple[Path, Path], tmp_path: Path) -> None:
    questions, passages = files
    result = youju(
        "eval", questions, "--passages", passages, "--data", tmp_path / "data", "--gold", "relevant_cross",
        "--retrieval-only", "--fail-below", "en-zh:R@1=.9", "--fail-below", "containment=.1",
    )  # fmt: skip
    assert result.exit_code == 1
    assert "en→zh: R@1 is 0.0000, below 0.9" in result.stderr
    assert "all: containment was not measured, 0.1 was demanded" in result.stderr


def test_faults_are_told_line_by_line_before_anything_is_taken_in(files: tuple[Path, Path], tmp_path: Path) -> None:
    questions, passages = files
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"id": "s:zh:1", "text": "Why?", "relevant": ["nope"]}\nnope\n{"id": "x"}\n', "utf-8")
    data = tmp_path / "data"

    result = youju("eval", questions, bad, "--passages", passages, "--data", data)

    assert result.exit_code == 2
    for told in (
        "bad.jsonl:1: the id 's:zh:1' stands at set.jsonl:1 already", "bad.jsonl:2: not JSON",
        "bad.jsonl:3: text: Field required",
    ):  # fmt: skip
        assert told in result.stderr
    assert "3 faults; nothing was taken in or asked" in result.stderr
    assert knowledge_bases(data) == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "name a knowledge base"),
        (["--kb", "nobody"], "no knowledge base named 'nobody'"),
        (["--kb", "nobody", "--fail-below", "R@3=.5"], "no threshold: 'R@3=.5'"),
        (["--kb", "nobody", "--plot", "run.exe"], "not 'run.exe'"),
        (["--kb", "nobody", "--compare", "nothing"], "no such evaluation run"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_done_is_told_before_any_work(
    files: tuple[Path, Path], tmp_path: Path, options: list[str], told: str
) -> None:
    (tmp_path / "data").mkdir()
    result = youju("eval", files[0], "--data", tmp_path / "data", *options)
    assert result.exit_code == 2
    assert told in result.stderr.replace("\n", " ")


def test_a_missing_file_and_a_missing_data_folder_are_told(files: tuple[Path, Path], tmp_path: Path) -> None:
    missing = youju("eval", tmp_path / "none.jsonl", "--passages", files[1], "--data", tmp_path / "data")
    assert (missing.exit_code, "none.jsonl" in missing.stderr) == (2, True)
    nowhere = youju("eval", files[0], "--kb", "kb", "--data", tmp_path / "nowhere")
    assert (nowhere.exit_code, "there is no data folder" in nowhere.stderr) == (2, True)


def test_an_empty_set_is_no_set(files: tuple[Path, Path], tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n\n", "utf-8")
    result = youju("eval", empty, "--passages", files[1], "--data", tmp_path / "data")
    assert (result.exit_code, "there is no question in it" in result.stderr) == (2, True)


def test_a_scratch_knowledge_base_goes_even_where_the_run_fails(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, **more: Any) -> Any:
        raise OSError("the disk is on fire")

    monkeypatch.setattr("rag_service.eval_command.open_service", broken)
    data = tmp_path / "data"
    result = youju("eval", files[0], "--passages", files[1], "--data", data)
    assert (result.exit_code, "the disk is on fire" in result.stderr) == (2, True)
    assert knowledge_bases(data) == []


def test_documents_of_a_knowledge_base_are_gold_by_their_names(tmp_path: Path) -> None:
    made = short_set()
    folder = tmp_path / "documents"
    folder.mkdir()
    for name, text in made.documents.items():
        (folder / name).write_text(text, "utf-8")
    data = tmp_path / "data"
    youju("ingest", folder, "--kb", "own", "--data", data)
    result = youju(
        "eval", lines(tmp_path / "own.jsonl", made.questions), "--kb", "own", "--data", data, "--retrieval-only",
        "--fail-below", "en-en:R@10=.9", "--fail-below", "zh-zh:R@10=.9",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
