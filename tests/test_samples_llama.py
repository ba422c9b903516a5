"""The sample questions through a Llama in this process: SUS-Chat's architecture and tokenizer, made to say one thing.

With healed spacing: in the card's the prompt ends in a token that is also the blank before a number.
"""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import SAMPLES, TENANT
from tiny_llama import save_tiny_llama, saying

from ingest.bootstrap import open_ingestion
from rag_service import config
from rag_service.answering.question import Question
from rag_service.bootstrap import open_service, open_storage
from rag_service.errors import InvalidConfiguration
from rag_service.folder import FolderIngest
from rag_service.prompting import tokenizer, wording

QUESTIONS = json.loads((SAMPLES / "questions.json").read_text("utf-8"))[:4]
# No token twice: that is all such a model can say. So none says its mark: the passage has to be found for it.
REPLIES = (
    "在公司服务满五年、不满十年的员工，每年享有12天带薪年休假。",
    " Warranty claims must be reported within 14 days of the fault being noticed.",
    "背面至少留出 15 cm 的空间，使冷却风扇能吸入空气。",
    wording.load()["zh"].refusal,
)
COLON, END = 59_601, 2


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that holds the sample documents."""
    data = tmp_path_factory.mktemp("samples") / "data"
    settings = config.load(data=data)
    with closing(open_storage(settings)) as storage, closing(open_ingestion(settings)) as ingestion:
        FolderIngest(storage, ingestion.worker.run, lambda done, total: None).ingest(
            TENANT, "samples", [SAMPLES / "documents"]
        )
    return data


def model_that_says(text: str, directory: Path) -> Path:
    ids = tokenizer.load("sus-chat-34b").encode(text)
    return save_tiny_llama(directory, saying([COLON, *_without_repeats(ids), END]))


def _without_repeats(ids: list[int]) -> list[int]:
    assert len(set(ids)) == len(ids), "the text says a token twice"
    return ids


@pytest.mark.parametrize("number", range(4))
def test_the_demo_questions_come_out_right_through_a_llama(samples: Path, tmp_path: Path, number: int) -> None:
    question: dict[str, Any] = QUESTIONS[number]
    model = model_that_says(REPLIES[number], tmp_path / "model")
    settings = config.load(data=samples, generator="transformers", generator_model=str(model), spacing="healed")
    with closing(open_storage(settings)) as storage, closing(open_service(storage)) as service:
        kb = storage.knowledge_bases.named(TENANT, "samples").id

        answer = service.asker.ask(Question(TENANT, question["question"], (kb,)))
        replay = service.replayer.replay(TENANT, answer.id)

    if question["document"] is None:
        assert (answer.outcome, answer.citations) == ("refused", ())
        return
    assert (answer.outcome, answer.generator) == ("answered", "transformers:model")
    assert answer.usage.completion_tokens == len(tokenizer.load("sus-chat-34b").encode(REPLIES[number])) + 1
    [citation] = answer.citations
    assert citation.filename == question["document"]
    assert citation.verdict != "unsupported"
    assert all(part in citation.quote for part in question["contains"])
    assert (replay.retrieval_equal, replay.prompt_equal, replay.text_equal) == (True, True, True)


def test_a_model_directory_with_another_tokenizer_is_refused_before_it_is_loaded(samples: Path, tmp_path: Path) -> None:
    model = save_tiny_llama(tmp_path / "model")
    other = json.loads((model / "tokenizer.json").read_text("utf-8"))
    other["normalizer"] = {
        "type": "Sequence",
        "normalizers": [{"type": "Prepend", "prepend": "▁"}, other["normalizer"]],
    }
    (model / "tokenizer.json").write_text(json.dumps(other), "utf-8")
    settings = config.load(data=samples, generator="transformers", generator_model=str(model))

    with closing(open_storage(settings)) as storage, pytest.raises(InvalidConfiguration, match="youju tokenizer"):
        open_service(storage)
