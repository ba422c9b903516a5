"""The worker: claims documents, keeps their leases, and runs the pipeline with its steps overlapped.

Several documents are parsed at once, by rules that let none hold up the others (`ingest.lanes`); one thread embeds,
some texts of each document in turn; one publishes. Short queues lie between. The embedding is most of the work and is
done by a process of its own (see `ingest.embedding`). Another thread renews the leases of everything under way
(`ingest.leases`).
"""

from __future__ import annotations

import errno
import logging
import os
import queue
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from ingest import lanes
from ingest.lanes import Lanes
from ingest.leases import Leases
from ingest.pipeline import Embedded, Embedding, Pipeline, Prepared
from ingest.sandbox import ParseAbandoned
from rag_service.db.jobs import Claim, Jobs
from rag_service.db.problems import of
from rag_service.db.workers import Workers
from rag_service.errors import (
    EmbedderChanged,
    EmbedderTimeout,
    EmbedderUnavailable,
    LeaseLost,
    Overloaded,
    StorageFull,
    YoujuError,
)
from rag_service.types import ParsedDocument, Problem

log = logging.getLogger(__name__)

_CLAIM_AT_ONCE = 8
_MOST_PARSED = 32
_MOST_PARSED_CHARACTERS = 150_000_000
_QUEUED_BETWEEN_STEPS = 16
_BREATH_SECONDS = 2.0
_LOOK_UP_SECONDS = 0.5
_GLANCE_SECONDS = 0.005
_LONGEST_PAUSE_SECONDS = 300.0
_OF_THE_MACHINE = frozenset(
    {errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE}
)
"""No space, memory, process or descriptor to be had, or a disk that fails: no document brings that about."""
_MOST_UNREADABLE = 12
"""So often in a row a document may meet a failing disk before it counts: its own bytes may be what cannot be read."""
END: Final = object()
"""What a step hands on after its last document."""
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class _Parse:
    """It has ended. `made` is None where the document goes no further; one claimed before is not prepared yet."""

    claim: Claim
    made: Prepared | ParsedDocument | None


class Worker:
    """`idle_seconds` is how long an idle worker waits before it looks again."""

    def __init__(
        self,
        jobs: Jobs,
        workers: Workers,
        pipeline: Pipeline,
        lease_seconds: float,
        parse_at_once: int = 4,
        idle_seconds: float = 0.1,
    ) -> None:
        self._jobs = jobs
        self._pipeline = pipeline
        self._lease_seconds = lease_seconds
        self._idle_seconds = idle_seconds
        self.name = f"{socket.gethostname()}:{os.getpid()}:{id(self):x}"
        self._leases = Leases(jobs, workers, self.name, lease_seconds)
        self._lanes = Lanes(parse_at_once, lanes.SLICE_SECONDS, lanes.PATIENCE_SECONDS)
        self._stopping = threading.Event()
        self._faults: list[BaseException] = []
        self._met: Counter[int] = Counter()
        self._waiting: deque[Claim] = deque()
        self._parsing: dict[int, Claim] = {}
        self._parses: queue.SimpleQueue[_Parse] = queue.SimpleQueue()
        self._stirred = threading.Event()
        self._prepared: queue.Queue[Any] = queue.Queue(_QUEUED_BETWEEN_STEPS)
        self._embedded: queue.Queue[Any] = queue.Queue(_QUEUED_BETWEEN_STEPS)

    def stop(self) -> None:
        """Begin no further document; what is under way is finished, a long parse given back. Safe from a signal."""
        self._stopping.set()

    def run(self, job_id: str | None = None) -> None:
        """Work until `stop()`, or, given a job, until nothing of it is left to claim or under way.

        A fault that is no document's own (the database is gone, say) ends the run and is raised.
        """
        ended = threading.Event()
        with ThreadPoolExecutor(4, thread_name_prefix="ingest") as threads:
            threads.submit(self._guarded, self._leases.keep, ended)
            steps = [
                threads.submit(self._guarded, self._prepare_all, job_id),
                threads.submit(self._guarded, self._embed_all),
                threads.submit(self._guarded, self._publish_all),
            ]
            wait(steps)
            ended.set()
        if self._faults:
            raise self._faults[0]

    def _guarded(self, step: Callable[..., None], *arguments: object) -> None:
        try:
            step(*arguments)
        except BaseException as error:  # noqa: BLE001 - raised again by `run`
            # The other steps would wait for ever for one that is gone.
            self._faults.append(error)

    # Parsing: one thread decides, and is the only one to touch the lanes and what waits for them.

    def _prepare_all(self, job_id: str | None) -> None:
        places = self._lanes.fast_places + self._lanes.slow_places
        with ThreadPoolExecutor(places, thread_name_prefix="parse") as threads:
            while not self._faults and not self._stopping.is_set():
                self._settle_ended()
                found = self._look_for_work(job_id, threads)
                if self._stopping.is_set():
                    # Told while the parser started: what was claimed before is given back.
                    break
                self._start_waiting(threads)
                if not found and self._is_finished(job_id):
                    break
                if not found or self._waiting:
                    self._pause()
            self._wind_down()
        self._hand_on(self._prepared, END)

    def _look_for_work(self, job_id: str | None, threads: ThreadPoolExecutor) -> bool:
        """Whether anything was claimed."""
        if self._is_full():
            return False
        now, found, quiet = time.monotonic(), False, False
        if not self._waiting and self._lanes.may_start(now):
            self._waiting.extend(self._claim(_CLAIM_AT_ONCE, job_id, slow=False))
            found = bool(self._waiting)
            quiet = not found
        if self._lanes.slow_may_start(now, quiet):
            slow = self._claim(1, job_id, slow=True)
            self._lanes.looked_for_slow(now)
            for claim in slow:
                self._begin(claim, threads, slow=True)
            found = found or bool(slow)
        return found

    def _claim(self, limit: int, job_id: str | None, *, slow: bool) -> list[Claim]:
        claim = partial(self._jobs.claim, self.name, self._lease_seconds, limit, job_id, slow=slow)
        claims = self._insist(claim) or []
        self._leases.take(claims)
        if claims:
            self._warm_up(claims)
        return claims

    def _warm_up(self, claims: Sequence[Claim]) -> None:
        """Before their time runs: what is loaded first is not theirs to answer for."""
        try:
            self._pipeline.warm_up(claims[0].knowledge_base_id)
        except OSError:
            self._give_back(claims)
            raise

    def _start_waiting(self, threads: ThreadPoolExecutor) -> None:
        orders = self._lanes.orders(len(self._waiting), time.monotonic())
        self._end(orders.end)
        for _ in range(orders.start):
            self._begin(self._waiting.popleft(), threads)

    def _begin(self, claim: Claim, threads: ThreadPoolExecutor, *, slow: bool = False) -> None:
        self._lanes.begin(claim.item_id, time.monotonic(), slow=slow)
        self._parsing[claim.item_id] = claim
        threads.submit(self._guarded, self._parse, claim)

    def _parse(self, claim: Claim) -> None:
        """In a thread of its own. What was claimed before goes no further than the parse beside others."""
        leash, made = self._leases.leash(claim), None
        parsed = self._step(claim, partial(self._pipeline.parse, claim, leash))
        if parsed is not None and claim.attempt == 1:
            made = self._step(claim, partial(self._pipeline.prepare, claim, parsed, leash))
        self._parses.put(_Parse(claim, parsed if claim.attempt > 1 else made))
        self._stirred.set()

    def _end(self, item_ids: Sequence[int]) -> None:
        for item_id in item_ids:
            claim = self._parsing[item_id]
            if self._leases.let_go(claim):
                log.info("document %s: it takes long, and others wait; begun again later", claim.document_id)

    def _settle_ended(self) -> None:
        while not self._parses.empty():
            ended = self._note_ended()
            if isinstance(ended.made, Prepared):
                self._hand_on(self._prepared, ended.made)
            elif ended.made is not None:
                self._finish_alone(ended.claim, ended.made)

    def _note_ended(self) -> _Parse:
        ended = self._parses.get()
        self._lanes.end(ended.claim.item_id)
        del self._parsing[ended.claim.item_id]
        if ended.made is not None:
            parsed = ended.made.parsed if isinstance(ended.made, Prepared) else ended.made
            self._leases.take_over(ended.claim, len(parsed.text))
        return ended

    def _finish_alone(self, claim: Claim, parsed: ParsedDocument) -> None:
        """Its worker died over it once: should it do so again, it takes nobody with it.

        The parse is a child's and harms nobody; what comes after it happens in this process.
        """
        self._wait_until_only(claim)
        leash = self._leases.leash(claim)
        prepared = self._step(claim, partial(self._pipeline.prepare, claim, parsed, leash))
        embedded = None if prepared is None else self._step(claim, partial(self._embed_whole, prepared))
        if embedded is not None:
            self._publish(embedded)

    def _wait_until_only(self, claim: Claim) -> None:
        """Everybody else is finished, or given back when that takes longer than a slice."""
        self._give_back(self._waiting)
        self._waiting.clear()
        while len(self._leases) > 1 and not self._faults:
            self._end(self._lanes.outlasted(time.monotonic()))
            time.sleep(_GLANCE_SECONDS)
            while not self._parses.empty():
                ended = self._note_ended()
                if isinstance(ended.made, Prepared):
                    self._hand_on(self._prepared, ended.made)
                elif ended.made is not None:
                    # Its turn to be alone comes after this one's.
                    self._give_back([ended.claim])

    def _wind_down(self) -> None:
        self._give_back(self._waiting)
        self._waiting.clear()
        while len(self._lanes) and not self._faults:
            self._end(self._lanes.outlasted(time.monotonic()))
            self._pause()
            self._settle_ended()
        if self._faults:
            self._leases.let_go_of_all()

    def _is_full(self) -> bool:
        later = len(self._leases) - len(self._lanes) - len(self._waiting)
        return later >= _MOST_PARSED or self._leases.characters() >= _MOST_PARSED_CHARACTERS

    def _is_finished(self, job_id: str | None) -> bool:
        """Of one job: nothing of it is under way here, or open with another worker that may yet drop it."""
        return job_id is not None and not len(self._leases) and self._jobs.is_finished(job_id)

    def _pause(self) -> None:
        """Until something has ended, or it is time to look again."""
        self._stirred.wait(self._idle_seconds)
        self._stirred.clear()

    # Embedding and publishing: a thread each.

    def _embed_all(self) -> None:
        turns: deque[tuple[Claim, Embedding]] = deque()
        more = True
        while (more or turns) and not self._faults:
            more = more and self._let_in(turns)
            if turns:
                self._embed_some(turns)
        self._hand_on(self._embedded, END)

    def _let_in(self, turns: deque[tuple[Claim, Embedding]]) -> bool:
        """Those that have arrived, at the back; where nobody has a turn, wait for one. False: the last has come."""
        while not turns or not self._prepared.empty():
            prepared = self._take(self._prepared)
            if prepared is END:
                return False
            embedding = self._step(prepared.claim, partial(self._pipeline.embedding, prepared))
            if embedding is not None:
                turns.append((prepared.claim, embedding))
        return True

    def _embed_some(self, turns: deque[tuple[Claim, Embedding]]) -> None:
        self._embed_together([embedding for _, embedding in turns])
        claim, embedding = turns.popleft()
        made = self._step(claim, partial(self._advance, claim, embedding))
        if isinstance(made, Embedded):
            self._hand_on(self._embedded, made)
        elif made is not None and self._stopping.is_set():
            # It may need minutes: another worker, or the next, begins it again.
            self._give_back([claim])
        elif made is not None:
            turns.append((claim, embedding))

    def _embed_together(self, embeddings: Sequence[Embedding]) -> None:
        """Where more than one wait. What goes wrong is nobody's yet: it comes again to whom it belongs, by himself."""
        if len(embeddings) > 1:
            try:
                self._pipeline.embed_together(embeddings)
            except (YoujuError, OSError) as error:
                log.info("texts of several documents could not be embedded together, now one by one: %s", error)

    def _advance(self, claim: Claim, embedding: Embedding) -> Embedded | Embedding:
        self._leases.leash(claim).check()
        return embedding.advance() or embedding

    def _embed_whole(self, prepared: Prepared) -> Embedded:
        embedding = self._pipeline.embedding(prepared)
        while not isinstance(made := self._advance(prepared.claim, embedding), Embedded):
            pass
        return made

    def _publish_all(self) -> None:
        while (embedded := self._take(self._embedded)) is not END:
            self._publish(embedded)

    def _publish(self, embedded: Embedded) -> None:
        claim = embedded.prepared.claim
        if self._step(claim, partial(self._pipeline.publish, embedded)) is not None:
            self._forget(claim)
            del self._met[claim.item_id]

    # What every step does with what went wrong.

    def _step(self, claim: Claim, step: Callable[[], Made]) -> Made | None:
        """What the step made, or None where it failed and the failure has been recorded."""
        try:
            return step()
        except ParseAbandoned:
            # Where it was cancelled there is nothing to give back, and this changes nothing.
            self._give_back([claim], slow=True)
        except LeaseLost:
            log.warning("document %s: deleted, or claimed by another worker, since; dropped", claim.document_id)
            self._forget(claim)
        except EmbedderChanged as error:
            log.info("document %s: %s; begun again", claim.document_id, error.detail)
            self._give_back([claim])
        except (StorageFull, Overloaded, EmbedderUnavailable, EmbedderTimeout) as error:
            # Nothing is wrong with the document: it waits for what is not there, and the attempt does not count.
            log.error("document %s: %s; will be tried again", claim.document_id, error.detail)
            self._stopping.wait(_BREATH_SECONDS)
            self._give_back([claim])
        except OSError as error:
            log.error("document %s: %s; will be tried again", claim.document_id, error)
            self._stopping.wait(_BREATH_SECONDS)
            self._put_off(claim, error)
        except YoujuError as error:
            self._fail(claim, of(error))
        except Exception as error:
            # The one place where a fault nobody foresaw becomes the document's recorded failure.
            log.exception("document %s", claim.document_id)
            self._fail(claim, Problem("internal", "Internal error", f"{type(error).__name__} during ingestion"))
        return None

    def _put_off(self, claim: Claim, error: OSError) -> None:
        """The machine's fault does not count, and each that a document meets makes it wait twice as long."""
        self._met[claim.item_id] += 1
        met = self._met[claim.item_id]
        self._forget(claim)
        if error.errno not in _OF_THE_MACHINE or (error.errno == errno.EIO and met > _MOST_UNREADABLE):
            # The embedding process died over it, say: that may be its own doing, and counts once the lease is over.
            return
        pause_seconds = 0.0 if self._stopping.is_set() else min(_BREATH_SECONDS * 2**met, _LONGEST_PAUSE_SECONDS)
        self._insist(partial(self._jobs.postpone, claim, pause_seconds))

    def _fail(self, claim: Claim, problem: Problem) -> None:
        try:
            self._insist(partial(self._jobs.fail, claim, problem))
        except LeaseLost:
            log.warning("document %s: failed, and was no longer this worker's", claim.document_id)
        self._forget(claim)
        del self._met[claim.item_id]

    def _give_back(self, claims: Iterable[Claim], *, slow: bool = False) -> None:
        # Forgotten first: once released they may come back at once, as claims to be kept.
        given = list(claims)
        for claim in given:
            self._forget(claim)
        if given:
            self._insist(partial(self._jobs.release, given, slow=slow))

    def _insist(self, effect: Callable[[], Made]) -> Made | None:
        """Again and again while the database has no room or no time; None when told to stop meanwhile."""
        while True:
            try:
                return effect()
            except (StorageFull, Overloaded) as error:
                log.error("%s; will be tried again", error.detail)
            if self._stopping.wait(_BREATH_SECONDS):
                return None

    def _forget(self, claim: Claim) -> None:
        self._leases.forget(claim)
        self._stirred.set()

    def _hand_on(self, to: queue.Queue[Any], made: object) -> None:
        while not self._faults:
            try:
                return to.put(made, timeout=_LOOK_UP_SECONDS)
            except queue.Full:
                continue

    def _take(self, source: queue.Queue[Any]) -> Any:
        while not self._faults:
            try:
                return source.get(timeout=_LOOK_UP_SECONDS)
            except queue.Empty:
                continue
        return END
