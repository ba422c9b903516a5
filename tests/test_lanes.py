"""The feedback queue of parses, driven by hand and by random work: nobody starves, no lane is over its places."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.lanes import Lanes, Orders

SLICE, PATIENCE = 1.0, 15.0


def lanes(fast_places: int = 2) -> Lanes:
    made = Lanes(fast_places, SLICE, PATIENCE)
    made.looked_for_slow(0.0)
    return made


def test_as_many_begin_as_there_are_fast_places() -> None:
    made = lanes(3)
    assert made.orders(5, 0.0) == Orders(3)
    for key in range(3):
        made.begin(key, 0.0)
    assert made.orders(2, 0.9) == Orders(0)
    assert not made.may_start(0.9)


def test_a_long_parse_keeps_its_place_while_nobody_needs_it() -> None:
    made = lanes(1)
    made.begin(1, 0.0)
    assert made.orders(0, 100.0) == Orders(0)
    assert made.may_start(100.0)


def test_long_parses_are_moved_aside_while_there_are_slow_places_and_then_ended_once() -> None:
    made = lanes(1)
    for key in (1, 2, 3):
        now = 2.0 * key
        assert made.orders(1, now) == Orders(1)
        made.begin(key, now)
    assert made.orders(1, 8.0) == Orders(0, (3,))
    assert made.orders(1, 8.1) == Orders(0)
    made.end(3)
    assert made.orders(1, 8.2) == Orders(1)


def test_slow_documents_begin_when_nothing_fast_waits() -> None:
    made = lanes()
    assert made.slow_may_start(1.0, quiet=True)
    assert not made.slow_may_start(1.0, quiet=False)
    made.begin(1, 1.0, slow=True)
    made.begin(2, 1.0, slow=True)
    assert not made.slow_may_start(1.0, quiet=True)


def test_a_slow_place_is_kept_for_those_given_back_when_nobody_has_looked_for_them() -> None:
    made = lanes(1)
    made.begin(1, PATIENCE - 1)
    assert made.slow_may_start(PATIENCE, quiet=False)
    assert made.orders(1, PATIENCE) == Orders(0, (1,))
    made.looked_for_slow(PATIENCE)
    assert not made.slow_may_start(PATIENCE + 1, quiet=False)


@dataclass
class Simulation:
    """A machine that works by the orders of the lanes in steps of a quarter slice."""

    fast_places: int
    durations: list[float]
    now: float = 0.0
    waiting: list[int] = field(default_factory=list)
    slow: list[int] = field(default_factory=list)
    running: dict[int, tuple[float, bool]] = field(default_factory=dict)
    finished: dict[int, float] = field(default_factory=dict)
    restarts: dict[int, int] = field(default_factory=dict)

    def run(self) -> None:
        made = Lanes(self.fast_places, SLICE, PATIENCE)
        self.waiting = list(range(len(self.durations)))
        for _ in itertools.takewhile(lambda _: len(self.finished) < len(self.durations), itertools.count()):
            self._end_finished(made)
            self._begin_slow(made)
            self._obey(made)
            self._check(made)
            self.now += SLICE / 4

    def _end_finished(self, made: Lanes) -> None:
        for key, (begun, _) in list(self.running.items()):
            if self.now - begun >= self.durations[key]:
                made.end(key)
                del self.running[key]
                self.finished[key] = self.now

    def _begin_slow(self, made: Lanes) -> None:
        if made.slow_may_start(self.now, quiet=not self.waiting):
            made.looked_for_slow(self.now)
            if self.slow:
                self._begin(made, self.slow.pop(0), slow=True)

    def _obey(self, made: Lanes) -> None:
        orders = made.orders(len(self.waiting), self.now)
        assert orders.start <= len(self.waiting)
        for key in orders.end:
            assert not self.running[key][1], "one that was given back before is never driven out again"
            assert self.now - self.running[key][0] >= SLICE
            made.end(key)
            del self.running[key]
            self.slow.append(key)
            self.restarts[key] = self.restarts.get(key, 0) + 1
        for _ in range(orders.start):
            self._begin(made, self.waiting.pop(0))

    def _begin(self, made: Lanes, key: int, *, slow: bool = False) -> None:
        made.begin(key, self.now, slow=slow)
        self.running[key] = (self.now, slow)

    def _check(self, made: Lanes) -> None:
        assert len(made) == len(self.running) <= made.fast_places + made.slow_places


work = st.lists(st.sampled_from([0.1, 0.1, 0.1, 0.5, 1.5, 7.0, 120.0]), max_size=60)


@given(st.integers(1, 6), work)
@settings(max_examples=150, deadline=None)
def test_everything_is_finished_within_its_places_and_begun_again_at_most_once(
    fast_places: int, durations: list[float]
) -> None:
    simulation = Simulation(fast_places, durations)
    simulation.run()
    assert set(simulation.restarts.values()) <= {1}


@given(st.integers(1, 6), work)
@settings(max_examples=150, deadline=None)
def test_a_short_document_waits_no_more_than_a_slice_or_so_for_each_one_before_it(
    fast_places: int, durations: list[float]
) -> None:
    simulation = Simulation(fast_places, durations)
    simulation.run()
    for key, duration in enumerate(durations):
        if duration < SLICE:
            rounds = key // fast_places + 1
            assert simulation.finished[key] <= rounds * (SLICE + 3 * SLICE / 4)


@given(st.integers(1, 4))
@settings(deadline=None)
def test_slow_documents_do_not_starve_under_an_endless_stream_of_fast_ones(fast_places: int) -> None:
    simulation = Simulation(fast_places, [7.0] * 8 + [0.5] * 600 * fast_places)
    simulation.run()
    stream_ends = max(simulation.finished.values())
    assert all(simulation.finished[key] < 0.9 * stream_ends for key in range(8))
