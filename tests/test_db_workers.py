"""Which ingestion workers live, on SQLite and on PostgreSQL."""

from __future__ import annotations

from rooms import Room
from sqlalchemy import func, select, update

from rag_service.db.tables import workers


def age(room: Room, name: str, seconds: float) -> None:
    with room.storage.database.write() as connection:
        earlier = workers.c.heartbeat_at - seconds
        connection.execute(update(workers).where(workers.c.name == name).values(heartbeat_at=earlier))


def test_without_a_worker_there_is_no_heartbeat(room: Room) -> None:
    assert room.storage.workers.seconds_since_beat() is None


def test_the_youngest_heartbeat_of_any_worker_counts(room: Room) -> None:
    for name in ("one", "two"):
        room.storage.workers.beat(name)
    age(room, "one", 100)
    since = room.storage.workers.seconds_since_beat()
    assert since is not None
    assert 0 <= since < 20
    age(room, "two", 50)
    since = room.storage.workers.seconds_since_beat()
    assert since is not None
    assert 50 <= since < 70


def test_a_worker_beats_as_often_as_it_likes_and_leaves(room: Room) -> None:
    for _ in range(3):
        room.storage.workers.beat("one")
    room.storage.workers.leave("one")
    assert room.storage.workers.seconds_since_beat() is None


def test_workers_that_died_long_ago_are_forgotten(room: Room) -> None:
    room.storage.workers.beat("dead")
    room.storage.workers.beat("lately")
    age(room, "dead", 90_000)
    age(room, "lately", 80_000)
    room.storage.workers.beat("alive")
    with room.storage.database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(workers)) == 2
