"""The worker: claims documents, keeps their leases, and runs the pipeline with its steps overlapped.

Three threads hand documents on through short queues: one claims, parses and chunks; one embeds; one publishes. The
embedding is most of the work and is done by a process of its own (see `ingest.embedding`).
A heartbeat thread renews the leases of everything under way; a parse cannot block it.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, Final, TypeVar

from ingest.pipeline import Pipeline
from rag_service.db.jobs import Claim, Jobs
from rag_service.db.problems import of
from rag_service.errors import LeaseLost, Overloaded, StorageFull, YoujuError
from rag_service.types import Problem

log = logging.getLogger(__name__)

_CLAIM_AT_ONCE = 8
_QUEUED_BETWEEN_STEPS = 16
_BREATH_SECONDS = 2.0
_LOOK_UP_SECONDS = 0.5
_GLANCE_SECONDS = 0.005
END: Final = object()
"""What a step hands on after its last document."""
Given = TypeVar("Given")
Made = TypeVar("Made")


class Worker:
    """`idle_seconds` is how long an idle worker waits before it looks again."""

    def __init__(self, jobs: Jobs, pipeline: Pipeline, lease_seconds: float, idle_seconds: float = 0.1) -> None:
        self._jobs = jobs
        self._pipeline = pipeline
        self._lease_seconds = lease_seconds
        self._idle_seconds = idle_seconds
        self._name = f"{socket.gethostname()}:{os.getpid()}:{id(self):x}"
        self._stopping = threading.Event()
        self._under_way: set[Claim] = set()
        self._lock = threading.Lock()
        self._broken = threading.Event()
        self._prepared: queue.Queue[Any] = queue.Queue(_QUEUED_BETWEEN_STEPS)
        self._embedded: queue.Queue[Any] = queue.Queue(_QUEUED_BETWEEN_STEPS)

    def stop(self) -> None:
        """Begin no further document; what is under way is finished. Safe from a signal handler."""
        self._stopping.set()

    def run(self, job_id: str | None = None) -> None:
        """Work until `stop()`, or, given a job, until nothing of it is left to claim or under way.

        A fault that is no document's own (the database is gone, say) ends the run and is raised.
        """
        ended = threading.Event()
        with ThreadPoolExecutor(4, thread_name_prefix="ingest") as threads:
            heartbeat = threads.submit(self._guarded, self._keep_leases, ended)
            steps = [
                threads.submit(self._guarded, self._prepare_all, job_id),
                threads.submit(self._guarded, self._embed_all),
                threads.submit(self._guarded, self._publish_all),
            ]
            wait(steps)
            ended.set()
        for step in (*steps, heartbeat):
            step.result()

    def _guarded(self, step: Callable[..., None], *arguments: object) -> None:
        try:
            step(*arguments)
        except BaseException:
            # The other steps would wait for ever for one that is gone.
            self._broken.set()
            raise

    def _prepare_all(self, job_id: str | None) -> None:
        while not self._stopping.is_set() and not self._broken.is_set():
            claims = self._insist(self._jobs.claim, self._name, self._lease_seconds, _CLAIM_AT_ONCE, job_id) or []
            with self._lock:
                self._under_way.update(claims)
            again = bool(claims) and claims[0].attempt > 1
            if again:
                # Its worker died over it once: should it do so again, it takes nobody with it.
                self._wait_until_only(claims)
            for position, claim in enumerate(claims):
                if self._stopping.is_set():
                    self._give_back(claims[position:])
                    break
                self._hand_on(self._prepared, self._step(claim, self._pipeline.prepare, claim))
            if again:
                self._wait_until_only(())
            if not claims and not self._wait_for_work(job_id):
                break
        self._hand_on(self._prepared, END)

    def _wait_until_only(self, claims: Sequence[Claim]) -> None:
        while self._under_way - set(claims) and not self._broken.is_set():
            time.sleep(_GLANCE_SECONDS)

    def _wait_for_work(self, job_id: str | None) -> bool:
        """Whether to look again: always for a standing worker; for one job, while another worker may drop a piece."""
        if job_id is not None and not self._under_way and self._jobs.is_finished(job_id):
            return False
        self._stopping.wait(self._idle_seconds)
        return True

    def _embed_all(self) -> None:
        while (prepared := self._take(self._prepared)) is not END:
            self._hand_on(self._embedded, self._step(prepared.claim, self._pipeline.embed, prepared))
        self._hand_on(self._embedded, END)

    def _publish_all(self) -> None:
        while (embedded := self._take(self._embedded)) is not END:
            claim = embedded.prepared.claim
            if self._step(claim, self._pipeline.publish, embedded) is not None:
                self._forget(claim)

    def _step(self, claim: Claim, step: Callable[[Given], Made], given: Given) -> Made | None:
        """What the step made, or None where it failed and the failure has been recorded."""
        try:
            return step(given)
        except LeaseLost:
            log.warning("document %s: deleted, or claimed by another worker, since; dropped", claim.document_id)
            self._forget(claim)
        except (StorageFull, Overloaded) as error:
            # Nothing is wrong with the document: it waits for space, and the attempt does not count.
            log.error("document %s: %s; will be tried again", claim.document_id, error.detail)
            self._stopping.wait(_BREATH_SECONDS)
            self._give_back([claim])
        except OSError as error:
            # The machine's fault, not the document's: no memory, no process, no descriptor to be had.
            log.error("document %s: %s; will be tried again", claim.document_id, error)
            self._stopping.wait(_BREATH_SECONDS)
            self._forget(claim)
        except YoujuError as error:
            self._fail(claim, of(error))
        except Exception as error:
            # The one place where a fault nobody foresaw becomes the document's recorded failure.
            log.exception("document %s", claim.document_id)
            self._fail(claim, Problem("internal", "Internal error", f"{type(error).__name__} during ingestion"))
        return None

    def _fail(self, claim: Claim, problem: Problem) -> None:
        try:
            self._insist(self._jobs.fail, claim, problem)
        except LeaseLost:
            log.warning("document %s: failed, and was no longer this worker's", claim.document_id)
        self._forget(claim)

    def _give_back(self, claims: Sequence[Claim]) -> None:
        # Forgotten first: once released they may come back at once, as claims to be kept.
        for claim in claims:
            self._forget(claim)
        self._insist(self._jobs.release, claims)

    def _insist(self, effect: Callable[..., Made], *arguments: object) -> Made | None:
        """Again and again while the database has no room or no time; None when told to stop meanwhile."""
        while True:
            try:
                return effect(*arguments)
            except (StorageFull, Overloaded) as error:
                log.error("%s; will be tried again", error.detail)
            if self._stopping.wait(_BREATH_SECONDS):
                return None

    def _forget(self, claim: Claim) -> None:
        with self._lock:
            self._under_way.discard(claim)

    def _keep_leases(self, ended: threading.Event) -> None:
        while not ended.wait(self._lease_seconds / 3):
            with self._lock:
                claims = list(self._under_way)
            try:
                if claims:
                    self._jobs.renew(claims, self._lease_seconds)
            except (StorageFull, Overloaded) as error:
                # Leases outlive two beats missed; nobody else can claim either while the database takes no writes.
                log.error("leases not renewed: %s", error.detail)

    def _hand_on(self, to: queue.Queue[Any], made: object | None) -> None:
        """None is a document that went no further."""
        while made is not None and not self._broken.is_set():
            try:
                return to.put(made, timeout=_LOOK_UP_SECONDS)
            except queue.Full:
                continue

    def _take(self, source: queue.Queue[Any]) -> Any:
        while not self._broken.is_set():
            try:
                return source.get(timeout=_LOOK_UP_SECONDS)
            except queue.Empty:
                continue
        return END
