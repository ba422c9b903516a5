"""Which models the settings open, what is said where they cannot be, and that nobody pays for what is not used."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from calls import ingest
from conftest import free_port, wait_until
from generating import generating

from rag_service import config
from rag_service.bootstrap import open_service, open_storage
from rag_service.errors import InvalidConfiguration
from rag_service.generators import open_entailment, open_generator
from rag_service.prompting import tokenizer

HEAVY = ("torch", "transformers", "langchain_core", "openai")
# As if the extras were not installed: their modules are refused before they are looked for.
WITHOUT = """
import sys
for name in {heavy!r}:
    sys.modules[name] = None
"""


def ran(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2_000:]
    return done.stdout.strip()


def test_the_command_imports_nothing_heavy() -> None:
    loaded = ran(f"import sys, rag_service.__main__; print([n for n in {HEAVY!r} if n in sys.modules])")

    assert loaded == "[]"


def test_without_the_extras_extracts_answer(tmp_path: Path) -> None:
    code = WITHOUT.format(heavy=HEAVY) + (
        "from rag_service import config\n"
        "from rag_service.bootstrap import open_service, open_storage\n"
        f"print(open_service(open_storage(config.load(data={str(tmp_path)!r}))).generator)"
    )

    assert ran(code) == "None"


@pytest.mark.parametrize("setting", ["generator='transformers'", "nli_model='any'"])
def test_a_model_without_its_extra_is_refused_with_what_to_install(tmp_path: Path, setting: str) -> None:
    code = WITHOUT.format(heavy=HEAVY) + (
        "from rag_service import config, generators\n"
        "from rag_service.errors import InvalidConfiguration\n"
        "from rag_service.prompting import tokenizer\n"
        f"settings = config.load(data={str(tmp_path)!r}, {setting})\n"
        "try:\n"
        "    generators.open_generator(settings, tokenizer.load('sus-chat-34b'))\n"
        "    generators.open_entailment(settings)\n"
        "except InvalidConfiguration as error:\n"
        "    print(error.detail)"
    )

    assert "pip install 'youju[sus-chat]'" in ran(code)


def test_nothing_is_opened_that_no_setting_names(tmp_path: Path) -> None:
    settings = config.load(data=tmp_path)

    assert open_generator(settings, tokenizer.load("sus-chat-34b")) is None
    assert open_entailment(settings) is None


def test_the_cross_encoder_that_is_named_is_looked_for(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the cross-encoder needs the extra [sus-chat]")

    with pytest.raises(InvalidConfiguration, match="nowhere"):
        open_entailment(config.load(data=tmp_path, nli_model=str(tmp_path / "nowhere")))


def test_a_gpu_index_without_a_gpu_is_refused_at_start(tmp_path: Path) -> None:
    faiss = pytest.importorskip("faiss")
    if getattr(faiss, "get_num_gpus", lambda: 0)():
        pytest.skip("there is a GPU")
    settings = config.load(data=tmp_path, index="faiss-gpu")

    with closing(open_storage(settings)) as storage, pytest.raises(InvalidConfiguration, match="gpu"):
        open_service(storage)


def test_a_template_whose_tokens_the_tokenizer_lacks_is_refused_at_start(tmp_path: Path) -> None:
    settings = config.load(data=tmp_path, template="llama-2")

    with closing(open_storage(settings)) as storage, pytest.raises(InvalidConfiguration, match="<s>"):
        open_service(storage)


def test_a_generator_that_is_down_makes_the_service_unready_and_says_why(tmp_path: Path) -> None:
    with generating(tmp_path / "data", f"http://127.0.0.1:{free_port()}/v1") as (_, client):
        wait_until(lambda: "reached yet" not in client.get("/readyz").json()["generator"], 10)
        ready = client.get("/readyz")

        assert ready.status_code == 503
        assert [name for name, state in ready.json().items() if state != "ok"] == ["generator"]
        # Questions that no model is needed for are answered all the same.
        kb = client.post("/v1/knowledge-bases", json={"name": "papers"}).json()["id"]
        ingest(client, kb, {"a.txt": "Employees have fifteen days of paid leave a year."})
        assert client.post("/v1/retrieve", json={"query": "leave", "knowledge_base_ids": [kb]}).status_code == 200
