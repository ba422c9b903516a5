"""The samples through the real pipeline, and every question that stands beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest
from conftest import SAMPLES, TENANT

from ingest.bootstrap import open_ingestion
from rag_service import config
from rag_service.answering.question import Question
from rag_service.answering.refusal import sentence
from rag_service.bootstrap import Service, open_service, open_storage
from rag_service.folder import FolderIngest, IngestReport
from rag_service.text import sentences
from rag_service.types import Answer
from rag_service.verify import differences

QUESTIONS: list[dict[str, Any]] = json.loads((SAMPLES / "questions.json").read_text("utf-8"))
ALLOWED_WRONG = 3


@dataclass(frozen=True)
class Asked:
    service: Service
    kb: str
    report: IngestReport
    answers: list[Answer]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """The samples ingested, and every question asked once."""
    settings = config.load(data=tmp_path_factory.mktemp("samples"))
    storage = open_storage(settings)
    with closing(storage), closing(open_ingestion(settings)) as ingestion:
        folder = FolderIngest(storage, ingestion.worker.run, lambda done, total: None)
        report = folder.ingest(TENANT, "samples", [SAMPLES / "documents"])
        kb = storage.knowledge_bases.named(TENANT, "samples").id
        service = open_service(storage)
        answers = [service.asker.ask(Question(TENANT, each["question"], (kb,))) for each in QUESTIONS]
        yield Asked(service, kb, report, answers)


def is_right(question: dict[str, Any], answer: Answer) -> bool:
    """The right document and all the words, or a refusal where the documents say nothing."""
    if question["document"] is None:
        return answer.outcome == "refused" and not answer.citations
    quoted = "\n".join(c.quote for c in answer.citations if c.filename == question["document"])
    return answer.outcome == "answered" and all(words in quoted for words in question["contains"])


def test_every_sample_document_is_ingested(asked: Asked) -> None:
    files = [path for path in (SAMPLES / "documents").iterdir() if path.is_file()]
    assert (asked.report.failed, asked.report.ready) == ([], len(files))
    assert len(files) == 12


@pytest.mark.parametrize("number", range(4))
def test_the_questions_of_the_demo_are_answered_right(asked: Asked, number: int) -> None:
    assert is_right(QUESTIONS[number], asked.answers[number]), asked.answers[number].text


def test_the_demo_asks_in_both_languages_across_them_and_in_vain() -> None:
    assert [question["kind"] for question in QUESTIONS[:4]] == ["zh", "en", "cross", "unanswerable"]


def test_nearly_every_question_is_answered_right(asked: Asked) -> None:
    wrong = [q["question"] for q, a in zip(QUESTIONS, asked.answers, strict=True) if not is_right(q, a)]
    assert len(wrong) <= ALLOWED_WRONG, wrong


def test_every_quote_is_the_canonical_text_at_its_offsets(asked: Asked) -> None:
    documents = asked.service.storage.documents
    cited = [citation for answer in asked.answers for citation in answer.citations]
    assert len(cited) >= len(QUESTIONS) / 2
    for citation in cited:
        text = documents.text(TENANT, citation.document_id, citation.char_start, citation.char_end)
        assert text.text.encode() == citation.quote.encode()
        assert text.version == citation.document_version


def test_every_sentence_of_an_answer_is_cited(asked: Asked) -> None:
    """Nothing but white space stands outside the cited spans."""
    for answer in asked.answers:
        outside, at = "", 0
        for citation in answer.citations:
            outside += answer.text[at : citation.answer_start]
            at = citation.answer_end
        assert answer.outcome == "refused" or not (outside + answer.text[at:]).strip()


def test_refusals_speak_the_questions_language(asked: Asked) -> None:
    for question, answer in zip(QUESTIONS, asked.answers, strict=True):
        if answer.outcome == "refused":
            assert answer.language == question["language"]
            assert answer.refusal is not None
            assert answer.text == sentence(answer.refusal, answer.language)


def test_pages_are_told_where_a_document_has_them(asked: Asked) -> None:
    cited = [citation for answer in asked.answers for citation in answer.citations]
    assert any(citation.page for citation in cited if citation.filename.endswith(".pdf"))
    for citation in cited:
        assert (citation.page is not None) == citation.filename.endswith(".pdf")


def test_chunks_of_the_samples_are_slices_that_end_with_a_sentence(asked: Asked) -> None:
    documents = asked.service.storage.documents
    for document in documents.browse(TENANT, asked.kb, None, 200, None).items:
        text = documents.text(TENANT, document.id, 0, None).text
        bounds = {end for _, end in sentences(text)}
        for chunk in documents.chunks(TENANT, document.id, 200, None).items:
            assert text[chunk.char_start : chunk.char_end] == chunk.text
            assert chunk.char_end in bounds, chunk.text[-40:]


def test_the_stored_answer_is_the_answer_given(asked: Asked) -> None:
    for answer in asked.answers:
        assert asked.service.answers.get(TENANT, answer.id) == answer


def test_sql_blobs_and_index_are_equal(asked: Asked) -> None:
    assert list(differences(asked.service.storage, deep=True)) == []
