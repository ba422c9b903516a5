"""Every error as RFC 9457 `application/problem+json`: this is where codes meet statuses."""

from __future__ import annotations

import errno
import logging
import re
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from rag_service.errors import Overloaded, StorageFull, YoujuError
from rag_service.types import Problem

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:youju:problem:"
_STATUS = {
    "not-found": 404,
    "name-taken": 409,
    "content-taken": 409,
    "idempotency-key-reused": 409,
    "version-changed": 412,
    "version-required": 428,
    "invalid-input": 422,
    "unauthenticated": 401,
    "unsupported-type": 415,
    "body-too-large": 413,
    "prompt-too-large": 422,
    "overloaded": 503,
    "generator-unavailable": 502,
    "generation-failed": 502,
    "generator-timeout": 504,
    "embedder-changing": 409,
    "vectors-forgotten": 410,
    "embedder-unavailable": 502,
    "embedding-failed": 502,
    "reranking-failed": 502,
    "embedder-timeout": 504,
    "storage-full": 507,
}
_BY_STATUS = {
    400: ("malformed-request", "Malformed request"),
    404: ("not-found", "Not found"),
    405: ("method-not-allowed", "Method not allowed"),
    415: ("unsupported-type", "Unsupported or untrue media type"),
}
_HIDDEN = "see the service's log for this request"
_OPENAI = re.compile(r"/v1/(?:chat/completions|models(?:/.*)?)", re.DOTALL)
# In /openapi.json, for every route.
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {
        "description": "A problem (RFC 9457)",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemShape"}}},
    }
    for status in ("4XX", "5XX")
}


class Refused(Exception):
    """A request of several parts of which none was accepted: the first problem, and every part's own."""

    def __init__(self, problem: Problem, items: list[dict[str, Any]]) -> None:
        super().__init__(problem.detail)
        self.problem = Problem(problem.code, problem.title, problem.detail, {**problem.data, "items": items})


class ProblemResponse(JSONResponse):
    """On OpenAI's paths it has one member more: `error`, where OpenAI's clients look for the reason."""

    media_type = MEDIA_TYPE

    def __init__(self, members: dict[str, Any], status: int, headers: dict[str, str]) -> None:
        super().__init__(members, status, headers)
        self._members = members

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _OPENAI.fullmatch(scope["path"]):
            self.body = self.render(for_openai(self._members))
            self.headers["Content-Length"] = str(len(self.body))
        await super().__call__(scope, receive, send)


def status_of(code: str) -> int:
    return _STATUS.get(code, 500)


def body(problem: Problem, status: int | None = None, instance: str | None = None) -> dict[str, Any]:
    """The members of RFC 9457, then the problem's own data."""
    members: dict[str, Any] = {
        "type": TYPE_PREFIX + problem.code,
        "title": problem.title,
        "status": status_of(problem.code) if status is None else status,
        "detail": problem.detail,
    }
    if instance is not None:
        members["instance"] = instance
    return {**problem.data, **members}


def for_openai(members: dict[str, Any]) -> dict[str, Any]:
    """The members of a problem, and beside them the error object that OpenAI's clients read."""
    kind = members["type"]
    code = kind.removeprefix(TYPE_PREFIX)
    return {**members, "error": {"message": members["detail"], "type": kind, "code": code, "param": None}}


def told(error: YoujuError, instance: str) -> Problem:
    """What a caller learns of `error`: of what went wrong inside only the code, and that the log has the rest."""
    if status_of(error.code) != 500:
        return Problem(error.code, error.title, error.detail, dict(error.data))
    log.error("request %s: %s: %s %s", instance, error.code, error.detail, error.data)
    return Problem(error.code, error.title, _HIDDEN)


def response(problem: Problem, status: int, instance: str) -> JSONResponse:
    headers = {}
    if "retry_after_seconds" in problem.data:
        headers["Retry-After"] = str(problem.data["retry_after_seconds"])
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="youju"'
    return ProblemResponse(body(problem, status, instance), status, headers)


def of_error(error: YoujuError, instance: str) -> JSONResponse:
    return response(told(error, instance), status_of(error.code), instance)


def request_id(request: Request) -> str:
    return str(request.state.request_id)


def install(app: FastAPI) -> None:
    app.add_exception_handler(YoujuError, _youju_error)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(OSError, _os_error)


def _youju_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, YoujuError)
    return of_error(error, request_id(request))


def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refused)
    return response(error.problem, status_of(error.problem.code), request_id(request))


def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    instance = request_id(request)
    if any(fault["type"] == "json_invalid" for fault in error.errors()):
        return response(Problem("malformed-request", "Malformed request", "the body is not JSON"), 400, instance)
    faults = [{"at": _pointer(fault["loc"]), "message": fault["msg"]} for fault in error.errors()]
    detail = "; ".join(f"{fault['at']}: {fault['message']}" for fault in faults[:5])
    return response(Problem("invalid-input", "Invalid input", detail, {"errors": faults}), 422, instance)


def _pointer(location: tuple[int | str, ...]) -> str:
    return "/".join(str(part) for part in location)


def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, YoujuError):
        return of_error(error.__cause__, request_id(request))
    code, title = _BY_STATUS.get(error.status_code, ("http-error", "Request refused"))
    answer = response(Problem(code, title, str(error.detail)), error.status_code, request_id(request))
    # Such as `Allow`, which a 405 has to carry.
    answer.headers.update(error.headers or {})
    return answer


def _os_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OSError)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return of_error(StorageFull("no space left while the request was being received"), request_id(request))
    return unforeseen(error, request_id(request))


def unforeseen(error: Exception, instance: str) -> JSONResponse:
    log.error("request %s", instance, exc_info=error)
    return response(Problem("internal", "Internal error", _HIDDEN), 500, instance)


def overloaded() -> Overloaded:
    return Overloaded("too many questions under way", retry_after_seconds=1)
