"""What every request passes before any route sees it, outermost first: an id, the size limit, the caller, admission.

Plain ASGI: nothing is read and no route is looked up before the caller is known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anyio import to_thread
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils import uuid7

from rag_service.api import problems
from rag_service.errors import BodyTooLarge, Unauthenticated, YoujuError
from rag_service.types import Caller

_SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)


class Identified:
    """Gives the request an id (`instance` of every problem) and the response its id and security headers.

    A fault that nobody foresaw becomes a problem here and not in the framework's own outermost layer, which is outside
    of this one and would answer without them.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        request_id, begun = str(uuid7()), False
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_headers(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = [*message["headers"], (b"x-request-id", request_id.encode()), *_SECURITY_HEADERS]
                message = {**message, "headers": headers}
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            # The client left in the middle of its own request: nobody is there to be told.
            return
        except Exception as error:
            if begun:
                raise
            await problems.unforeseen(error, request_id)(scope, receive, send_with_headers)


class BodyLimit:
    """413 as soon as the declared or the received size passes the limit; the rest is not read."""

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self._app = app
        self._most = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdigit() and int(declared) > self._most:
            return await _refuse(self._too_large(), scope, receive, send)
        received = 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._most:
                # An HTTPException, because FastAPI turns any other fault of body reading into a 400.
                raise HTTPException(413) from self._too_large()
            return message

        await self._app(scope, receive_counted, send)

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"a request body has at most {self._most} bytes", limit_bytes=self._most)


class Authentication:
    """The one place that reads credentials. Everything under `/v1` needs a key; `caller_of` None: nothing does."""

    def __init__(self, app: ASGIApp, caller_of: Callable[[str], Caller] | None, tenant: str) -> None:
        self._app = app
        self._caller_of = caller_of
        self._anonymous = Caller(tenant=tenant, key_id=None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1"):
            return await self._app(scope, receive, send)
        try:
            scope["state"]["caller"] = await self._caller(Headers(scope=scope).get("authorization"))
        except YoujuError as error:
            return await _refuse(error, scope, receive, send)
        await self._app(scope, receive, send)

    async def _caller(self, authorization: str | None) -> Caller:
        if self._caller_of is None:
            return self._anonymous
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Unauthenticated("send the header 'Authorization: Bearer yj_…'")
        return await to_thread.run_sync(self._caller_of, key.strip())


class Admission:
    """At most so many questions under way, waiting ones included; one more is told to come back."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        if scope["type"] != "http" or not _is_question(scope["method"], scope["path"]):
            return await self._app(scope, receive, send)
        if self._under_way >= self._most:
            return await _refuse(problems.overloaded(), scope, receive, send)
        self._under_way += 1
        try:
            return await self._app(scope, receive, send)
        finally:
            self._under_way -= 1


_QUESTIONS = frozenset(("/v1/retrieve", "/v1/pack", "/v1/answers", "/v1/chat/completions"))


def _is_question(method: str, path: str) -> bool:
    """What searches, and may generate."""
    return method == "POST" and (path in _QUESTIONS or path.endswith("/replay"))


async def _refuse(error: YoujuError, scope: Scope, receive: Receive, send: Send) -> None:
    request = Request(scope)
    await problems.of_error(error, problems.request_id(request))(scope, receive, send)
