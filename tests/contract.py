"""Holds responses against /openapi.json and, where they are errors, against RFC 9457."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from fastapi.testclient import TestClient

PROBLEM = "application/problem+json"
_SEEN_TO_ELSEWHERE = {"type", "title", "description", "default"}
_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


class Contract:
    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._operations = [
            (method, re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), path, operation)
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
        ]

    @classmethod
    def watch(cls, client: TestClient) -> None:
        """From here on a response that is not as described fails the test that asked for it."""
        contract = cls(client.get("/openapi.json").json())
        client.event_hooks["response"] = [contract.check]

    def check(self, response: Any) -> None:
        response.read()
        method, path, status = response.request.method.lower(), response.request.url.path, response.status_code
        assert response.headers["X-Request-Id"]
        if status >= 400 and path != "/readyz":
            check_problem(response)
        for known, pattern, _, operation in self._operations:
            if known == method and pattern.fullmatch(path):
                described = operation["responses"].get(str(status)) or operation["responses"].get(f"{status // 100}XX")
                assert described, f"{method} {path} answered {status}, which /openapi.json does not describe"
                self._check_body(response, described.get("content", {}), f"{method} {path} {status}")

    def _check_body(self, response: Any, content: dict[str, Any], where: str) -> None:
        if not content:
            assert response.content == b"", where
            return
        media_type = response.headers["Content-Type"].split(";")[0]
        described = content.get(media_type) or content.get("*/*")
        assert described is not None, f"{where}: {media_type} is not described"
        if media_type.endswith("json") and media_type in content:
            assert list(self.faults(described["schema"], response.json(), "$")) == [], where

    def faults(self, schema: dict[str, Any], value: Any, at: str) -> Iterator[str]:
        """What of `value` is not as the schema says. A member that it does not name is a fault, too."""
        kind = schema.get("type")
        if kind and not (isinstance(value, _JSON_TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))):
            yield f"{at}: {value!r} is no {kind}"
            return
        for keyword, told in schema.items():
            match keyword:
                case "$ref":
                    yield from self.faults(self._document["components"]["schemas"][told.split("/")[-1]], value, at)
                case "anyOf":
                    tried = [list(self.faults(option, value, at)) for option in told]
                    yield from [] if [] in tried else [f"{at}: {tried}"]
                case "enum":
                    yield from [] if value in told else [f"{at}: {value!r} is not in {told}"]
                case "const":
                    yield from [] if value == told else [f"{at}: {value!r} is not {told!r}"]
                case "format":
                    yield from _misformatted(told, value, at)
                case "required":
                    yield from (f"{at}: {name} is missing" for name in told if name not in value)
                case "properties":
                    yield from self._members(schema, value, at)
                case "items":
                    for position, item in enumerate(value):
                        yield from self.faults(told, item, f"{at}[{position}]")
                case "additionalProperties":
                    if isinstance(told, dict):
                        for name, member in value.items():
                            yield from self.faults(told, member, f"{at}.{name}")
                case _:
                    assert keyword in _SEEN_TO_ELSEWHERE, f"this checker does not know {keyword!r}"

    def _members(self, schema: dict[str, Any], value: dict[str, Any], at: str) -> Iterator[str]:
        for name, member in value.items():
            if name in schema["properties"]:
                yield from self.faults(schema["properties"][name], member, f"{at}.{name}")
            elif schema.get("additionalProperties") is not True:
                yield f"{at}: {name} is not described"


def check_problem(response: Any) -> dict[str, Any]:
    """The members of RFC 9457, the request's own id among them; nothing of the inside is told."""
    assert response.headers["Content-Type"] == PROBLEM, (response.status_code, response.text[:200])
    if response.request.method == "HEAD":
        return {}
    body: dict[str, Any] = response.json()
    assert body["type"].startswith("urn:youju:problem:")
    assert body["title"]
    assert body["detail"]
    assert body["status"] == response.status_code
    assert body["instance"] == response.headers["X-Request-Id"]
    assert "Traceback" not in response.text
    return body


def _misformatted(name: str, value: Any, at: str) -> Iterator[str]:
    if name == "date-time" and datetime.fromisoformat(value).utcoffset() is None:
        yield f"{at}: {value} has no time zone"
