"""What people say of answers, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rooms import TENANT, Room
from test_db_nouns import answer
from test_db_publication import in_threads

from rag_service.db.answers import Answers, Provenance
from rag_service.db.conversations import Conversations
from rag_service.db.feedback import Feedback, Judgement
from rag_service.errors import InvalidInput, NotFound
from rag_service.types import Answer


@pytest.fixture
def feedback(room: Room) -> Feedback:
    return Feedback(room.storage.database)


@pytest.fixture
def stored(room: Room) -> Answer:
    """An answer with the citations 1 and 2."""
    return Answers(room.storage.database).record(TENANT, answer(), ["kb"], [], Provenance("q"))


def test_an_answer_has_no_feedback_until_somebody_gives_some(feedback: Feedback, stored: Answer) -> None:
    assert feedback.get(TENANT, stored.id) is None
    said = feedback.put(TENANT, stored.id, -1, "页码不对", [2, 1, 2])
    assert said == Judgement(stored.id, -1, "页码不对", (1, 2), said.created_at)
    assert feedback.get(TENANT, stored.id) == said
    assert said.created_at >= stored.created_at


def test_the_latest_judgement_is_the_only_one(feedback: Feedback, stored: Answer) -> None:
    feedback.put(TENANT, stored.id, -1, "wrong", [1])
    latest = feedback.put(TENANT, stored.id, 1, None, [])
    assert feedback.get(TENANT, stored.id) == latest == Judgement(stored.id, 1, None, (), latest.created_at)


def test_a_marker_that_the_answer_does_not_have_changes_nothing(feedback: Feedback, stored: Answer) -> None:
    before = feedback.put(TENANT, stored.id, 1, None, [2])
    with pytest.raises(InvalidInput, match=r"no citation \[3\], \[10\]") as raised:
        feedback.put(TENANT, stored.id, -1, "x", [10, 1, 3])
    assert raised.value.data["unknown_citations"] == ["3", "10"]
    assert feedback.get(TENANT, stored.id) == before


def test_a_foreign_answer_is_like_one_that_never_was(feedback: Feedback, stored: Answer) -> None:
    for tenant, answer_id in (("other", stored.id), (TENANT, "unknown")):
        with pytest.raises(NotFound):
            feedback.put(tenant, answer_id, 1, None, [])
        with pytest.raises(NotFound):
            feedback.get(tenant, answer_id)
    assert feedback.get(TENANT, stored.id) is None


def test_many_who_judge_at_once_leave_one_judgement(feedback: Feedback, stored: Answer) -> None:
    works: list[Callable[[], object]] = [lambda n=n: feedback.put(TENANT, stored.id, 1, str(n), [1]) for n in range(6)]
    assert in_threads(*works) == []
    kept = feedback.get(TENANT, stored.id)
    assert kept is not None
    assert kept.comment in set("012345")


def test_judging_while_the_conversation_is_deleted_ends_in_not_found_at_worst(room: Room, feedback: Feedback) -> None:
    answers, conversations = Answers(room.storage.database), Conversations(room.storage.database)
    for _ in range(10):
        made = answers.record(TENANT, answer(), ["kb"], [], Provenance("q"))
        works: list[Callable[[], object]] = [
            lambda i=made.id: feedback.put(TENANT, i, 1, None, []),
            lambda c=made.conversation_id: conversations.delete(TENANT, c),
        ]
        assert {type(error) for error in in_threads(*works)} <= {NotFound}
        with pytest.raises(NotFound):
            feedback.get(TENANT, made.id)
