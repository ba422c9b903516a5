"""The sample questions through a model: a server over the real protocol that reads the prompt it is sent."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from conftest import SAMPLES, TENANT
from engine import Asked, Engine, running_engine
from generating import prompt_of

from ingest.bootstrap import open_ingestion
from rag_service import config
from rag_service.answering.question import Question
from rag_service.bootstrap import Service, open_service, open_storage
from rag_service.folder import FolderIngest
from rag_service.prompting import wording
from rag_service.text import lexical_terms, sentences

QUESTIONS = json.loads((SAMPLES / "questions.json").read_text("utf-8"))[:4]
# What a model would say in the question's language where the passage is in the other.
TRANSLATED = {"Leave at least 15 cm of free space behind": "X-200 的背面至少要留出 15 cm 的空间，以便冷却风扇吸入空气"}


def reads_the_prompt(asked: Asked) -> str:
    """The sentence of the passages that shares the most terms with the question, cited; its translation, if need be."""
    prompt = prompt_of(asked)
    question = prompt.rpartition("\n")[0].rpartition("\n\n### Assistant")[0] or prompt
    asked_for = set(lexical_terms(re.split("问题：|Question: ", question)[-1]))
    best, said = 0, ""
    for number, body in re.findall(
        r"^\[(\d+)\] [^\n]*\n(.*?)(?=\n\n\[\d+\] |\n\n问题：|\n\nQuestion: )", prompt, re.S | re.M
    ):
        for start, end in sentences(body):
            sentence = body[start:end].lstrip("- ")
            shared = len(asked_for & set(lexical_terms(sentence)))
            for original, translated in TRANSLATED.items():
                if sentence.startswith(original) and "散热" in prompt:
                    return f"{translated}[{number}]。"
            if shared > best:
                best, said = shared, f"{sentence} [{number}]"
    return said or wording.load()["zh"].refusal


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with running_engine(reads_the_prompt) as opened:
        yield opened


@pytest.fixture(scope="module")
def samples(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, str]]:
    settings = config.load(
        data=tmp_path_factory.mktemp("samples") / "data",
        generator="openai", generator_url=engine.url, generator_model="reader",
    )  # fmt: skip
    with closing(open_storage(settings)) as storage, closing(open_ingestion(settings)) as ingestion:
        FolderIngest(storage, ingestion.worker.run, lambda done, total: None).ingest(
            TENANT, "samples", [SAMPLES / "documents"]
        )
        with closing(open_service(storage)) as service:
            yield service, storage.knowledge_bases.named(TENANT, "samples").id


@pytest.mark.parametrize("number", range(4))
def test_the_demo_questions_come_out_right_through_a_server(samples: tuple[Service, str], number: int) -> None:
    service, kb = samples
    question: dict[str, Any] = QUESTIONS[number]

    answer = service.asker.ask(Question(TENANT, question["question"], (kb,)))

    if question["document"] is None:
        assert (answer.outcome, answer.citations) == ("refused", ())
        return
    assert answer.generator == "openai:reader"
    assert answer.outcome in ("answered", "partial")
    found = [c for c in answer.citations if c.filename == question["document"] and c.verdict != "unsupported"]
    assert any(all(part in citation.quote for part in question["contains"]) for citation in found), answer
    assert service.replayer.replay(TENANT, answer.id).diff == ()
