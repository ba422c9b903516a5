"""The past of a knowledge base, searched for a replay: what the live index found then is found again."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from legs import NoTranslations, always, in_words
from rooms import TENANT, Room, open_room, vectors_of

from rag_service.db.passages import PastPassageStore
from rag_service.db.registration import Upload
from rag_service.db.sessions import new_id
from rag_service.errors import NotFound
from rag_service.index.live_view import LiveIndex
from rag_service.index.past import PastIndex
from rag_service.index.rebuild import Rebuilder
from rag_service.inference.use_multilingual import UseMultilingual
from rag_service.ports import Candidates, Index, PassageStore, Vector
from rag_service.retrieval.retriever import Retriever
from rag_service.types import Concept, Hit, PassageFilter, Retrieval, Way, WeighedConcept

DIMENSIONS = UseMultilingual.dimensions
WORDS = [f"w{n}" for n in range(30)]
ROUNDING = 1e-5
EVERYTHING = 100_000
OPEN = PassageFilter()


@dataclass
class Shelf:
    """A knowledge base with everything that changes it, and the live index over it."""

    room: Room
    kb: str
    documents: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        feed = self.room.storage.feed
        self.rebuilder = Rebuilder(self.room.storage.index_root, feed, feed)
        self.live = LiveIndex(self.room.storage.index_root, feed, self.rebuilder.rebuild)

    def put(self, *texts: str) -> str:
        """A new document with one chunk for each text."""
        _, [document_id] = self.room.upload(new_id(), kb=self.kb)
        self.room.publish(self.room.claim_one(), *texts)
        self.documents.append(document_id)
        return document_id

    def replace(self, document_id: str, *texts: str) -> None:
        """A new version of the document."""
        blob = self.room.storage.blobs.put(io.BytesIO(new_id().encode()))
        upload = Upload("next.txt", "text/plain", blob.sha256, blob.bytes)
        self.room.storage.documents.replace(TENANT, document_id, upload, None, self.room.storage.blobs.exists)
        self.room.publish(self.room.claim_one(), *texts)

    def delete(self, document_id: str) -> None:
        self.room.storage.delete_document(TENANT, document_id)

    def compact(self) -> None:
        self.rebuilder.rebuild(self.kb)

    def revision(self) -> int:
        return self.room.storage.feed.head(self.kb).revision

    def base_revision(self) -> int:
        segment = self.room.storage.feed.head(self.kb).segment
        return segment.revision if segment else 0

    def past(self, revision: int, base_revision: int | None = None) -> PastIndex:
        bases = {} if base_revision is None else {self.kb: base_revision}
        return PastIndex(self.room.storage.feed, {self.kb: revision}, bases)

    def ask(self, index: Index, question: Question, limit: int = EVERYTHING) -> Candidates:
        [vector] = vectors_of([question.text])
        query = replace(in_words(vector, question.text), concepts=question.concepts(), only=question.only)
        return index.search(self.kb, always(query), limit)

    def retrieve(self, index: Index, store: PassageStore, query: str) -> Retrieval:
        return Retriever(FakeEmbedders(), index, store, NoTranslations()).retrieve(TENANT, [self.kb], query, 8, OPEN)


@dataclass(frozen=True)
class Question:
    text: str = "w1 w2 w3"
    only: PassageFilter = OPEN

    def concepts(self) -> tuple[Concept, ...]:
        """Its first word, also as a phrase of the others, and what is nowhere."""
        first, *others = self.text.split()
        translated = Way(tuple(others), 0.7, translated=True)
        return (Concept((translated, Way((first,)))), Concept((Way(("nowhere",)),), 0.3))


class FakeEmbedders:
    def embed_query(self, embedder: str, text: str) -> Vector:
        return vectors_of([text])[0]


@pytest.fixture
def shelf(room: Room) -> Shelf:
    return Shelf(room, room.kb)


def words(choice: random.Random) -> str:
    """Of any length up to past where tantivy keeps lengths exactly."""
    return " ".join(choice.choices(WORDS, k=choice.randint(1, 90)))


def ids(found: Candidates) -> set[int]:
    return {hit.chunk_id for hit in found.hits}


def assert_same(past: Candidates, live: Candidates) -> None:
    assert (past.revision, past.exhausted) == (live.revision, live.exhausted)
    assert_same_weights(past.weighed.words, live.weighed.words)
    assert_same_weights(past.weighed.concepts, live.weighed.concepts)
    then = {hit.chunk_id: hit for hit in live.hits}
    assert ids(past) == then.keys()
    for hit in past.hits:
        assert hit.dense == pytest.approx(then[hit.chunk_id].dense, abs=ROUNDING)
        assert hit.lexical == pytest.approx(then[hit.chunk_id].lexical, abs=ROUNDING)
        assert hit.bilingual == pytest.approx(then[hit.chunk_id].bilingual, abs=ROUNDING)


def assert_same_weights(past: Sequence[WeighedConcept], live: Sequence[WeighedConcept]) -> None:
    assert [concept.most for concept in past] == pytest.approx([concept.most for concept in live], abs=1e-9)
    for one, other in zip(past, live, strict=True):
        assert dict(one.ways) == pytest.approx(dict(other.ways), abs=1e-9)


def assert_same_best(past: Candidates, live: Candidates, limit: int) -> None:
    """Which of equals is among the best is chance; nothing else is."""
    legs: list[Callable[[Hit], float]] = [lambda hit: hit.dense, lambda hit: hit.lexical, lambda hit: hit.bilingual]
    for leg in legs:
        best = [sorted((leg(hit) for hit in found.hits), reverse=True)[:limit] for found in (past, live)]
        assert best[0] == pytest.approx(best[1], abs=ROUNDING)


STEPS = st.lists(st.sampled_from(["put", "put many", "replace", "compact", "ask"]), min_size=4, max_size=14)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, seed=st.integers(0, 2**32), limit=st.integers(1, 12))
def test_any_past_is_searched_as_the_live_index_searched_it(
    one_room: Room, steps: list[str], seed: int, limit: int
) -> None:
    choice = random.Random(seed)
    shelf = Shelf(one_room, one_room.storage.knowledge_bases.create(TENANT, new_id()).id)
    asked = []
    for step in ["put", *steps, "ask", "replace", "put", "compact"]:
        if step == "put":
            shelf.put(words(choice))
        elif step == "put many":
            shelf.put(*(words(choice) for _ in range(choice.randint(2, 9))))
        elif step == "replace":
            shelf.replace(choice.choice(shelf.documents), words(choice), words(choice))
        elif step == "compact":
            shelf.compact()
        else:
            some = frozenset(choice.sample(shelf.documents, choice.randint(1, len(shelf.documents))))
            question = Question(
                " ".join([*choice.sample(WORDS, 3), "unheard-of"]), choice.choice([OPEN, PassageFilter(some)])
            )
            whole, best = (shelf.ask(shelf.live, question, n) for n in (EVERYTHING, limit))
            asked.append((question, shelf.base_revision(), whole, best))

    for question, base_revision, whole, best in asked:
        past = shelf.past(whole.revision, base_revision)
        assert_same(shelf.ask(past, question), whole)
        assert_same_best(shelf.ask(past, question, limit), best, limit)


@pytest.fixture(scope="module")
def one_room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """SQLite, for the many examples of one test."""
    with open_room(tmp_path_factory.mktemp("past")) as opened:
        yield opened


def test_documents_that_came_and_went_since_change_nothing(shelf: Shelf) -> None:
    choice = random.Random(1)
    for _ in range(20):
        shelf.put(words(choice))
    shelf.compact()
    for _ in range(3):
        shelf.put(words(choice))
    base_revision, live = shelf.base_revision(), shelf.ask(shelf.live, Question())
    later = [shelf.put(words(choice)) for _ in range(9)]
    shelf.delete(later[0])
    shelf.compact()
    shelf.delete(later[1])

    assert_same(shelf.ask(shelf.past(live.revision, base_revision), Question()), live)
    assert ids(shelf.ask(shelf.live, Question())) != ids(live)


def test_a_replayed_retrieval_has_the_same_passages_in_the_same_order(shelf: Shelf) -> None:
    choice = random.Random(2)
    for _ in range(30):
        shelf.put(words(choice))
    shelf.compact()
    shelf.replace(shelf.documents[3], words(choice))
    shelf.put(words(choice))
    base_revision = shelf.base_revision()
    live = shelf.retrieve(shelf.live, shelf.room.store, "w4 w5 w6")
    for ranked in live.passages[:4]:
        shelf.replace(ranked.passage.document_id, "something else entirely")
    for _ in range(30):
        shelf.put(words(choice))
    shelf.compact()

    store = PastPassageStore(shelf.room.storage.database, live.revision)
    past = shelf.retrieve(shelf.past(live.revision[shelf.kb], base_revision), store, "w4 w5 w6")

    assert [ranked.passage for ranked in past.passages] == [ranked.passage for ranked in live.passages]
    assert [ranked.score for ranked in past.passages] == pytest.approx([r.score for r in live.passages], abs=ROUNDING)
    now = shelf.retrieve(shelf.live, shelf.room.store, "w4 w5 w6")
    assert [ranked.passage for ranked in now.passages] != [ranked.passage for ranked in live.passages]


def test_without_the_base_that_was_searched_lexical_scores_are_near_and_dense_ones_equal(shelf: Shelf) -> None:
    choice = random.Random(3)
    for _ in range(50):
        shelf.put(words(choice))
    shelf.compact()
    for _ in range(10):
        shelf.put(words(choice))
    live = {hit.chunk_id: hit for hit in shelf.ask(shelf.live, Question()).hits}

    past = shelf.ask(shelf.past(shelf.revision()), Question())

    assert max(abs(hit.dense - live[hit.chunk_id].dense) for hit in past.hits) < ROUNDING
    furthest = max(abs(hit.lexical - live[hit.chunk_id].lexical) for hit in past.hits)
    assert ROUNDING < furthest < 0.05


@pytest.mark.parametrize("compacted", [False, True], ids=["tombstones", "forgotten"])
def test_a_deleted_document_is_found_in_no_past(shelf: Shelf, compacted: bool) -> None:
    doomed, kept = shelf.put("w1 w1 w1"), shelf.put("w1 w2")
    revision, moment = shelf.revision(), shelf.room.storage.documents.get(TENANT, kept).updated_at
    before = ids(shelf.ask(shelf.past(revision), Question()))
    shelf.delete(doomed)
    if compacted:
        shelf.compact()

    after = ids(shelf.ask(shelf.past(revision), Question()))

    store = PastPassageStore(shelf.room.storage.database, {shelf.kb: revision})
    assert len(before) == 2
    assert {p.document_id for p in store.passages(TENANT, [shelf.kb], list(before), OPEN).values()} == {kept}
    assert after == before & store.passages(TENANT, [shelf.kb], list(before), OPEN).keys()
    assert shelf.room.storage.feed.deleted_since([shelf.kb], moment) == 1
    assert shelf.room.storage.feed.deleted_since(["other"], moment) == 0


def test_the_gate_of_the_past_lets_through_what_was_live_then_and_nothing_else(shelf: Shelf) -> None:
    document = shelf.put("old")
    shelf.replace(document, "new")
    shelf.put("later")
    every = range(1, 20)

    def let_through(revision: int, tenant: str = TENANT, only: PassageFilter = OPEN) -> set[tuple[str, int]]:
        store = PastPassageStore(shelf.room.storage.database, {shelf.kb: revision, "gone": 9})
        found = store.passages(tenant, [shelf.kb, "gone"], every, only).values()
        return {(passage.text, passage.document_version) for passage in found}

    assert let_through(0) == set()
    assert let_through(1) == {("old", 1)}
    assert let_through(2) == {("new", 2)}
    assert let_through(3) == {("new", 2), ("later", 1)}
    assert let_through(3, tenant="other") == set()
    assert let_through(3, only=PassageFilter(document_ids=frozenset({document}))) == {("new", 2)}
    nothing = PastPassageStore(shelf.room.storage.database, {})
    assert nothing.passages(TENANT, [shelf.kb], every, OPEN) == {}


def test_a_past_that_nobody_knows_is_not_found(shelf: Shelf) -> None:
    shelf.put("w1")
    with pytest.raises(NotFound):
        shelf.ask(shelf.past(2), Question())
    with pytest.raises(NotFound):
        shelf.ask(PastIndex(shelf.room.storage.feed, {}, {}), Question())
    shelf.room.storage.delete_knowledge_base(TENANT, shelf.kb)
    with pytest.raises(NotFound):
        shelf.ask(shelf.past(1), Question())


def test_an_empty_past_has_nothing(shelf: Shelf) -> None:
    shelf.put("w1")
    found = shelf.ask(shelf.past(0), Question())
    assert (found.revision, found.hits, found.exhausted) == (0, (), True)


def test_going_deeper_with_the_same_question_reads_nothing_again(shelf: Shelf) -> None:
    shelf.put(*(f"w1 {n}" for n in range(20)))
    past = shelf.past(1)
    shallow = shelf.ask(past, Question(), 2)
    shelf.room.storage.delete_knowledge_base(TENANT, shelf.kb)
    assert ids(shallow) < ids(shelf.ask(past, Question()))
