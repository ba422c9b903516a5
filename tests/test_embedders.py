"""Which embedder a name opens, what is said where it cannot be opened, and that nobody pays for what is not named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rag_service import config
from rag_service.embedders import open_embedder, open_reranker
from rag_service.errors import InvalidConfiguration
from rag_service.inference.use_multilingual import UseMultilingual

HEAVY = (
    "torch",
    "transformers",
    "sentence_transformers",
    "langchain_core",
    "onnxruntime",
    "onnxruntime_extensions",
    "httpx",
)


def ran(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2_000:]
    return done.stdout.strip()


def test_the_default_comes_with_the_installation(tmp_path: Path) -> None:
    settings = config.load(data=tmp_path)
    assert isinstance(open_embedder(settings.embedder, settings), UseMultilingual)
    assert open_reranker(settings) is None


@pytest.mark.parametrize("module", ["ingest.embedding", "ingest.bootstrap"])
def test_a_worker_with_the_default_imports_nothing_heavy(module: str) -> None:
    assert ran(f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])") == "[]"


@pytest.mark.parametrize(
    ("setting", "extra"),
    [
        ("sentence-transformers:any", "sentence-transformers"),
        ("use-multilingual-onnx", "onnx"),
        ("langchain:any:any", "langchain"),
    ],
)
def test_an_embedder_without_its_extra_is_refused_with_what_to_install(
    tmp_path: Path, setting: str, extra: str
) -> None:
    code = (
        f"import sys\nfor name in {HEAVY[:-1]!r}: sys.modules[name] = None\n"
        "from rag_service import config, embedders\n"
        "from rag_service.errors import InvalidConfiguration\n"
        f"try: embedders.open_embedder({setting!r}, config.load(data={str(tmp_path)!r}))\n"
        "except InvalidConfiguration as error: print(error.detail)"
    )
    assert f"pip install 'youju[{extra}]'" in ran(code)


@pytest.mark.parametrize(
    "setting",
    ["", "use", "use-multilingual-v2", "sentence-transformers:", "openai:example.org#m", "openai:http://h/v1",
     "openai:http://h/v1#", "openai:http://h/v1#a b", "langchain:module", "cross-encoder:x", "use-multilingual\nx",
     "sentence-transformers:" + "x" * 200],
)  # fmt: skip
def test_a_name_of_no_embedder_is_no_setting(setting: str) -> None:
    with pytest.raises(InvalidConfiguration, match="embedder"):
        config.load(embedder=setting)


@pytest.mark.parametrize(
    "setting",
    ["use-multilingual-onnx", "sentence-transformers:BAAI/bge-m3", "sentence-transformers:/a folder/模型",
     "openai:https://h:8443/v1?api-version=1#BAAI/bge-m3", "langchain:a.b:c.d"],
)  # fmt: skip
def test_names_of_every_kind_are_settings(setting: str) -> None:
    assert config.load(embedder=setting).embedder == setting


@pytest.mark.parametrize("setting", ["cross-encoder:", "cross-encoder: x", "BAAI/bge-reranker-v2-m3"])
def test_a_name_of_no_reranker_is_no_setting(setting: str) -> None:
    with pytest.raises(InvalidConfiguration, match="reranker"):
        config.load(reranker=setting)


def test_an_unknown_name_opens_nothing(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="no embedder 'telepathy'"):
        open_embedder("telepathy", config.load(data=tmp_path))
