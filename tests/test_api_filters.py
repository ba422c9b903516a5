"""Filters of `POST /v1/retrieve`: which documents, languages and media types, and uploaded when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from calls import ingest, retrieve
from conftest import finished
from fastapi.testclient import TestClient

Shown = dict[str, dict[str, Any]]
NAMES = {
    "warranty.txt": "The warranty of the lamp lasts two years.",
    "warranty.md": "# Lamp\n\nThe warranty of the lamp covers the switch.",
    "保修.txt": "台灯的保修期为两年，开关也在保修范围内。",
    "page.html": "<html><body><p>The warranty of the lamp is void after a repair.</p></body></html>",
}


@pytest.fixture(scope="module")
def documents(client: TestClient) -> Shown:
    """By file name, uploaded one after another, each at a later time; under `kb` the knowledge base."""
    kb = client.post("/v1/knowledge-bases", json={"name": "filters"}).json()
    found: Shown = {"kb": kb}
    for name, text in NAMES.items():
        [document_id] = ingest(client, kb["id"], {name: text}).values()
        found[name] = client.get(f"/v1/documents/{document_id}").json()
    return found


def found_by(client: TestClient, documents: Shown, filters: dict[str, Any], **more: Any) -> set[str]:
    passages = retrieve(client, documents["kb"]["id"], "warranty of the lamp", filters=filters, **more)["passages"]
    return {passage["filename"] for passage in passages}


def test_only_documents_named_are_found(client: TestClient, documents: Shown) -> None:
    for some in (["warranty.md"], ["warranty.md", "page.html"], [*NAMES]):
        filters = {"document_ids": [documents[name]["id"] for name in some]}
        assert found_by(client, documents, filters) == set(some)


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({"languages": ["zh"]}, {"保修.txt"}),
        ({"languages": ["en"]}, {"warranty.txt", "warranty.md", "page.html"}),
        ({"languages": ["en", "zh", "en"]}, {*NAMES}),
        ({"media_types": ["text/plain"]}, {"warranty.txt", "保修.txt"}),
        ({"media_types": ["text/html", "text/markdown"]}, {"warranty.md", "page.html"}),
        ({"media_types": ["text/plain"], "languages": ["zh"]}, {"保修.txt"}),
        ({"media_types": ["application/pdf"]}, set()),
        ({"media_types": ["text/html"], "languages": ["zh"]}, set()),
        ({"document_ids": ["no-such-document"]}, set()),
        ({"document_ids": None, "languages": None, "created_from": None}, {*NAMES}),
    ],
    ids=str,
)
def test_only_what_every_filter_lets_through_is_found(
    client: TestClient, documents: Shown, filters: dict[str, Any], wanted: set[str]
) -> None:
    assert found_by(client, documents, filters) == wanted
    assert found_by(client, documents, filters, top_k=50) == wanted
    assert len(found_by(client, documents, filters, top_k=1)) == min(1, len(wanted))


def test_an_unknown_document_beside_a_known_one_is_no_error(client: TestClient, documents: Shown) -> None:
    filters = {"document_ids": ["no-such-document", documents["page.html"]["id"]]}
    assert found_by(client, documents, filters) == {"page.html"}


def test_a_range_of_time_has_its_beginning_and_not_its_end(client: TestClient, documents: Shown) -> None:
    """As documents show their own times: what was shown can be asked for."""
    first, second, third, fourth = ((name, documents[name]["created_at"]) for name in NAMES)
    assert first[1] < second[1] < third[1] < fourth[1]
    assert found_by(client, documents, {"created_from": second[1]}) == {second[0], third[0], fourth[0]}
    assert found_by(client, documents, {"created_before": second[1]}) == {first[0]}
    assert found_by(client, documents, {"created_from": second[1], "created_before": fourth[1]}) == {
        second[0],
        third[0],
    }
    assert found_by(client, documents, {"created_from": second[1], "created_before": third[1]}) == {second[0]}
    assert found_by(client, documents, {"created_from": "2099-01-01T00:00:00Z"}) == set()
    assert found_by(client, documents, {"created_before": "1970-01-01T00:00:00Z"}) == set()


def test_time_and_the_rest_narrow_together(client: TestClient, documents: Shown) -> None:
    since = documents["warranty.md"]["created_at"]
    assert found_by(client, documents, {"created_from": since, "languages": ["en"]}) == {"warranty.md", "page.html"}
    assert found_by(client, documents, {"created_from": since, "media_types": ["text/plain"]}) == {"保修.txt"}
    mine = [documents["warranty.txt"]["id"]]
    assert found_by(client, documents, {"created_from": since, "document_ids": mine}) == set()


@pytest.mark.parametrize("hours", [-11, 0, 8, 14])
def test_a_time_may_be_told_in_any_zone(client: TestClient, documents: Shown, hours: int) -> None:
    shown = datetime.fromisoformat(documents["page.html"]["created_at"])
    elsewhere = shown.astimezone(timezone(timedelta(hours=hours))).isoformat()
    assert found_by(client, documents, {"created_from": elsewhere}) == {"page.html"}


def test_a_new_version_leaves_a_documents_time_and_changes_its_type(client: TestClient, documents: Shown) -> None:
    kb = client.post("/v1/knowledge-bases", json={"name": "filters of versions"}).json()
    [document_id] = ingest(client, kb["id"], {"note.txt": "The lamp has a warranty."}).values()
    shown = client.get(f"/v1/documents/{document_id}").json()["created_at"]
    page = ("note.html", b"<html><body><p>The lamp has no warranty.</p></body></html>")
    answer = client.put(f"/v1/documents/{document_id}/content", files={"file": page}, headers={"If-Match": "*"})
    assert finished(client, answer.json()["job_id"])["state"] == "succeeded"
    later = datetime.now(UTC).isoformat()
    here = {"kb": kb}
    assert found_by(client, here, {"media_types": ["text/html"]}) == {"note.html"}
    assert found_by(client, here, {"media_types": ["text/plain"]}) == set()
    assert found_by(client, here, {"created_from": shown}) == {"note.html"}
    assert found_by(client, here, {"created_from": later}) == set()


@pytest.mark.parametrize(
    "filters",
    [
        {"created_from": "yesterday"},
        {"created_from": "2026-11-26"},
        {"created_from": "2026-11-26T09:30:00"},
        {"created_from": "2026-11-26 09:30:00Z"},
        {"created_from": "2026-11-26T09:30Z"},
        {"created_from": "2026-13-26T09:30:00Z"},
        {"created_from": "2026-02-30T09:30:00Z"},
        {"created_from": "2026-11-26T25:30:00Z"},
        {"created_from": "２０２６-11-26T09:30:00Z"},
        {"created_from": 1_790_000_000},
        {"created_from": "1790000000"},
        {"created_before": 1.79e9},
        {"created_before": True},
        {"created_before": ["2026-11-26T09:30:00Z"]},
        {"created_before": ""},
        {"created_from": "2026-11-26T09:30:00Z", "created_before": "2026-11-26T09:30:00Z"},
        {"created_from": "2026-11-26T09:30:00Z", "created_before": "2026-11-26T17:29:00+08:00"},
        {"created_after": "2026-11-26T09:30:00Z"},
        {"media_types": []},
        {"media_types": ["x" * 201]},
        {"media_types": ["text/plain"] * 1_001},
        {"languages": []},
        {"languages": "zh"},
        {"document_ids": ["x"] * 1_001},
        {"document_ids": [1]},
        [],
        "zh",
    ],
    ids=lambda filters: repr(filters)[:60],
)
def test_a_filter_that_makes_no_sense_is_refused(client: TestClient, documents: Shown, filters: Any) -> None:
    body = {"query": "warranty", "knowledge_base_ids": [documents["kb"]["id"]], "filters": filters}
    answer = client.post("/v1/retrieve", json=body)
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59"])
def test_the_ends_of_the_calendar_are_times(client: TestClient, documents: Shown, moment: str) -> None:
    late = moment.startswith("9")
    assert found_by(client, documents, {"created_from": moment}) == (set() if late else {*NAMES})
    assert found_by(client, documents, {"created_before": moment}) == ({*NAMES} if late else set())


def test_the_description_of_the_api_tells_the_filters(client: TestClient) -> None:
    shapes = client.get("/openapi.json").json()["components"]["schemas"]
    members = shapes["Filters"]["properties"]
    assert {*members} == {"document_ids", "languages", "media_types", "created_from", "created_before"}
    assert {"type": "string", "format": "date-time"} in members["created_from"]["anyOf"]
