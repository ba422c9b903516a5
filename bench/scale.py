"""100,000 chunks: time and memory of a question, measured against its parts alone in the same run.

The texts are sentences of the evaluation corpora, put together anew; the vectors are random unit vectors, because an
exact search costs the same whatever they hold and embedding them would take a quarter of an hour.
"""

from __future__ import annotations

import json
import random
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.evalset import EN, ZH, corpus, rows
from bench.results import Result
from bench.service import Client, serving
from ingest.bootstrap import open_ingestion
from rag_service import config
from rag_service.bootstrap import Storage, open_storage
from rag_service.db.publication import Publisher
from rag_service.db.registration import Upload
from rag_service.dictionary.bilingual import Bilingual
from rag_service.index import segments
from rag_service.index.bm25 import Statistics, WeightedLeg, distinct_terms, weigh
from rag_service.inference.use_multilingual import UseMultilingual
from rag_service.retrieval.concepts import concepts_asked, words_asked
from rag_service.text import language_of, lexical_terms, sentences
from rag_service.types import Block, ChunkDraft, ParsedDocument

_CHUNKS = 100_000
_CHUNKS_A_DOCUMENT = 100
_QUESTIONS = 400
_CLIENTS = 8
_LOAD_SECONDS = 20.0
_DEPTH = 32
"""As deep as the service searches for the default `top_k`."""


def run(evaluation: Path, scratch: Path) -> list[Result]:
    data = scratch / "scale"
    storage = open_storage(config.load(data=data))
    kb = _filled(storage, evaluation)
    questions = [row["text"] for language in ("zh", "en") for row in rows(evaluation, "queries", "xquad", language)]
    random.Random(7).shuffle(questions)
    parts = _parts_alone(storage, kb, questions[:_QUESTIONS])
    storage.close()
    with serving(data, workers=1) as running:
        _timed(running.client(), kb, questions[:50])
        single = _timed(running.client(), kb, questions[:_QUESTIONS])
        rate = _under_load(running.client, kb, questions)
        resident = running.resident_bytes()
        ready = running.seconds_to_ready
    p50, p95 = statistics.median(single), statistics.quantiles(single, n=20)[-1]
    return [
        Result(
            f"`POST /v1/retrieve` at {_CHUNKS:,} chunks, p50 (p95)",
            "p50 ≤ 2 × (embedding + FAISS + tantivy alone)",
            f"{p50:.2f} ({p95:.2f}) ms; alone {parts:.2f} ms; {p50 / parts:.2f} ×",
            p50 <= 2 * parts,
        ),
        Result(f"the same with {_CLIENTS} clients", "≥ 150 requests/s", f"{rate:.0f} requests/s", rate >= 150),
        Result("start to ready", "≤ 3 s", f"{ready:.2f} s", ready <= 3),
        Result("resident memory of the service", "≤ 1.2 GB", f"{resident / 1e9:.2f} GB", resident <= 1.2e9),
    ]


def _filled(storage: Storage, evaluation: Path) -> str:
    """A knowledge base of 100,000 chunks, published like any document, then compacted."""
    kb = storage.knowledge_bases.create("default", "scale").id
    publisher = Publisher(storage.database)
    generator, shuffled = np.random.default_rng(7), random.Random(7)
    pool = [row["text"][a:b] for row in corpus(evaluation, ZH + EN) for a, b in sentences(row["text"])]
    for number in range(_CHUNKS // _CHUNKS_A_DOCUMENT):
        upload = Upload(f"{number}.txt", "text/plain", f"{number:064x}", 1)
        storage.documents.register("default", kb, [upload], lambda sha256: True)
        (claim,) = storage.jobs.claim("bench", 60, 1)
        parsed, drafts = _document(pool, shuffled)
        vectors = generator.standard_normal((len(drafts), UseMultilingual.dimensions), dtype=np.float32)
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        publisher.publish(claim, parsed, drafts, unit, UseMultilingual.name)
    ingestion = open_ingestion(storage.settings)
    ingestion.compactor.look_at(kb)
    ingestion.close()
    return kb


def _document(pool: list[str], shuffled: random.Random) -> tuple[ParsedDocument, list[ChunkDraft]]:
    """Chunks of about 120 tokens each."""
    text, drafts = "", []
    for ordinal in range(_CHUNKS_A_DOCUMENT):
        part = ""
        while len(lexical_terms(part)) < 90:
            part += shuffled.choice(pool) + " "
        start, part = len(text), part.strip()
        text += part + "\n"
        drafts.append(ChunkDraft(ordinal, part, start, start + len(part), None, (), language_of(part), 120))
    return ParsedDocument(text, (Block("paragraph", 0, len(text)),), None, "bench"), drafts


def _parts_alone(storage: Storage, kb: str, questions: list[str]) -> float:
    """Sum of the medians, in ms: one query embedded, one FAISS search, one tantivy search of each lexical leg, nothing
    around them."""
    segment = storage.feed.head(kb).segment
    assert segment is not None
    base = segments.load(storage.index_root, segment)
    model = UseMultilingual()
    vectors = [model.embed([question])[0] for question in questions]
    translations = Bilingual()
    weighted = [_weighted(base, question, translations) for question in questions]

    def search(number: int) -> None:
        terms, legs = weighted[number]
        for leg in legs:
            base.lexical.search(terms, leg, _DEPTH)

    parts = (
        _median_ms(lambda number: model.embed([questions[number]]), len(questions)),
        _median_ms(lambda number: base.dense.search(vectors[number], _DEPTH), len(questions)),
        _median_ms(search, len(questions)),
    )
    print("  embedding, FAISS, tantivy alone:", ", ".join(f"{part:.2f} ms" for part in parts), flush=True)
    return sum(parts)


def _weighted(base: segments.Base, question: str, translations: Bilingual) -> tuple[tuple[str, ...], list[WeightedLeg]]:
    legs = (words_asked(question), concepts_asked(question, translations))
    terms = distinct_terms(legs)
    nowhere = np.zeros(len(terms), dtype=np.int64)
    known = Statistics(base.lexical.chunks, base.lexical.frequencies(terms), 0, nowhere)
    return terms, [weigh(leg, terms, known) for leg in legs]


def _median_ms(step: Callable[[int], object], times: int) -> float:
    taken = []
    for number in range(times):
        begun = time.perf_counter()
        step(number)
        taken.append((time.perf_counter() - begun) * 1_000)
    return statistics.median(taken)


def _body(kb: str, question: str) -> bytes:
    return json.dumps({"query": question, "knowledge_base_ids": [kb]}).encode()


def _timed(client: Client, kb: str, questions: list[str]) -> list[float]:
    taken = []
    for question in questions:
        body = _body(kb, question)
        begun = time.perf_counter()
        status, content = client.raw("POST", "/v1/retrieve", body)
        taken.append((time.perf_counter() - begun) * 1_000)
        if status != 200:
            raise SystemExit(f"retrieve answered {status}: {content[:300]!r}")
    return taken


def _under_load(connect: Callable[[], Client], kb: str, questions: list[str]) -> float:
    """Requests a second that eight clients get answered, each asking again as soon as it has its answer."""
    answered = [0] * _CLIENTS
    bodies = [_body(kb, question) for question in questions]
    stop = time.perf_counter() + _LOAD_SECONDS

    def ask_on(number: int) -> None:
        client, at = connect(), number * 97
        while time.perf_counter() < stop:
            status, _ = client.raw("POST", "/v1/retrieve", bodies[at % len(bodies)])
            if status != 200:
                raise SystemExit(f"retrieve answered {status} under load")
            answered[number] += 1
            at += 1

    clients = [threading.Thread(target=ask_on, args=(number,)) for number in range(_CLIENTS)]
    begun = time.perf_counter()
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return sum(answered) / (time.perf_counter() - begun)
