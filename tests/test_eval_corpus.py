"""What gold ids mean in a knowledge base."""

from __future__ import annotations

import hashlib
from typing import Any

from rag_service.evaluation import questions
from rag_service.evaluation.corpus import corpus, unknown
from rag_service.evaluation.questions import Passage, Question
from rag_service.types import Document


def document(document_id: str, text: str, **members: Any) -> Document:
    whole: dict[str, Any] = {
        "knowledge_base_id": "kb", "filename": f"{document_id}.txt", "media_type": "text/plain", "bytes": 1,
        "sha256": hashlib.sha256(text.encode()).hexdigest(), "etag": "", "version": 1, "state": "ready",
        "language": "en", "pages": None, "chunks": 1, "error": None, "source_uri": None, "created_at": 0.0,
        "updated_at": 0.0,
    }  # fmt: skip
    return Document(id=document_id, **{**whole, **members})


def asked(*gold: str, **members: Any) -> Question:
    made, faults = questions.from_rows("set", [{"id": "q", "text": "Why?", "relevant": list(gold), **members}])
    assert faults == []
    return made.questions[0]


def test_a_document_is_named_by_its_id_its_source_and_its_file_name() -> None:
    known = corpus([document("d1", "One.", source_uri="set:1"), document("d2", "Two.")])
    assert known.gold(asked("set:1", "d1", "d1.txt", "d2.txt")) == ("d1", "d2")
    assert unknown([asked("set:1", "d2.txt")], known) == []


def test_a_passage_is_the_document_with_its_bytes() -> None:
    passages = [Passage("p1", "", "One."), Passage("p2", "", "One."), Passage("p3", "", "Three.")]
    known = corpus([document("d1", "One.")], passages)
    assert known.gold(asked("p1", "p2")) == ("d1",)
    [fault] = unknown([asked("p1", "p3")], known)
    assert str(fault) == "questions:1: unknown passage or document 'p3'"
    assert unknown([asked("p3")], known, passages) == []


def test_of_equivalent_passages_any_one_will_do() -> None:
    held = [document(f"d{n}", text, source_uri=f"p{n}") for n, text in enumerate("abcd")]
    known = corpus(held, [], [["p0", "elsewhere"], ["p1", "p2"], ["p2", "p3"]])
    assert known.key("d0") != known.key("d1")
    assert len({known.key(name) for name in ("d1", "d2", "d3")}) == 1
    assert known.gold(asked("p3", "p1")) == known.gold(asked("p2"))
    [key] = known.gold(asked("p2"))
    assert sorted(known.documents[key]) == ["d1", "d2", "d3"]


def test_a_name_of_several_documents_names_none() -> None:
    held = [document("d1", "One.", filename="same.txt"), document("d2", "Two.", filename="same.txt")]
    [fault] = unknown([asked("same.txt")], corpus(held))
    assert "names several documents" in str(fault)
    # Unless they are the same for every purpose of the set.
    assert unknown([asked("same.txt")], corpus(held, [], [["d1", "d2"]])) == []


def test_a_document_without_a_passage_yet_is_unknown() -> None:
    assert len(unknown([asked("d1")], corpus([document("d1", "One.", chunks=0, state="queued")]))) == 1


def test_every_unknown_passage_is_told_with_its_question() -> None:
    made, _ = questions.from_rows(
        "set", [{"id": str(n), "text": "Why?", "relevant": [f"p{n}", f"r{n}"]} for n in range(2)]
    )
    told = [str(fault) for fault in unknown(made.questions, corpus([]))]
    assert told == [f"questions:{n}: unknown passage or document '{p}{n - 1}'" for n in (1, 2) for p in "pr"]


def test_the_direction_is_that_of_the_gold_passages_else_of_what_is_asked_about() -> None:
    both = corpus([document("d1", "One.", language="zh"), document("d2", "Two.", language="en")])
    english = corpus([document("d2", "Two.", language="en")])
    assert both.direction(asked("d1")) == "en→zh"
    assert both.direction(asked("d2", lang="zh")) == "zh→en"
    assert both.direction(asked("d1", "d2")) == "en→mixed"
    assert both.direction(asked(answerable=False, source_passage="d1")) == "en→zh"
    assert both.direction(asked(answerable=False)) == "en→any"
    assert english.direction(asked(answerable=False)) == "en→en"
