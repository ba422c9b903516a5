"""R@1 and R@10 in the four language directions, through the REST API, one configuration for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.evalset import EN, ZH, corpus, equivalents, rows
from bench.results import Result
from bench.service import Client, serving, wait_until_finished

_DIRECTIONS = (
    ("zh→ZH", "zh", "ZH", "relevant", 0.89),
    ("en→EN", "en", "EN", "relevant", 0.89),
    ("zh→EN", "zh", "EN", "relevant_cross", 0.47),
    ("en→ZH", "en", "ZH", "relevant_cross", 0.47),
)


def run(evaluation: Path, scratch: Path) -> list[Result]:
    with serving(scratch / "retrieval", workers=1) as running:
        client = running.client()
        passage_of: dict[str, str] = {}
        bases = {
            name: _fill(client, name, corpus(evaluation, sets), passage_of) for name, sets in (("ZH", ZH), ("EN", EN))
        }
        questions = {language: rows(evaluation, "queries", "xquad", language) for language in ("zh", "en")}
        same = equivalents(evaluation)
        results = []
        for name, language, base, gold, target in _DIRECTIONS:
            first, tenth = _recall(client, questions[language], bases[base], gold, passage_of, same)
            what = f"XQuAD {name}, {len(questions[language])} questions, R@1 (R@10)"
            results.append(Result(what, f"R@1 ≥ {target}", f"{first:.3f} ({tenth:.3f})", first >= target))
    return results


def _fill(client: Client, name: str, passages: list[dict[str, Any]], passage_of: dict[str, str]) -> str:
    kb = str(client.call("POST", "/v1/knowledge-bases", {"name": name})["id"])
    jobs = []
    for passage in passages:
        body = {"title": passage["id"], "text": passage["text"]}
        answer = client.call("POST", f"/v1/knowledge-bases/{kb}/texts", body)
        jobs.append(answer["job_id"])
        # A corpus may hold the same text twice: the second is a duplicate of the first, and equal in `equivalents`.
        passage_of.setdefault(answer["items"][0]["document_id"], passage["id"])
    wait_until_finished(client, jobs)
    return kb


def _recall(
    client: Client,
    questions: list[dict[str, Any]],
    kb: str,
    gold: str,
    passage_of: dict[str, str],
    same: dict[str, str],
) -> tuple[float, float]:
    first = tenth = 0
    for question in questions:
        body = {"query": question["text"], "knowledge_base_ids": [kb], "top_k": 10}
        found = client.call("POST", "/v1/retrieve", body)["passages"]
        ids = [passage_of[passage["document_id"]] for passage in found]
        ranked = [same.get(passage_id, passage_id) for passage_id in ids]
        relevant = {same.get(passage_id, passage_id) for passage_id in question[gold]}
        first += bool(ranked) and ranked[0] in relevant
        tenth += any(passage_id in relevant for passage_id in ranked)
    return first / len(questions), tenth / len(questions)
