"""What the gold ids of a question set mean in a knowledge base, and a set's own passages put into one.

A gold id is a passage of the set, a document's id, where it came from (`source_uri`), or its file name. A passage of a
set is a document whose file name and source are the passage's id and whose bytes are its text. Passages of equal bytes
are one document; of those that a list calls equivalent any one will do.
"""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from rag_service.db.documents import Documents
from rag_service.errors import EvaluationFailed
from rag_service.evaluation.questions import Fault, Passage, Question
from rag_service.intake import Accepted, Intake, text_file
from rag_service.types import Document

log = logging.getLogger(__name__)
MOST_REFUSED = 0.01
_AT_ONCE = 200
_PAGE = 200


@dataclass(frozen=True, slots=True)
class Corpus:
    """`keys` lead from a document's id to what it counts as, `named` from a gold id to that; `languages` and
    `documents` are by what they count as."""

    keys: Mapping[str, str]
    named: Mapping[str, str]
    languages: Mapping[str, str]
    documents: Mapping[str, tuple[str, ...]]
    ambiguous: frozenset[str]

    def key(self, document_id: str) -> str:
        return self.keys.get(document_id, document_id)

    def gold(self, question: Question) -> tuple[str, ...]:
        """What counts as gold, each once. Every id is known (see `unknown`)."""
        return tuple(dict.fromkeys(self.named[name] for name in question.gold))

    def direction(self, question: Question) -> str:
        """`zh→en`: the question's language and that of its gold passages, or of what it is about; `mixed` where they
        are of both, `any` where nothing says."""
        about = [self.named[name] for name in question.gold or question.about if name in self.named]
        languages = {self.languages[key] for key in about} or set(self.languages.values())
        return f"{question.language}→{languages.pop() if len(languages) == 1 else 'mixed' if about else 'any'}"


def corpus(
    documents: Iterable[Document], passages: Sequence[Passage] = (), equivalents: Sequence[Sequence[str]] = ()
) -> Corpus:
    live = [document for document in documents if document.chunks > 0]
    by_bytes = {document.sha256: document for document in live}
    named: dict[str, set[str]] = defaultdict(set)
    for document in live:
        for name in (document.id, document.source_uri, document.filename):
            if name:
                named[name].add(document.id)
    for passage in passages:
        if (held := by_bytes.get(_sha256(passage.text))) is not None:
            named[passage.id] = {held.id}
    keys = _keys([document.id for document in live], named, equivalents)
    languages: dict[str, str] = {}
    members: dict[str, list[str]] = defaultdict(list)
    for document in live:
        languages.setdefault(keys[document.id], document.language or "?")
        members[keys[document.id]].append(document.id)
    counted = {name: {keys[document_id] for document_id in ids} for name, ids in named.items()}
    return Corpus(
        keys=keys,
        named={name: min(found) for name, found in counted.items() if len(found) == 1},
        languages=languages,
        documents={key: tuple(ids) for key, ids in members.items()},
        ambiguous=frozenset(name for name, found in counted.items() if len(found) > 1),
    )


def documents_of(documents: Documents, tenant: str, knowledge_base_ids: Sequence[str]) -> list[Document]:
    """All of them. Raises NotFound."""
    found: list[Document] = []
    for knowledge_base_id in knowledge_base_ids:
        cursor = None
        while True:
            page = documents.browse(tenant, knowledge_base_id, None, _PAGE, cursor)
            found += page.items
            cursor = page.next_cursor
            if cursor is None:
                break
    return found


def unknown(questions: Iterable[Question], known: Corpus, passages: Iterable[Passage] = ()) -> list[Fault]:
    """What gold ids are neither known nor those of passages to come, and which of them mean several documents."""
    coming = {passage.id for passage in passages}
    faults = []
    for question in questions:
        for name in question.gold:
            if name in coming or name in known.named:
                continue
            several = name in known.ambiguous
            reason = f"{name!r} names several documents" if several else f"unknown passage or document {name!r}"
            faults.append(Fault(question.source, question.line, reason))
    return faults


@dataclass(frozen=True, slots=True)
class Loader:
    """What ingestion does here: `run_job` works on a job until nothing of it is left, `settle` folds what a knowledge
    base has taken in into its index."""

    run_job: Callable[[str], None]
    settle: Callable[[str], object]


def load(
    intake: Intake,
    documents: Documents,
    loader: Loader,
    tenant: str,
    knowledge_base_id: str,
    passages: Sequence[Passage],
    progress: Callable[[int, int], None],
) -> None:
    """Every passage as a document; those that are there by their bytes cost nothing. `progress` is told (taken in, in
    all). Raises EvaluationFailed naming passages that could not be taken in."""
    for start in range(0, len(passages), _AT_ONCE):
        batch = passages[start : start + _AT_ONCE]
        files = [text_file(passage.title or passage.id, passage.text, passage.id) for passage in batch]
        job_id, accepted = intake.accept(tenant, knowledge_base_id, files)
        _demand_accepted(batch, accepted)
        loader.run_job(job_id)
        progress(start + len(batch), len(passages))
    _demand_live(passages, documents_of(documents, tenant, [knowledge_base_id]))
    loader.settle(knowledge_base_id)


def _keys(
    document_ids: Sequence[str], named: Mapping[str, set[str]], equivalents: Sequence[Sequence[str]]
) -> dict[str, str]:
    """What each document counts as: itself, or the first of the documents that it is equivalent to."""
    leader = {document_id: document_id for document_id in document_ids}

    def lead(document_id: str) -> str:
        while leader[document_id] != document_id:
            document_id = leader[document_id]
        return document_id

    for group in equivalents:
        held = [next(iter(named[name])) for name in group if len(named.get(name, ())) == 1]
        for document_id in held[1:]:
            first, second = sorted((lead(held[0]), lead(document_id)))
            leader[second] = first
    return {document_id: lead(document_id) for document_id in document_ids}


def _demand_accepted(passages: Sequence[Passage], accepted: Sequence[Accepted]) -> None:
    refused = [
        f"{passage.id}: {entry.problem.detail}"
        for passage, entry in zip(passages, accepted, strict=True)
        if entry.problem is not None
    ]
    if refused:
        raise EvaluationFailed(f"{len(refused)} passages were refused: {refused[0]}", passages=refused)


def _demand_live(passages: Sequence[Passage], documents: Sequence[Document]) -> None:
    """A few texts of any large set are damaged, and are refused as they would be in use: questions about them have
    unknown passages then. More than a few are a fault of the set."""
    ready = {document.sha256 for document in documents if document.chunks > 0}
    missing = [passage.id for passage in passages if _sha256(passage.text) not in ready]
    if len(missing) <= MOST_REFUSED * len(passages):
        for name in missing:
            log.warning("passage %s was not taken in", name)
    else:
        told = [d.error.detail for d in documents if d.error is not None]
        why = f" ({told[0]})" if told else ""
        raise EvaluationFailed(f"{len(missing)} passages were not taken in: {missing[0]}{why}", passages=missing)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
