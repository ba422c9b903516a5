from __future__ import annotations

import math
import os
import random
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rag_service.errors import InvalidInput, NotFound, StorageFull
from rag_service.index import segments
from rag_service.index.live_view import LiveIndex
from rag_service.ports import Candidates, ChangeFeed, Head, Index, IndexRow, Segment

DIMENSIONS = 16
WORDS = [f"w{n}" for n in range(30)]


def vector_of(seed: int) -> NDArray[np.float16]:
    row = np.random.default_rng(seed).standard_normal(DIMENSIONS)
    return (row / np.linalg.norm(row)).astype(np.float16)


def row_of(chunk_id: int) -> IndexRow:
    """Short enough (below 40 terms) for tantivy to keep its length exactly."""
    words = random.Random(chunk_id)
    return IndexRow(chunk_id, " ".join(words.choices(WORDS, k=words.randint(1, 35))), vector_of(chunk_id))


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
            return self.outdated.pop() if self.outdated else Head(self.revision, self.segment)

    @contextmanager
    def snapshot(self, knowledge_base_id: str) -> Iterator[FakeSnapshot]:
        with self._lock:
            self.snapshots += 1
            state = FakeSnapshot(Head(self.revision, self.segment), list(self._records.values()))
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
    return LiveIndex(feed.root, feed, DIMENSIONS, heal or feed.heal)


@pytest.fixture
def feed(tmp_path: Path) -> FakeFeed:
    return FakeFeed(tmp_path)


def ask(index: Index, limit: int = 10, seed: int = 10_000, terms: Sequence[str] = ("w1", "w2")) -> Candidates:
    return index.search("kb", vector_of(seed).astype(np.float32), terms, limit)


def ids(candidates: Candidates) -> set[int]:
    return {hit.chunk_id for hit in candidates.hits}


def assert_exact(feed: FakeFeed, got: Candidates, limit: int, seed: int, terms: Sequence[str]) -> None:
    """Against brute force over the live rows, in textbook arithmetic."""
    live = {row.chunk_id: row for row in feed.live()}
    vector = vector_of(seed).astype(np.float32).astype(np.float64)
    dense = {i: float(row.vector.astype(np.float64) @ vector) for i, row in live.items()}
    lexical, weights = _bm25(feed, live, list(dict.fromkeys(terms)))
    assert got.revision == feed.revision
    assert got.term_weights == pytest.approx(weights)
    assert len(ids(got)) == len(got.hits)
    assert ids(got) <= set(live)
    for hit in got.hits:
        assert hit.dense == pytest.approx(max(0.0, dense[hit.chunk_id]), abs=1e-5)
        assert hit.lexical == pytest.approx(lexical[hit.chunk_id], rel=1e-3, abs=1e-5)
    if limit >= len(live):
        assert ids(got) == set(live)
    best_dense = set(sorted(dense, key=lambda i: -dense[i])[:limit])
    ranked = sorted((score for score in lexical.values() if score > 0), reverse=True)[:limit]
    floor = ranked[-1] if ranked else math.inf
    assert best_dense | {i for i in live if lexical[i] > floor + 1e-5} <= ids(got)
    if limit < len(live):
        assert all(lexical[i] > floor - 1e-5 for i in ids(got) - best_dense)
        assert len(ids(got)) <= limit + len(ranked)
    assert got.exhausted == (ids(got) == set(live))


def _bm25(feed: FakeFeed, live: dict[int, IndexRow], terms: list[str]) -> tuple[dict[int, float], dict[str, float]]:
    """Statistics over the base as it was written and the live tail; the average length is the base's, if it has one."""
    base = {row.chunk_id: row.text.split() for row in feed.base_rows}
    tail = {i: row.text.split() for i, row in live.items() if i not in base}
    counted = base | tail
    average = float(np.mean([len(words) for words in (base or tail).values()])) if counted else 1.0
    weights = {}
    for term in terms:
        df = sum(term in words for words in counted.values())
        weights[term] = math.log(1 + (len(counted) - df + 0.5) / (df + 0.5))
    most = 2.2 * sum(weights.values()) or 1.0
    scores: dict[int, float] = {}
    for i, words in ((i, counted[i]) for i in live):
        tf = {term: words.count(term) for term in terms}
        scores[i] = sum(
            weights[t] * 2.2 * tf[t] / (tf[t] + 1.2 * (0.25 + 0.75 * len(words) / average)) / most for t in terms
        )
    return scores, weights


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
QUESTIONS = st.tuples(
    st.sampled_from([1, 3, 10, 64, 500]),
    st.integers(10_000, 10_050),
    st.lists(st.sampled_from([*WORDS, "no"]), max_size=6),
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS, st.lists(QUESTIONS, min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_any_history_searches_like_brute_force(
    steps: list[tuple[str, int]], questions: list[tuple[int, int, list[str]]], choice: random.Random
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        feed = FakeFeed(Path(folder))
        index = index_over(feed)
        for step, number in steps:
            _take(feed, index, step, number, choice)
            for limit, seed, terms in questions:
                assert_exact(feed, ask(index, limit, seed, terms), limit, seed, terms)


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
    index: Index = LiveIndex(feed.root, port, DIMENSIONS, feed.heal)
    assert ask(index) == Candidates(0, (), True, ask(index).term_weights)


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
        assert_exact(feed, ask(index, limit), limit, 10_000, ("w1", "w2"))


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
    rows = iter([IndexRow(1, "w1", vector)])
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
    assert_exact(feed, ask(index), 10, 10_000, ("w1", "w2"))


@pytest.mark.parametrize(
    "vector",
    [np.full(DIMENSIONS, np.nan), np.full(DIMENSIONS, np.inf), np.zeros(DIMENSIONS + 1), np.zeros((1, DIMENSIONS))],
)
def test_a_query_vector_that_is_none_is_refused(feed: FakeFeed, vector: NDArray[np.float32]) -> None:
    with pytest.raises(InvalidInput, match="query vector"):
        index_over(feed).search("kb", vector.astype(np.float32), ["w1"], 5)
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
                found = ids(ask(index, 5000, seed))
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
    assert_exact(feed, ask(index, 20), 20, 10_000, ("w1", "w2"))
