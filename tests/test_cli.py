"""The `youju` command: what each subcommand does, prints and returns."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from conftest import Served
from sqlalchemy import select, update
from typer.testing import CliRunner

from rag_service import __main__ as command
from rag_service import config
from rag_service.bootstrap import open_storage
from rag_service.db.tables import chunks, vectors
from rag_service.index.rebuild import Rebuilder
from rag_service.intake import Incoming
from rag_service.verify import differences

LEAVE = "员工每年享有十五天带薪年假，可以分两次休完。"
WARRANTY = "The warranty of the Star River router lasts two years from delivery."
ASK_LEAVE = "员工每年有多少天带薪年假？"


def youju(*arguments: object) -> Result:
    """The command in this process; a fault that is no exit code of its own fails the test."""
    result = CliRunner().invoke(command.app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def told(result: Result) -> Any:
    """What `--json` printed: nothing else may stand on standard output."""
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good and bad files, some that no reader is for, and hidden ones."""
    root = tmp_path_factory.mktemp("folder")
    (root / "子目录").mkdir()
    (root / ".hidden").mkdir()
    files = {
        "warranty.md": WARRANTY.encode(), "子目录/年假.txt": LEAVE.encode(), "子目录/年假副本.txt": LEAVE.encode(),
        "broken.pdf": b"%PDF-1.7 and no more", "empty.txt": b"", "lying.docx": b"Just text.",
        "picture.gif": b"GIF89a", ".hidden/secret.txt": b"Hidden.", ".secret.txt": b"Hidden, too.",
    }  # fmt: skip
    for name, content in files.items():
        (root / name).write_bytes(content)
    return root


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> tuple[Path, dict[str, Any]]:
    """(a data folder with an index segment, what `ingest --json` told)."""
    data = tmp_path_factory.mktemp("cli") / "data"
    result = youju("ingest", folder, folder / "missing.txt", "--kb", "手册", "--data", data, "--json")
    assert result.exit_code == 1
    storage = open_storage(config.load(data=data))
    kb = storage.knowledge_bases.named("default", "手册").id
    feed = storage.feed
    Rebuilder(storage.index_root, feed, feed).rebuild(kb)
    storage.close()
    return data, told(result)


@pytest.fixture
def data(filled: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    """A copy of the filled data folder, to do with as a test likes."""
    return Path(shutil.copytree(filled[0], tmp_path / "data"))


def test_ingest_takes_the_good_files_and_names_the_bad_ones(filled: tuple[Path, dict[str, Any]], folder: Path) -> None:
    report = filled[1]

    assert (report["ready"], report["duplicates"]) == (2, 1)
    assert {(Path(row["path"]).name, row["reason"]) for row in report["failed"]} == {
        ("broken.pdf", "broken"),
        ("empty.txt", "empty"),
        ("lying.docx", "unsupported-type"),
        ("missing.txt", "not-found"),
    }
    assert all(row["detail"] for row in report["failed"])


def test_ingest_prints_a_table_of_what_failed_and_returns_1(folder: Path, tmp_path: Path) -> None:
    result = youju("ingest", folder / "broken.pdf", folder / "warranty.md", "--kb", "k", "--data", tmp_path / "data")

    assert result.exit_code == 1
    assert "1 ready, 0 already there, 1 not ingested" in result.stdout
    row = next(line for line in result.stdout.splitlines() if "broken.pdf" in line)
    assert "broken" in row


def test_a_file_that_failed_before_is_told_as_failed_again(folder: Path, tmp_path: Path) -> None:
    for _ in range(2):
        result = youju("ingest", folder / "broken.pdf", "--kb", "k", "--data", tmp_path / "data")

        assert result.exit_code == 1
        assert "1 not ingested" in result.stdout


def test_what_an_interrupted_run_left_waiting_is_ingested_by_the_next(folder: Path, tmp_path: Path) -> None:
    with closing(open_storage(config.load(data=tmp_path / "data"))) as storage:
        kb = storage.knowledge_bases.create("default", "k").id
        content = (folder / "warranty.md").read_bytes()
        storage.intake.accept("default", kb, [Incoming("warranty.md", None, io.BytesIO(content))])

    result = youju("ingest", folder / "warranty.md", "--kb", "k", "--data", tmp_path / "data")

    assert result.exit_code == 0
    assert youju("ask", "How long is the warranty?", "--kb", "k", "--data", tmp_path / "data").exit_code == 0
    with closing(open_storage(config.load(data=tmp_path / "data"))) as storage:
        [document] = storage.documents.browse("default", kb, None, 10, None).items
        assert document.state == "ready"


def test_ingest_of_good_files_alone_returns_0_and_knows_them_again(data: Path, folder: Path) -> None:
    again = youju("ingest", folder / "子目录", "--kb", "手册", "--data", data)

    assert again.exit_code == 0
    assert "0 ready, 2 already there, 0 not ingested" in again.stdout
    assert youju("verify", "--deep", "--data", data).exit_code == 0


def test_ingest_reports_files_it_may_not_open_and_names_that_are_no_text(tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "good.txt").write_text("A good file.")
    (folder / "loop.txt").symlink_to("loop.txt")
    (folder / "gone.txt").symlink_to("nowhere.txt")
    os.mkfifo(folder / "pipe.txt")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.txt")).write_text("A name that is no text.")

    listed = youju("ingest", folder, "--kb", "k", "--data", tmp_path / "data", "--json")
    table = youju("ingest", folder, folder / "pipe.txt", "x" * 300, "--kb", "k", "--data", tmp_path / "data")

    assert (listed.exit_code, table.exit_code) == (1, 1)
    assert told(listed)["ready"] == 1
    assert [row["reason"] for row in told(listed)["failed"]] == ["filename"]
    assert told(listed)["skipped"] == {"not a file": 3}
    assert "pipe.txt" in table.stdout


def test_a_report_counts_by_reason_and_format_and_names_what_was_left_out(folder: Path, tmp_path: Path) -> None:
    result = youju("ingest", folder, "--kb", "k", "--data", tmp_path / "data", "--exclude", "年假副本.txt")
    again = told(youju("ingest", folder, "--kb", "k", "--data", tmp_path / "data", "--include", "*.md", "--json"))

    assert result.exit_code == 1
    for part in ("left out: 2 hidden", "1 unknown type", "1 excluded", "not ingested: ", "1 broken"):
        assert part in result.stdout
    assert next(line for line in result.stdout.splitlines() if ".docx" in line and "│" in line)
    assert (again["duplicates"], again["failed"], again["reasons"]) == (1, [], {})
    assert again["formats"] == {".md": {"duplicates": 1}}
    assert again["skipped"]["excluded"] > 0


def test_ingest_never_removes_and_mirror_does(tmp_path: Path) -> None:
    root, data = tmp_path / "folder", tmp_path / "data"
    root.mkdir()
    for name in ("a", "b"):
        (root / f"{name}.md").write_text(f"The text of {name}.")
    assert youju("ingest", root, "--kb", "k", "--data", data).exit_code == 0
    (root / "a.md").unlink()
    (root / "b.md").write_text("The text of b, changed.")

    plain = told(youju("ingest", root, "--kb", "k", "--data", data, "--json"))
    mirrored = youju("ingest", root, "--kb", "k", "--data", data, "--mirror")

    assert (plain["updated"], plain["removed"]) == (1, 0)
    assert mirrored.exit_code == 0
    assert "0 updated, 1 removed" in mirrored.stdout
    assert youju("verify", "--deep", "--data", data).exit_code == 0


@pytest.mark.parametrize("path", ["missing", "file.md"])
def test_only_folders_can_be_watched(tmp_path: Path, path: str) -> None:
    (tmp_path / "file.md").write_text("A text.")

    result = youju("ingest", tmp_path / path, "--kb", "k", "--data", tmp_path / "data", "--watch")

    assert result.exit_code == 2
    assert "only folders can be watched" in " ".join(result.stderr.split())


def test_a_watch_follows_its_folder_ends_cleanly_and_takes_nothing_in_twice(tmp_path: Path) -> None:
    root, data = tmp_path / "folder", tmp_path / "data"
    root.mkdir()
    (root / "a.md").write_text("The text of a.")
    command = [sys.executable, "-m", "rag_service", "ingest", str(root), "--kb", "k", "--data", str(data)]

    for number, end in enumerate((signal.SIGINT, signal.SIGTERM)):
        watching = subprocess.Popen([*command, "--watch", "--json"], stdout=subprocess.PIPE, text=True)
        assert watching.stdout is not None
        first = json.loads(watching.stdout.readline())
        if number == 0:
            # A look before any file has settled finds nothing.
            first = json.loads(watching.stdout.readline())
            assert (first["ready"], first["duplicates"]) == (1, 0)
            (root / "a.md").write_text("The text of a, changed.")
            assert json.loads(watching.stdout.readline())["updated"] == 1
        else:
            assert (first["ready"], first["duplicates"]) == (0, 1)
        watching.send_signal(end)
        assert watching.wait(30) == 0
        watching.stdout.close()


def test_ask_prints_the_answer_with_its_citations(data: Path) -> None:
    result = youju("ask", ASK_LEAVE, "--kb", "手册", "--data", data)

    assert result.exit_code == 0
    assert "十五天带薪年假" in result.stdout
    assert "[1]" in result.stdout
    assert "年假.txt" in result.stdout


def test_ask_for_a_script_gives_the_stored_answer(data: Path) -> None:
    result = youju("ask", "How long does the warranty of the router last?", "--kb", "手册", "--data", data, "--json")

    answer = told(result)
    assert result.exit_code == 0
    assert (answer["outcome"], answer["citations"][0]["filename"]) == ("answered", "warranty.md")
    assert answer["citations"][0]["quote"] == WARRANTY


def test_ask_refuses_what_the_documents_do_not_say(data: Path) -> None:
    result = youju("ask", "How deep is the Mariana Trench?", "--kb", "手册", "--data", data, "--json")

    assert result.exit_code == 0
    assert (told(result)["outcome"], told(result)["citations"]) == ("refused", [])


def test_search_shows_passages_with_the_scores_of_every_leg(data: Path) -> None:
    table = youju("search", "warranty", "--kb", "手册", "--data", data)
    listed = youju("search", "warranty", "--kb", "手册", "--data", data, "--json", "--top-k", "1")

    assert (table.exit_code, listed.exit_code) == (0, 0)
    assert "warranty.md" in table.stdout
    assert [passage["filename"] for passage in told(listed)["passages"]] == ["warranty.md"]
    assert set(told(listed)["passages"][0]["scores"]) == {"dense", "lexical", "bilingual", "fused", "rerank"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ask", "x", "--kb", "unknown"], "no knowledge base named 'unknown'"),
        (["search", "x", "--kb", "unknown"], "no knowledge base named 'unknown'"),
        (["ask", " ", "--kb", "手册"], "the question is empty"),
        (["ask", "x" * 8_001, "--kb", "手册"], "at most 8000 characters"),
        (["ask", "half \udcff of a character", "--kb", "手册"], "not UTF-8"),
        (["search", "\udcff", "--kb", "手册"], "not UTF-8"),
        (["keys", "revoke", "unknown"], "no such live key"),
    ],
    ids=lambda value: str(value)[:30].encode("ascii", "replace").decode(),
)
def test_what_cannot_be_done_is_said_and_returns_2(data: Path, arguments: list[str], message: str) -> None:
    result = youju(*arguments, "--data", data)

    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert result.stdout == ""


@pytest.mark.parametrize(
    "arguments", [["ask", "x", "--kb", "k"], ["search", "x", "--kb", "k"], ["verify"], ["keys", "list"]], ids=str
)
def test_a_data_folder_that_is_not_there_is_not_made_by_looking(tmp_path: Path, arguments: list[str]) -> None:
    result = youju(*arguments, "--data", tmp_path / "nowhere")

    assert result.exit_code == 2
    assert "there is no data folder" in " ".join(result.stderr.split())
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("arguments", [["serve", "--no-auth"], ["worker"], ["ingest", ".", "--kb", "k"]], ids=str)
def test_a_data_folder_that_is_a_file_is_said_and_returns_2(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "file").write_text("x")

    result = youju(*arguments, "--data", tmp_path / "file")

    assert result.exit_code == 2
    assert str(tmp_path / "file") in "".join(result.stderr.split("\n"))


def test_keys_are_shown_once_listed_without_themselves_and_revoked(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    printed = youju("keys", "create", "laptop", "--data", data).stdout.strip()
    made = told(youju("keys", "create", "脚本", "--tenant", "red", "--data", data, "--json"))
    assert printed.startswith("yj_")
    assert made["key"].startswith("yj_")

    revoked = youju("keys", "revoke", made["id"], "--data", data)
    listed = youju("keys", "list", "--data", data, "--json")
    table = youju("keys", "list", "--data", data)

    assert (revoked.exit_code, listed.exit_code, table.exit_code) == (0, 0, 0)
    assert [(k["tenant"], k["name"], k["revoked"]) for k in told(listed)] == [
        ("default", "laptop", False),
        ("red", "脚本", True),
    ]
    assert "revoked" in table.stdout
    for output in (listed.stdout, table.stdout):
        assert printed not in output
        assert made["key"] not in output
    stored = (data / "youju.sqlite").read_bytes() + b"".join(f.read_bytes() for f in data.glob("youju.sqlite-*"))
    assert printed.encode() not in stored
    assert youju("keys", "revoke", made["id"], "--data", data).exit_code == 2


def test_config_prints_what_is_in_force_and_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "url"
    secret.write_text("postgresql+psycopg://youju:hunter2@db/youju\n")
    toml = tmp_path / "youju.toml"
    toml.write_text('workers = 3\nmax_question_chars = 99\ndata = "/from/toml"\n')
    monkeypatch.setenv("YOUJU_DATABASE_URL_FILE", str(secret))
    monkeypatch.setenv("YOUJU_MAX_QUESTION_CHARS", "77")

    table = youju("config", "--config", toml)
    listed = told(youju("config", "--config", toml, "--data", "/from/the/command/line", "--json"))

    assert table.exit_code == 0
    assert "YOUJU_DATABASE_URL" in table.stdout
    assert "hunter2" not in table.stdout
    assert (listed["database_url"], listed["workers"], listed["generator"]) == ("***", "3", "extractive")
    # The command line is stronger than the environment, and that is stronger than the file.
    assert (listed["max_question_chars"], listed["data"]) == ("77", "/from/the/command/line")


def test_all_faults_of_the_configuration_are_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml = tmp_path / "youju.toml"
    toml.write_text('colour = "red"\nlease_seconds = -1\n')
    monkeypatch.setenv("YOUJU_WORKERS", "many")
    monkeypatch.setenv("YOUJU_GENERATOR", "oracle")
    monkeypatch.setenv("YOUJU_MAX_UPLOAD", "1")
    monkeypatch.setenv("YOUJU_DATABASE_URL_FILE", str(tmp_path / "missing"))

    for arguments in (["config"], ["serve"], ["worker"], ["ask", "x", "--kb", "k"]):
        result = youju(*arguments, "--config", toml)
        assert result.exit_code == 2
        for fault in ("workers", "generator", "lease_seconds", "colour", "YOUJU_MAX_UPLOAD", "YOUJU_DATABASE_URL_FILE"):
            assert fault in result.stderr, (arguments, fault)


def test_a_configuration_file_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("workers = = 3")

    for file in (broken, tmp_path / "missing.toml", tmp_path):
        result = youju("config", "--config", file)
        assert result.exit_code == 2
        assert "Invalid configuration" in result.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", "", "127.0.0.1.example.org"])
def test_serving_without_keys_is_for_loopback_addresses_only(tmp_path: Path, host: str) -> None:
    result = youju("serve", "--no-auth", "--host", host, "--data", tmp_path / "data")

    assert result.exit_code == 2
    assert "loopback" in result.stderr
    assert not (tmp_path / "data").exists()


def test_verify_finds_nothing_where_nothing_is_wrong(data: Path) -> None:
    plain, deep = youju("verify", "--data", data), youju("verify", "--deep", "--data", data, "--json")

    assert (plain.exit_code, deep.exit_code) == (0, 0)
    assert "equal" in plain.stdout
    assert told(deep) == []


def test_verify_misses_a_removed_upload(data: Path) -> None:
    blob = next(path for path in (data / "blobs").glob("??/*") if path.read_bytes() == LEAVE.encode())
    blob.unlink()

    result = youju("verify", "--data", data, "--json")

    assert result.exit_code == 1
    assert [(d["where"], d["what"]) for d in told(result)] == [("blobs", f"{blob.name} is missing")]


def test_verify_finds_an_upload_with_another_byte_in_it(data: Path) -> None:
    blob = next((data / "blobs").glob("??/*"))
    blob.write_bytes(bytes([blob.read_bytes()[0] ^ 1]) + blob.read_bytes()[1:])

    assert youju("verify", "--data", data).exit_code == 0
    deep = youju("verify", "--deep", "--data", data)
    assert deep.exit_code == 1
    assert f"blobs: {blob.name} is damaged" in deep.stdout


def test_verify_finds_an_upload_that_belongs_to_nothing(data: Path) -> None:
    stray = data / "blobs" / "ab" / ("ab" + "0" * 62)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"stray")

    result = youju("verify", "--data", data)

    assert result.exit_code == 1
    assert f"{stray.name} belongs to no document" in result.stdout


def test_verify_finds_a_changed_vector(data: Path) -> None:
    storage = open_storage(config.load(data=data))
    with storage.database.write() as connection:
        row = connection.execute(select(vectors.c.chunk_id, vectors.c.vector).limit(1)).one()
        changed = np.frombuffer(row.vector, "<f2")[::-1].tobytes()
        connection.execute(update(vectors).where(vectors.c.chunk_id == row.chunk_id).values(vector=changed))
    storage.close()

    assert youju("verify", "--data", data).exit_code == 0
    deep = youju("verify", "--deep", "--data", data, "--json")
    assert deep.exit_code == 1
    assert [d["what"] for d in told(deep)] == [f"chunk {row.chunk_id} has another vector in the index than in SQL"]


def test_verify_finds_a_chunk_that_is_not_what_its_document_says(data: Path) -> None:
    storage = open_storage(config.load(data=data))
    with storage.database.write() as connection:
        connection.execute(update(chunks).values(text="Something else entirely."))
    storage.close()

    assert youju("verify", "--deep", "--data", data).exit_code == 1


def test_verify_finds_every_damaged_index_file(data: Path) -> None:
    files = [path for path in (data / "index").rglob("*") if path.is_file() and path.stat().st_size]
    assert len(files) > 2
    for file in files:
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert youju("verify", "--data", data).exit_code == 1, file
        file.write_bytes(whole)
    files[0].unlink()
    removed = youju("verify", "--data", data, "--json")

    assert removed.exit_code == 1
    assert {d["where"] for d in told(removed)} == {"index"}


def test_a_damaged_index_answers_all_the_same_and_is_whole_again(data: Path) -> None:
    shutil.rmtree(data / "index")
    assert youju("verify", "--data", data).exit_code == 1

    answer = told(youju("ask", ASK_LEAVE, "--kb", "手册", "--data", data, "--json"))

    assert answer["outcome"] == "answered"
    storage = open_storage(config.load(data=data))
    assert list(differences(storage, deep=True)) == []
    storage.close()


def test_the_installed_command_returns_what_the_process_returns(data: Path) -> None:
    (data / "blobs" / "ab").mkdir(exist_ok=True)
    (data / "blobs" / "ab" / ("ab" + "0" * 62)).write_bytes(b"stray")
    script = Path(sys.executable).with_name("youju")

    ended = subprocess.run([script, "verify", "--data", data, "--json"], capture_output=True, text=True)

    assert ended.returncode == 1
    assert len(json.loads(ended.stdout)) == 1


def test_a_standing_worker_ends_when_it_is_told_to(tmp_path: Path) -> None:
    data = tmp_path / "data"
    process = subprocess.Popen([sys.executable, "-m", "rag_service", "worker", "--data", data])
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()


def test_a_service_that_is_told_to_stop_takes_its_workers_with_it(serve: Callable[..., Served]) -> None:
    served = serve("--workers", "2")
    children = Path(f"/proc/{served.process.pid}/task").glob("*/children")
    workers = [pid for file in children for pid in file.read_text().split()]
    assert len(workers) == 2

    served.process.terminate()

    assert served.process.wait(30) == 0
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def test_help_names_every_command() -> None:
    result = youju("--help")

    assert result.exit_code == 0
    for name in ("serve", "worker", "ingest", "sync", "ask", "search", "keys", "config", "verify"):
        assert name in result.stdout
