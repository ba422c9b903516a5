"""What a worker has in hand: the claims whose leases it keeps, the leash of each, and the worker's own heartbeat."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from ingest.sandbox import Leash
from rag_service.db.jobs import Claim, Jobs
from rag_service.db.workers import Workers
from rag_service.errors import Overloaded, StorageFull

log = logging.getLogger(__name__)

_LONGEST_BEAT_SECONDS = 5.0


@dataclass(slots=True)
class _Held:
    leash: Leash = field(default_factory=Leash)
    characters: int = 0


class Leases:
    """Thread-safe. `keep` runs in a thread of its own: a parse cannot block it."""

    def __init__(self, jobs: Jobs, workers: Workers, worker: str, lease_seconds: float) -> None:
        self._jobs = jobs
        self._workers = workers
        self._worker = worker
        self._lease_seconds = lease_seconds
        self._lock = threading.Lock()
        self._held: dict[Claim, _Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    def take(self, claims: Iterable[Claim]) -> None:
        with self._lock:
            self._held.update((claim, _Held()) for claim in claims)

    def forget(self, claim: Claim) -> None:
        with self._lock:
            self._held.pop(claim, None)

    def leash(self, claim: Claim) -> Leash:
        return self._held[claim].leash

    def take_over(self, claim: Claim, characters: int) -> None:
        """Its parse has ended with a text of so many characters: should it have been let go of, that came too late."""
        with self._lock:
            self._held[claim] = _Held(characters=characters)

    def characters(self) -> int:
        with self._lock:
            return sum(held.characters for held in self._held.values())

    def let_go(self, claim: Claim) -> bool:
        """End its parse, should that still run. False where that was done before, or it was finished since."""
        with self._lock:
            held = self._held.get(claim)
            if held is None or held.leash.is_let_go:
                return False
            held.leash.let_go()
            return True

    def let_go_of_all(self) -> None:
        with self._lock:
            for held in self._held.values():
                held.leash.let_go()

    def keep(self, ended: threading.Event) -> None:
        """Beat and renew every few seconds until `ended`. A claim that was lost or cancelled meanwhile is let go of."""
        beat_seconds = min(self._lease_seconds / 3, _LONGEST_BEAT_SECONDS)
        while True:
            try:
                self._workers.beat(self._worker)
                self._renew()
            except (StorageFull, Overloaded) as error:
                # Leases outlive two beats missed; nobody else can claim either while the database takes no writes.
                log.error("leases not renewed: %s", error.detail)
            if ended.wait(beat_seconds):
                return self._leave()

    def _renew(self) -> None:
        with self._lock:
            claims = list(self._held)
        if not claims:
            return
        still = set(self._jobs.renew(claims, self._lease_seconds))
        for claim in claims:
            # More often than not it was finished since the list was made.
            if claim not in still and self.let_go(claim):
                log.debug("document %s: cancelled, or no longer this worker's", claim.document_id)

    def _leave(self) -> None:
        try:
            self._workers.leave(self._worker)
        except (StorageFull, Overloaded) as error:
            log.error("could not sign off: %s", error.detail)
