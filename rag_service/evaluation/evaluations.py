"""Evaluation runs from beginning to end: pinned, carried out, stored."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Full, Queue
from typing import Any

from rag_service import __version__
from rag_service.bootstrap import Service
from rag_service.config import Settings
from rag_service.db.eval_runs import EvalRun, EvalRuns, NewRun
from rag_service.db.problems import of
from rag_service.errors import Interrupted, LeaseLost, Overloaded, YoujuError
from rag_service.evaluated import Result
from rag_service.evaluation import metrics
from rag_service.evaluation.corpus import Corpus, corpus, documents_of
from rag_service.evaluation.questions import Passage, QuestionSet
from rag_service.evaluation.runner import Options, Runner, Task
from rag_service.types import Problem

log = logging.getLogger(__name__)

_STORED_AT_ONCE = 100
_STORED_EVERY_SECONDS = 2.0
_WAITING_RUNS = 8
_BEARING = ("embedder", "generator", "generator_model", "generator_quantization", "index", "rewriting", "unsupported",
            "nli_model", "tokenizer", "template", "spacing", "window_tokens", "reply_tokens")  # fmt: skip
"""Settings that figures depend on."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """Knowledge bases at the revisions they have now, with what gold ids mean there."""

    revision: dict[str, int]
    corpus: Corpus


class Evaluations:
    def __init__(self, service: Service) -> None:
        self._storage = service.storage
        self._runs = service.eval_runs
        self._runner = Runner(service.retriever, service.asker, service.verifier)

    def pin(
        self,
        tenant: str,
        knowledge_base_ids: Sequence[str],
        passages: Sequence[Passage] = (),
        equivalents: Sequence[Sequence[str]] = (),
    ) -> Pinned:
        """Raises NotFound."""
        # First the revisions: documents that come in between are told by a revision that has moved.
        bases = [self._storage.knowledge_bases.get(tenant, kb) for kb in dict.fromkeys(knowledge_base_ids)]
        documents = documents_of(self._storage.documents, tenant, [base.id for base in bases])
        return Pinned({base.id: base.revision for base in bases}, corpus(documents, passages, equivalents))

    def begin(
        self, tenant: str, name: str, asked: QuestionSet, pinned: Pinned, options: Options, told: dict[str, Any]
    ) -> tuple[EvalRun, Task]:
        """A run in SQL. `told` is what else its settings are to say."""
        task = Task(tenant, pinned.revision, asked.questions, pinned.corpus, options)
        settings = {**_in_force(self._storage.settings), **_members(options), **told}
        new = NewRun(name, pinned.revision, asked.name, asked.sha256, settings, task.size)
        return self._runs.create(tenant, new), task

    def carry_out(
        self, run: EvalRun, task: Task, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> EvalRun:
        """Until it has succeeded; where it fails, the run says why, and what it failed with is raised."""
        try:
            with _kept(self._runs, run.id):
                results = list(self._stored(run, task, progress))
                self._runs.succeed(run.id, metrics.summary(results))
        except YoujuError as error:
            self._runs.fail(run.id, of(error))
            raise
        except BaseException as error:
            # Whatever ends this thread ends the run, and says so; it goes on up.
            left = isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit)
            self._runs.fail(run.id, of(Interrupted("it was ended")) if left else _INTERNAL)
            raise
        return self._runs.get(task.tenant, run.id)

    def _stored(self, run: EvalRun, task: Task, progress: Callable[[int, int], None]) -> Iterator[Result]:
        """The results of a run, each yielded once it is in SQL."""
        batch: list[Result] = []
        done, stored_at = 0, time.monotonic()
        self._runs.add(run.id, 0, [])
        for result in self._runner.run(task):
            batch.append(result)
            if len(batch) < _STORED_AT_ONCE and time.monotonic() - stored_at < _STORED_EVERY_SECONDS:
                continue
            self._runs.add(run.id, done, batch)
            yield from batch
            done, batch, stored_at = done + len(batch), [], time.monotonic()
            progress(done, run.total)
        self._runs.add(run.id, done, batch)
        yield from batch
        progress(run.total, run.total)


class Background:
    """Runs one after another in a thread of its own, a few more waiting."""

    def __init__(self, evaluations: Evaluations, runs: EvalRuns) -> None:
        self._evaluations = evaluations
        self._runs = runs
        self._places: Queue[str] = Queue(_WAITING_RUNS)
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="eval-run")
        self._closing = threading.Event()

    def submit(self, begin: Callable[[], tuple[EvalRun, Task]]) -> EvalRun:
        """Begins the run and returns it as it is now. Raises Overloaded, and what `begin` raises."""
        try:
            self._places.put_nowait("")
        except Full as error:
            raise Overloaded("too many evaluations are waiting", retry_after_seconds=60) from error
        try:
            run, task = begin()
        except BaseException:
            self._places.get_nowait()
            raise
        kept = _Kept(self._runs, run.id)
        kept.start()
        self._threads.submit(self._carry_out, run, task, kept)
        return run

    def close(self) -> None:
        """Ends the run under way at its next question; those that wait are not begun."""
        self._closing.set()
        self._threads.shutdown(wait=True)

    def _carry_out(self, run: EvalRun, task: Task, kept: _Kept) -> None:
        try:
            self._evaluations.carry_out(run, task, self._go_on)
        except YoujuError as error:
            log.warning("evaluation run %s failed: %s: %s", run.id, error.code, error.detail)
        except Exception:
            log.exception("evaluation run %s", run.id)
            raise
        finally:
            kept.stop()
            self._places.get_nowait()

    def _go_on(self, done: int, total: int) -> None:
        if self._closing.is_set():
            raise Interrupted("the service was stopped before this evaluation had finished", done=done, total=total)


_INTERNAL = Problem("internal", "Internal error", "see the service's log for this evaluation run")


class _Kept:
    """Renews a run's lease, from a thread of its own: one question may take longer than the lease lasts."""

    def __init__(self, runs: EvalRuns, run_id: str) -> None:
        self._runs = runs
        self._run_id = run_id
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"keep-{run_id}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _renew(self) -> None:
        while not self._ended.wait(self._runs.lease_seconds / 4):
            try:
                self._runs.renew(self._run_id)
            except LeaseLost:
                return  # Whoever works on it finds out when the next results are stored.
            except Overloaded as error:
                log.warning("the lease of evaluation run %s was not renewed: %s", self._run_id, error.detail)


@contextmanager
def _kept(runs: EvalRuns, run_id: str) -> Iterator[None]:
    kept = _Kept(runs, run_id)
    kept.start()
    try:
        yield
    finally:
        kept.stop()


def _in_force(settings: Settings) -> dict[str, Any]:
    return {"version": __version__, **{name: getattr(settings, name) for name in _BEARING}}


def _members(options: Options) -> dict[str, Any]:
    return {f"eval_{name}": getattr(options, name) for name in Options.__dataclass_fields__}
