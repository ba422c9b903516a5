"""Problems as JSON columns hold them."""

from __future__ import annotations

from typing import Any

from rag_service.errors import YoujuError
from rag_service.types import Problem


def of(error: YoujuError) -> Problem:
    return Problem(error.code, error.title, error.detail, dict(error.data))


def to_json(problem: Problem) -> dict[str, Any]:
    return {"code": problem.code, "title": problem.title, "detail": problem.detail, "data": problem.data}


def from_json(value: dict[str, Any] | None) -> Problem | None:
    return None if value is None else Problem(**value)
