from __future__ import annotations

import math
import os
import random
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from legs import SOME_TEXT, always, one_way
from numpy.typing import NDArray

from rag_service.errors import InvalidInput, NotFound, StorageFull, WrongDimensions
from rag_service.index import segments
from rag_service.index.bm25 import OWN_RARITY
from rag_service.index.live_view import LiveIndex
from rag_service.ports import (
    Attributes,
    Candidates,
    ChangeFeed,
    Head,
    Index,
    IndexQuery,
    IndexRow,
    Segment,
    VectorSpace,
)
from rag_service.types import EVERYTHING, Concept, PassageFilter, Way

DIMENSIONS = 16
SPACE = VectorSpace("embedder", DIMENSIONS)
WORDS = [f"w{n}" for n in range(30)]


def vector_of(seed: int) -> NDArray[np.float16]:
    row = np.random.default_rng(seed).standard_normal(DIMENSIONS)
    return (row / np.linalg.norm(row)).astype(np.float16)


def row_of(chunk_id: int) -> IndexRow:
    """Short enough (below 40 terms) for tantivy to keep its length exactly."""
    words = random.Random(chunk_id)
    text = " ".join(words.choices(WORDS, k=words.randint(1, 35)))
    return IndexRow(chunk_id, text, vector_of(chunk_id), attributes_of(chunk_id))


def attributes_of(chunk_id: int) -> Attributes:
    """Documents of five chunks, most of one language and type; the older the rarer."""
    number = chunk_id // 5
    media_type = "text/plain" if number % 3 else f"application/x-{number % 9}"
    return Attributes(f"d{number}", "en" if chunk_id % 7 else "zh", media_type, 1.7e9 + math.sqrt(number))


@dataclass(frozen=True)
class Record:
    row: IndexRow
    added: int
    retired: int | None = None


class FakeSnapshot:
    def __init__(self, head: Head, records: Sequence[Record]) -> None:
        self.head = head
        self._records = records

    def added(self, after: int) -> Iterator[IndexRow]:
        return (record.row for record in self._records if record.added > after and record.retired is None)

    def retired(self, after: int) -> list[int]:
        gone = [record for record in self._records if record.retired is not None and record.retired > after]
        return [record.row.chunk_id for record in gone]


class FakeFeed:
    """SQL's part: one knowledge base in memory, each call one transaction.

    It forgets what a new segment makes needless. `outdated` are answers of `head` from just before things changed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.exists = True
        self.hold_folder = False
        self.revision = 0
        self.space = SPACE
        self.segment: Segment | None = None
        self.base_rows: list[IndexRow] = []
        self.outdated: list[Head] = []
        self.snapshots = self.heals = 0
        self._records: dict[int, Record] = {}
        self._lock = threading.RLock()

    def head(self, knowledge_base_id: str) -> Head:
        with self._lock:
            if not self.exists:
                raise NotFound(f"no knowledge base {knowledge_base_id}")
            return self.outdated.pop() if self.outdated else Head(self.revision, self.space, self.segment)

    @contextmanager
    def snapshot(self, knowledge_base_id: str) -> Iterator[FakeSnapshot]:
        with self._lock:
            self.snapshots += 1
            state = FakeSnapshot(Head(self.revision, self.space, self.segment), list(self._records.values()))
        yield state

    def add(self, *chunk_ids: int) -> None:
        with self._lock:
            self.revision += 1
            self._records |= {i: Record(row_of(i), self.revision) for i in chunk_ids}

    def retire(self, *chunk_ids: int) -> None:
        with self._lock:
            self.revision += 1
            for i in chunk_ids:
                self._records[i] = replace(self._records[i], retired=self.revision)

    def live(self) -> list[IndexRow]:
        with self._lock:
            return [record.row for record in self._records.values() if record.retired is None]

    def compact(self, knowledge_base_id: str = "kb") -> Segment:
        with self._lock:
            at, rows = self.revision, self.live()
        segment_id = f"s{at}-{random.getrandbits(48):x}"
        segment = segments.build(self.root, knowledge_base_id, segment_id, at, "embedder", DIMENSIONS, iter(rows))
        with self._lock:
            old, self.segment, self.base_rows = self.segment, segment, rows
            self._records = {
                i: record for i, record in self._records.items() if record.retired is None or record.retired > at
            }
        if old is not None and not self.hold_folder:
            segments.remove(self.root, knowledge_base_id, old.id)
        return segment

    def heal(self, knowledge_base_id: str) -> Segment:
        self.heals += 1
        return self.compact(knowledge_base_id)

    def folder(self) -> Path:
        assert self.segment is not None
        return self.root / "kb" / self.segment.id


def index_over(feed: FakeFeed, heal: Callable[[str], Segment] | None = None) -> LiveIndex:
    return LiveIndex(feed.root, feed, heal or feed.heal)


@pytest.fixture
def feed(tmp_path: Path) -> FakeFeed:
    return FakeFeed(tmp_path)


QUERY_SEED = 10_000
BILINGUAL = (
    Concept((Way(("w3",)), Way(("w4", "w5"), 0.7))),
    Concept((Way(("w2",)), Way(("no",), 0.4)), 0.5),
    Concept((Way(("no", "nor")),)),
)


def query(seed: int = QUERY_SEED) -> IndexQuery:
    return IndexQuery(vector_of(seed).astype(np.float32), one_way("w1", "w2"), BILINGUAL)


def ask(index: Index, limit: int = 10, asked: IndexQuery | None = None) -> Candidates:
    return index.search("kb", always(asked or query()), limit)


def ids(candidates: Candidates) -> set[int]:
    return {hit.chunk_id for hit in candidates.hits}


def assert_exact(feed: FakeFeed, got: Candidates, limit: int, asked: IndexQuery | None = None) -> None:
    """Against brute force over the live rows, in textbook arithmetic."""
    asked = asked or query()
    live = {row.chunk_id: row for row in feed.live()}
    vector = asked.vector.astype(np.float64)
    dense = {i: float(row.vector.astype(np.float64) @ vector) for i, row in live.items()}
    reference = Reference(feed, live)
    live = {i: row for i, row in live.items() if lets_through(asked.only, row.attributes)}
    dense = {i: score for i, score in dense.items() if i in live}
    words, words_most = reference.scores(asked.words, live)
    bilingual, bilingual_most = reference.scores(asked.concepts, live)
    assert got.revision == feed.revision
    assert [concept.most for concept in got.weighed.words] == pytest.approx(words_most)
    assert [concept.most for concept in got.weighed.concepts] == pytest.approx(bilingual_most)
    assert len(ids(got)) == len(got.hits)
    assert ids(got) <= set(live)
    for hit in got.hits:
        assert hit.dense == pytest.approx(max(0.0, dense[hit.chunk_id]), abs=1e-5)
        assert hit.lexical == pytest.approx(words[hit.chunk_id], rel=1e-3, abs=1e-5)
        assert hit.bilingual == pytest.approx(bilingual[hit.chunk_id], rel=1e-3, abs=1e-5)
    if limit >= len(live):
        assert ids(got) == set(live)
    else:
        assert_best_of_each_leg(ids(got), limit, dense, words, bilingual)
    assert got.exhausted == (ids(got) == set(live))


def assert_best_of_each_leg(got: set[int], limit: int, dense: dict[int, float], *lexical: dict[int, float]) -> None:
    """Which of equals is among the best is chance; nothing else is."""
    said = [{i: score for i, score in scores.items() if score > 0} for scores in lexical]
    floors = [(scores, sorted(scores.values())[-limit:][0]) for scores in (dense, *said) if scores]
    for scores, floor in floors:
        assert {i for i, score in scores.items() if score > floor + 1e-5} <= got
    for i in got:
        assert any(scores.get(i, -1.0) > floor - 1e-5 for scores, floor in floors)
    assert len(got) <= 3 * limit


def lets_through(only: PassageFilter, attributes: Attributes) -> bool:
    return (
        (only.document_ids is None or attributes.document_id in only.document_ids)
        and (only.languages is None or attributes.language in only.languages)
        and (only.media_types is None or attributes.media_type in only.media_types)
        and (only.created_from is None or attributes.created_at >= only.created_from)
        and (only.created_before is None or attributes.created_at < only.created_before)
    )


class Reference:
    """Statistics over the base as it was written and the live tail; the average length is the base's, if it has one."""

    def __init__(self, feed: FakeFeed, live: dict[int, IndexRow]) -> None:
        base = {row.chunk_id: row.text.split() for row in feed.base_rows}
        tail = {i: row.text.split() for i, row in live.items() if i not in base}
        self._counted = base | tail
        self._average = float(np.mean([len(said) for said in (base or tail).values()])) if self._counted else 1.0

    def scores(self, leg: Sequence[Concept], chunks: Iterable[int]) -> tuple[dict[int, float], list[float]]:
        """By chunk its share of what could be scored, and what each concept is worth."""
        weighed = [self._weighed(concept) for concept in leg]
        most = [max(weights.values(), default=vain) for weights, vain in weighed]
        scores = {
            i: sum(max((w * self._tf(term, i) for term, w in weights.items()), default=0.0) for weights, _ in weighed)
            for i in chunks
        }
        return {i: score / (2.2 * sum(most) or 1.0) for i, score in scores.items()}, most

    def _weighed(self, concept: Concept) -> tuple[dict[str, float], float]:
        """By its rarest term each way's weight, of those that occur; and what the concept is worth in vain."""
        rarest = {min(way.terms, key=self._df): way.factor for way in reversed(concept.ways)}
        rarest = {term: factor for term, factor in rarest.items() if self._df(term)}
        together = self._idf(min(len(self._counted), sum(map(self._df, rarest))))
        return {
            term: concept.weight * factor * (OWN_RARITY * self._idf(self._df(term)) + (1 - OWN_RARITY) * together)
            for term, factor in rarest.items()
        }, concept.weight * self._idf(0)

    def _df(self, term: str) -> int:
        return sum(term in said for said in self._counted.values())

    def _idf(self, df: int) -> float:
        return math.log(1 + (len(self._counted) - df + 0.5) / (df + 0.5))

    def _tf(self, term: str, chunk_id: int) -> float:
        said = self._counted[chunk_id]
        tf = said.count(term)
        return 2.2 * tf / (tf + 1.2 * (0.25 + 0.75 * len(said) / self._average))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 40)),
        st.tuples(st.just("retire"), st.integers(1, 25)),
        st.tuples(st.just("compact"), st.just(0)),
        st.tuples(st.just("damage"), st.integers(0, 10_000)),
        st.tuples(st.just("delete"), st.just(0)),
        st.tuples(st.just("restart"), st.just(0)),
    ),
    min_size=1,
    max_size=14,
)
TERMS = st.sampled_from([*WORDS, "no"])
# Ways of one concept that are scored by the same term are one to the reference: each term in one way at most.
CONCEPTS = st.lists(TERMS, min_size=1, max_size=6, unique=True).flatmap(
    lambda terms: st.builds(
        lambda cuts, factors, weight: Concept(_cut(terms, cuts, factors), weight),
        st.lists(st.booleans(), min_size=len(terms), max_size=len(terms)),
        st.lists(st.sampled_from([1.0, 0.8, 0.3]), min_size=len(terms), max_size=len(terms)),
        st.sampled_from([1.0, 0.3]),
    )
)
# Documents of the first steps; everything of a kind, some, and nothing.
DOCUMENTS = st.builds(lambda step, n: f"d{200 * step + n}", st.integers(0, 5), st.integers(0, 8))
TIMES = st.none() | st.integers(0, 40).map(lambda n: 1.7e9 + n)
FILTERS = st.builds(
    PassageFilter,
    st.none() | st.frozensets(DOCUMENTS, max_size=40),
    st.none() | st.frozensets(st.sampled_from(["zh", "en", "fr"])),
    st.none() | st.frozensets(st.sampled_from(["text/plain", "application/x-0", "application/x-3", "no/thing"])),
    TIMES,
    TIMES,
)
QUESTIONS = st.tuples(
    st.sampled_from([1, 3, 10, 64, 500]),
    st.builds(
        lambda seed, words, concepts, only: replace(
            query(seed), words=one_way(*words), concepts=tuple(concepts), only=only
        ),
        st.integers(10_000, 10_050),
        st.lists(TERMS, max_size=6),
        st.lists(CONCEPTS, max_size=4),
        st.just(EVERYTHING) | FILTERS,
    ),
)


def _cut(terms: list[str], cuts: list[bool], factors: list[float]) -> tuple[Way, ...]:
    """`terms` as ways, one begun at every cut."""
    ways: list[list[str]] = []
    for term, cut in zip(terms, cuts, strict=True):
        if cut or not ways:
            ways.append([])
        ways[-1].append(term)
    return tuple(Way(tuple(way), factor) for way, factor in zip(ways, factors, strict=False))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS, st.lists(QUESTIONS, min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_any_history_searches_like_brute_force(
    steps: list[tuple[str, int]], questions: list[tuple[int, IndexQuery]], choice: random.Random
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        feed = FakeFeed(Path(folder))
        index = index_over(feed)
        for step, number in steps:
            _take(feed, index, step, number, choice)
            for limit, asked in questions:
                assert_exact(feed, ask(index, limit, asked), limit, asked)


def _take(feed: FakeFeed, index: LiveIndex, step: str, number: int, choice: random.Random) -> None:
    if step == "add":
        first = feed.revision * 1000 + 1
        feed.add(*range(first, first + number))
    elif step == "retire":
        live = [row.chunk_id for row in feed.live()]
        feed.retire(*choice.sample(live, min(number, len(live))))
    elif step == "compact":
        feed.compact()
    elif step == "restart":
        index.drop("kb")
    elif feed.segment is not None and step == "damage":
        _damage(feed, number)
        index.drop("kb")
    elif feed.segment is not None and step == "delete":
        shutil.rmtree(feed.folder())
        index.drop("kb")


def _damage(feed: FakeFeed, number: int) -> None:
    assert feed.segment is not None
    files = [file for file in feed.segment.files if file.bytes]
    file = files[number % len(files)]
    path = feed.folder() / file.path
    content = bytearray(path.read_bytes())
    content[number % len(content)] ^= 0x40
    replacement = path.with_suffix(".new")
    replacement.write_bytes(content)
    os.replace(replacement, path)


def test_the_live_index_is_an_index_and_the_fake_feed_a_feed(feed: FakeFeed) -> None:
    port: ChangeFeed = feed
    index: Index = LiveIndex(feed.root, port, feed.heal)
    assert ask(index) == Candidates(0, (), True, ask(index).weighed)


SHARES = {
    "nothing": PassageFilter(document_ids=frozenset({"none such"})),
    "no language": PassageFilter(languages=frozenset()),
    "nobody's language": PassageFilter(languages=frozenset({"fr"})),
    "nobody's type": PassageFilter(media_types=frozenset({"no/thing"})),
    "one document": PassageFilter(document_ids=frozenset({"d17"})),
    "one document and one of the tail": PassageFilter(document_ids=frozenset({"d17", "d85"})),
    "a seventh": PassageFilter(languages=frozenset({"zh"})),
    "a type of a few": PassageFilter(media_types=frozenset({"application/x-6"})),
    "most": PassageFilter(languages=frozenset({"en"}), media_types=frozenset({"text/plain"})),
    "a time": PassageFilter(created_from=1.7e9 + 5, created_before=1.7e9 + 6),
    "the time of one document": PassageFilter(created_from=1.7e9 + 5, created_before=math.nextafter(1.7e9 + 5, 2e9)),
    "no time": PassageFilter(created_from=1.7e9 + 5, created_before=1.7e9 + 5),
    "everything that came": PassageFilter(created_from=0.0),
}


@pytest.mark.parametrize("only", SHARES.values(), ids=SHARES.keys())
def test_a_filter_is_exact_at_any_selectivity_over_base_tail_and_tombstones(
    feed: FakeFeed, only: PassageFilter
) -> None:
    feed.add(*range(1, 401))
    feed.compact()
    feed.retire(*range(1, 400, 9), 85)
    feed.add(*range(401, 501))
    feed.retire(*range(402, 500, 5))
    index = index_over(feed)
    for limit in (1, 3, 10, 50, 400):
        asked = replace(query(), only=only)
        assert_exact(feed, ask(index, limit, asked), limit, asked)


def test_a_filter_changes_no_score(feed: FakeFeed) -> None:
    feed.add(*range(1, 101))
    feed.compact()
    feed.add(*range(101, 151))
    index = index_over(feed)
    everything = {hit.chunk_id: hit for hit in ask(index, 1_000).hits}
    for only in SHARES.values():
        for hit in ask(index, 20, replace(query(), only=only)).hits:
            unfiltered = everything[hit.chunk_id]
            assert (hit.dense, hit.lexical, hit.bilingual) == pytest.approx(
                (unfiltered.dense, unfiltered.lexical, unfiltered.bilingual), abs=1e-6
            )


def test_a_new_chunk_is_found_and_a_retired_one_gone_at_once(feed: FakeFeed) -> None:
    index = index_over(feed)
    feed.add(1, 2, 3)
    assert ids(ask(index)) == {1, 2, 3}
    feed.retire(2)
    assert ids(ask(index)) == {1, 3}
    feed.compact()
    feed.retire(1)
    feed.add(4)
    assert ids(ask(index)) == {3, 4}


def test_an_unchanged_knowledge_base_costs_no_snapshot(feed: FakeFeed) -> None:
    index = index_over(feed)
    feed.add(1, 2, 3)
    index.preload(["kb"])
    before = feed.snapshots
    ask(index)
    ask(index)
    assert feed.snapshots == before


def test_when_most_of_the_base_is_retired_the_rest_is_still_found(feed: FakeFeed) -> None:
    index = index_over(feed)
    feed.add(*range(1, 401))
    feed.compact()
    feed.retire(*range(1, 396))
    feed.add(401)
    for limit in (1, 3, 5, 6, 7):
        assert_exact(feed, ask(index, limit), limit)


def test_a_view_does_not_depend_on_how_it_came_about(feed: FakeFeed) -> None:
    grown = index_over(feed)
    feed.add(*range(1, 100))
    feed.compact()
    for step in range(20):
        feed.add(*range(200 + 10 * step, 210 + 10 * step))
        feed.retire(200 + 10 * step, step + 1)
        ask(grown)
    fresh = index_over(feed)
    left, right = ask(grown, 400), ask(fresh, 400)
    assert {hit.chunk_id: hit for hit in left.hits} == {hit.chunk_id: hit for hit in right.hits}
    assert grown.status() == fresh.status()


def test_a_deleted_folder_is_healed_once_and_only_once(feed: FakeFeed) -> None:
    feed.add(*range(1, 50))
    feed.compact()
    shutil.rmtree(feed.folder())
    index = index_over(feed)
    assert len(ids(ask(index, 100))) == 49
    ask(index)
    assert feed.heals == 1
    assert index.status()["kb"].segment_id == feed.segment.id  # type: ignore[union-attr]


def test_a_segment_that_compaction_has_just_replaced_is_not_healed(feed: FakeFeed) -> None:
    feed.add(*range(1, 50))
    feed.compact()

    feed.outdated = [feed.head("kb")] * 2
    feed.compact()
    assert len(ids(ask(index_over(feed), 100))) == 49
    assert feed.heals == 0


@pytest.mark.parametrize("loaded", [False, True])
def test_what_sql_forgets_at_a_compaction_is_not_missed(feed: FakeFeed, loaded: bool) -> None:
    """The head was read just before the compaction, the snapshot just after: its list of the retired is too short."""
    feed.add(*range(1, 50))
    feed.compact()
    index = index_over(feed)
    if loaded:
        ask(index)
    feed.retire(7)
    feed.outdated = [feed.head("kb")] * 2
    if not loaded:
        feed.hold_folder = True
    feed.compact()
    assert ids(ask(index, 100)) == set(range(1, 50)) - {7}


@pytest.mark.parametrize("failure", [StorageFull("disk full"), OSError(5, "input/output error")])
def test_where_even_healing_fails_everything_is_searched_from_sql(feed: FakeFeed, failure: Exception) -> None:
    feed.add(*range(1, 50))
    feed.compact()
    feed.retire(7)
    shutil.rmtree(feed.folder())
    calls = []

    def failing(knowledge_base_id: str) -> Segment:
        calls.append(knowledge_base_id)
        raise failure

    index = index_over(feed, failing)
    assert ids(ask(index, 100)) == set(range(1, 50)) - {7}
    feed.add(60)
    assert 60 in ids(ask(index, 100))
    assert calls == ["kb"]
    feed.compact()
    assert len(ids(ask(index, 100))) == 49
    assert index.status()["kb"].tail_chunks == 0


def test_a_segment_of_other_dimensions_is_rebuilt(feed: FakeFeed) -> None:
    feed.add(1, 2)
    vector = np.ones(DIMENSIONS + 1, dtype=np.float16)
    rows = iter([IndexRow(1, "w1", vector, SOME_TEXT)])
    feed.segment = segments.build(feed.root, "kb", "other", 1, "embedder", DIMENSIONS + 1, rows)
    assert ids(ask(index_over(feed))) == {1, 2}
    assert feed.heals == 1


def test_a_restored_older_database_is_followed_back(feed: FakeFeed) -> None:
    index = index_over(feed)
    feed.add(1)
    feed.add(2)
    assert ids(ask(index)) == {1, 2}
    feed.revision = 1
    feed._records.pop(2)
    assert ids(ask(index)) == {1}


def test_a_knowledge_base_that_is_gone_is_forgotten(feed: FakeFeed) -> None:
    index = index_over(feed)
    feed.add(1)
    ask(index)
    feed.exists = False
    with pytest.raises(NotFound):
        ask(index)
    assert index.status() == {}


def test_a_failing_feed_publishes_nothing_and_the_next_search_recovers(feed: FakeFeed) -> None:
    index = index_over(feed)
    feed.add(1, 2)
    ask(index)
    feed.add(3, 4)
    broken = feed._records[4]
    feed._records[4] = replace(broken, row=replace(broken.row, vector=np.ones(3, dtype=np.float16)))
    with pytest.raises(ValueError, match="shape"):
        ask(index)
    assert index.status()["kb"].tail_chunks == 2
    feed._records[4] = broken
    assert_exact(feed, ask(index), 10)


@pytest.mark.parametrize("vector", [np.zeros(DIMENSIONS + 1), np.zeros((1, DIMENSIONS))])
def test_a_question_of_the_wrong_dimensions_is_refused_by_name(feed: FakeFeed, vector: NDArray[np.float32]) -> None:
    with pytest.raises(WrongDimensions, match="of embedder in the index have 16 dimensions"):
        index_over(feed).search("kb", always(replace(query(), vector=vector.astype(np.float32))), 5)


@pytest.mark.parametrize("vector", [np.full(DIMENSIONS, np.nan), np.full(DIMENSIONS, np.inf)])
def test_a_query_vector_that_is_none_is_refused(feed: FakeFeed, vector: NDArray[np.float32]) -> None:
    with pytest.raises(InvalidInput, match="query vector"):
        index_over(feed).search("kb", always(replace(query(), vector=vector.astype(np.float32))), 5)
    with pytest.raises(InvalidInput, match="limit"):
        ask(index_over(feed), limit=0)


def test_readers_never_see_a_chunk_after_its_retirement_returned(feed: FakeFeed) -> None:
    feed.add(*range(1, 301))
    feed.compact()
    index = index_over(feed)
    retired: set[int] = set()
    added: set[int] = set(range(1, 301))
    done, faults = threading.Event(), []

    def read(seed: int) -> None:
        try:
            while not done.is_set():
                gone, there = set(retired), set(added)
                found = ids(ask(index, 5000, query(seed)))
                if found & gone:
                    faults.append(f"retired seen: {found & gone}")
                if missing := there - found - retired - going:
                    faults.append(f"not seen: {missing}")
        except BaseException as error:
            faults.append(repr(error))
            raise

    going: set[int] = set()
    readers = [threading.Thread(target=read, args=(10_000 + n,)) for n in range(8)]
    for reader in readers:
        reader.start()
    for step in range(60):
        victims = random.Random(step).sample(sorted(added - retired), 7)
        going.update(victims)
        feed.retire(*victims)
        retired.update(victims)
        first = 1000 + 10 * step
        feed.add(*range(first, first + 10))
        added.update(range(first, first + 10))
        if step % 15 == 7:
            feed.compact()
    done.set()
    for reader in readers:
        reader.join()
    assert faults == []
    assert feed.heals == 0
    assert_exact(feed, ask(index, 20), 20)
