"""The circuit breaker alone, with a clock that tests turn."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_service.inference.circuit_breaker import Admission, CircuitBreaker, CircuitOpen


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(failures=3, open_seconds=10.0, clock=clock)


def _fail(breaker: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        breaker.failed(breaker.admit())


def _is_open(breaker: CircuitBreaker) -> bool:
    try:
        breaker.abandoned(breaker.admit())
    except CircuitOpen:
        return True
    return False


def test_it_opens_after_that_many_failures_in_a_row_and_says_for_how_long(breaker: CircuitBreaker, clock: Clock):
    _fail(breaker, 2)
    assert not _is_open(breaker)
    _fail(breaker, 1)
    clock.now += 4
    with pytest.raises(CircuitOpen) as refused:
        breaker.admit()
    assert refused.value.retry_after_seconds == 6
    assert breaker.open_for() == 6


def test_a_success_in_between_starts_the_count_again(breaker: CircuitBreaker):
    _fail(breaker, 2)
    breaker.succeeded(breaker.admit())
    _fail(breaker, 2)
    assert not _is_open(breaker)


def test_what_says_nothing_about_the_engine_is_not_counted(breaker: CircuitBreaker):
    _fail(breaker, 2)
    for _ in range(10):
        breaker.abandoned(breaker.admit())
    assert not _is_open(breaker)
    _fail(breaker, 1)
    assert _is_open(breaker)


def test_half_open_lets_one_probe_through_whose_success_closes(breaker: CircuitBreaker, clock: Clock):
    _fail(breaker, 3)
    clock.now += 10
    probe = breaker.admit()
    with pytest.raises(CircuitOpen):
        breaker.admit()
    breaker.succeeded(probe)
    _fail(breaker, 2)
    assert not _is_open(breaker)


def test_a_probe_that_fails_opens_for_the_whole_time_again(breaker: CircuitBreaker, clock: Clock):
    _fail(breaker, 3)
    clock.now += 10
    _fail(breaker, 1)
    assert breaker.open_for() == 10


def test_a_probe_that_is_abandoned_leaves_room_for_the_next(breaker: CircuitBreaker, clock: Clock):
    _fail(breaker, 3)
    clock.now += 10
    breaker.abandoned(breaker.admit())
    breaker.succeeded(breaker.admit())
    assert not _is_open(breaker)


def test_a_probe_that_begins_to_answer_lets_the_others_in_on_parole(breaker: CircuitBreaker, clock: Clock):
    _fail(breaker, 3)
    clock.now += 10
    breaker.answering(breaker.admit())
    others = [breaker.admit() for _ in range(5)]
    breaker.failed(others[0])
    assert _is_open(breaker)


def test_questions_from_before_it_opened_do_not_prolong_it_but_may_close_it(breaker: CircuitBreaker, clock: Clock):
    early = [breaker.admit() for _ in range(3)]
    _fail(breaker, 3)
    clock.now += 10
    probe = breaker.admit()
    breaker.failed(early[0])
    breaker.abandoned(early[1])
    with pytest.raises(CircuitOpen):
        breaker.admit()
    breaker.succeeded(early[2])
    assert not _is_open(breaker)
    breaker.failed(probe)
    assert not _is_open(breaker)


@given(st.lists(st.sampled_from(["ask", "ok", "bad", "left", "tick"]), max_size=60), st.integers(1, 4))
def test_whatever_happens_it_lets_someone_through_again(events: list[str], failures: int):
    clock = Clock()
    breaker = CircuitBreaker(failures, 10.0, clock)
    under_way: list[Admission] = []
    ends = {"ok": breaker.succeeded, "bad": breaker.failed, "left": breaker.abandoned}
    for happened in events:
        if happened == "tick":
            clock.now += 3
        elif happened in ends and under_way:
            ends[happened](under_way.pop(0))
        elif happened == "ask" and not _is_open(breaker):
            under_way.append(breaker.admit())
        assert 0 <= breaker.open_for() <= 10
    for admission in under_way:
        breaker.abandoned(admission)
    clock.now += 10
    breaker.succeeded(breaker.admit())
    assert breaker.open_for() == 0


def test_of_many_threads_at_once_one_becomes_the_probe(breaker: CircuitBreaker, clock: Clock):
    _fail(breaker, 3)
    clock.now += 10
    admitted: list[Admission] = []
    start = threading.Barrier(16)

    def ask() -> None:
        start.wait()
        try:
            admitted.append(breaker.admit())
        except CircuitOpen:
            return

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(admitted) == 1
