"""How an answer was made comes back exactly as it was stored, on SQLite and on PostgreSQL."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from passages import ranked
from rooms import TENANT, Room
from test_db_nouns import answer
from test_db_publication import PowerCut, failing_at

from rag_service.db.answers import Answers, Provenance, ShownPassage
from rag_service.db.conversations import Conversations
from rag_service.db.packing_reports import PackingReports
from rag_service.errors import NotFound
from rag_service.types import PackedBlock, PackingReport, RankedPassage, Sampling, Scores, Turn

# A model may say anything, halves of surrogate pairs and U+0000 among it.
said = st.text(st.characters(exclude_categories=()), max_size=40)
counts = st.integers(0, 2**53)
reals = st.floats(allow_nan=False, allow_infinity=False)
blocks = st.builds(
    PackedBlock,
    kind=st.sampled_from(["instructions", "history", "passage", "question", "template"]),
    id=said,
    tokens=counts,
    state=st.sampled_from(["kept", "trimmed", "dropped"]),
    reason=st.sampled_from([None, "budget", "duplicate", "below_floor"]),
    position=st.none() | counts,
    score=st.none() | reals,
    start=counts,
    end=counts,
    marker=st.none() | counts,
)
reports = st.builds(
    PackingReport,
    window_tokens=counts,
    reply_tokens=counts,
    prompt_tokens=counts,
    tokenizer=said,
    template=said,
    blocks=st.lists(blocks, max_size=6).map(tuple),
    prompt_sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
)
samplings = st.builds(
    Sampling,
    max_tokens=counts,
    temperature=reals,
    top_p=reals,
    top_k=counts,
    repetition_penalty=reals,
    seed=st.integers(-(2**63), 2**64),
    stop=st.lists(said, max_size=3).map(tuple),
    stop_ids=st.lists(counts, max_size=3).map(tuple),
)
provenances = st.builds(
    Provenance,
    retrieval_query=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40),
    reply=st.none() | said,
    sampling=st.none() | samplings,
    report=st.none() | reports,
    history=st.lists(st.uuids().map(str), max_size=5).map(tuple),
    given=st.lists(st.builds(Turn, id=said, question=said, answer=said), max_size=3).map(tuple),
    asked_language=st.sampled_from([None, "zh", "en"]),
    base_revision=st.dictionaries(st.uuids().map(str), counts, max_size=3),
)
REPORT = PackingReport(
    8192, 900, 7, "sus-chat-34b", "sus-chat",
    (PackedBlock("question", "question", 7, "kept", position=0, end=5), PackedBlock("passage", "7", 0, "dropped")),
    "0" * 64,
)  # fmt: skip


@pytest.fixture
def answers(room: Room) -> Answers:
    return Answers(room.storage.database)


@pytest.fixture
def packing_reports(room: Room) -> PackingReports:
    return PackingReports(room.storage.database)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(provenance=provenances)
def test_how_an_answer_was_made_is_kept_to_the_bit(
    answers: Answers, packing_reports: PackingReports, provenance: Provenance
) -> None:
    stored = answers.record(TENANT, answer(), ["kb"], [], provenance)

    assert answers.origin(TENANT, stored.id).provenance == provenance
    if provenance.report is not None:
        assert packing_reports.get(TENANT, stored.id) == provenance.report


def test_the_passages_shown_keep_their_order_and_scores(answers: Answers) -> None:
    plain, reranked = ranked("十二天年假。", 1 / 3, 2**40, "a"), ranked("病假另计。", 0.1, 7, "b")
    reranked = RankedPassage(reranked.passage, Scores(0.1, 0.2, 0.3, rerank=0.9))

    stored = answers.record(TENANT, answer(), ["two", "one"], [plain, reranked], Provenance("年假几天？"))

    origin = answers.origin(TENANT, stored.id)
    assert origin.knowledge_base_ids == ("two", "one")
    assert origin.shown == (
        ShownPassage(2**40, "a", 1, Scores(1 / 3, 1 / 3, 1 / 3)),
        ShownPassage(7, "b", 1, Scores(0.1, 0.2, 0.3, 0.9)),
    )


def test_an_answer_without_a_prompt_has_no_report_and_says_so(
    answers: Answers, packing_reports: PackingReports
) -> None:
    stored = answers.record(TENANT, answer(generator="extractive"), ["kb"], [], Provenance("q"))
    with pytest.raises(NotFound, match=r"made without a prompt \(extractive\)"):
        packing_reports.get(TENANT, stored.id)
    with pytest.raises(NotFound, match="no such answer"):
        packing_reports.get(TENANT, "unknown")


def test_another_tenants_report_does_not_exist(answers: Answers, packing_reports: PackingReports) -> None:
    stored = answers.record(TENANT, answer(), ["kb"], [], Provenance("q", report=REPORT))
    for call in (packing_reports.get, answers.origin):
        with pytest.raises(NotFound, match="no such answer"):
            call("other", stored.id)


def test_a_report_goes_with_its_conversation(room: Room, answers: Answers, packing_reports: PackingReports) -> None:
    stored = answers.record(TENANT, answer(), ["kb"], [], Provenance("q", report=REPORT))
    Conversations(room.storage.database).delete(TENANT, stored.conversation_id)
    with pytest.raises(NotFound):
        packing_reports.get(TENANT, stored.id)


def test_an_answer_is_stored_whole_or_not_at_all(room: Room, answers: Answers, packing_reports: PackingReports) -> None:
    made = replace(answer(), outcome="refused", refusal="unsupported")
    shown = [ranked("十二天年假。")]
    for k in range(1, 100):
        with failing_at(room, k):
            try:
                stored = answers.record(TENANT, made, [room.kb], shown, Provenance("q", "reply", report=REPORT))
            except PowerCut:
                with pytest.raises(NotFound):
                    answers.get(TENANT, made.id)
                continue
        break
    assert k > 8
    assert packing_reports.get(TENANT, stored.id) == REPORT
    assert answers.origin(TENANT, stored.id).provenance.reply == "reply"
