"""What asking any server of models over HTTP takes: its address, a client, tries, and a look at whether it lives."""

from __future__ import annotations

import asyncio
import random
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import httpx

from rag_service.errors import InvalidConfiguration
from rag_service.inference.completion_faults import Fault
from rag_service.inference.completion_stream import shown

ERROR_BODY_BYTES = 16 * 1024

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Retries:
    """Tries in all, and the wait before the second; each further wait is twice as long, up to the longest.

    Waits are shortened at random by up to half, so that questions turned away together do not come back together.
    """

    tries: int = 3
    first_wait_seconds: float = 0.25
    longest_wait_seconds: float = 4.0

    async def result(self, attempt: Callable[[], Awaitable[Made]], seconds_left: Callable[[], float]) -> Made:
        """Of the first try that has one. Raises the Fault that forbids another, is the last, or leaves no time."""
        for failed in range(1, self.tries + 1):
            try:
                return await attempt()
            except Fault as fault:
                wait = max(self.wait(failed), fault.retry_after_seconds or 0.0)
                if not fault.again or failed == self.tries or wait >= seconds_left():
                    raise
            await asyncio.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def wait(self, failed_tries: int) -> float:
        full = min(self.longest_wait_seconds, self.first_wait_seconds * 2.0 ** (failed_tries - 1))
        return full * random.uniform(0.5, 1.0)


def address(url: str, setting: str, instead_of_password: str) -> httpx.URL:
    """Raises InvalidConfiguration, which speaks of `setting`."""
    try:
        base = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidConfiguration(f"{setting}: {error}") from error
    if base.userinfo:
        raise InvalidConfiguration(f"a password in {setting} would end up in logs: use {instead_of_password}")
    return base


def below(base: httpx.URL, name: str) -> httpx.URL:
    return base.copy_with(path=f"{base.path.rstrip('/')}/{name}")


def client(
    api_key: str | None, key_setting: str, headers: Mapping[str, str], connections: httpx.Limits, connect_seconds: float
) -> httpx.AsyncClient:
    """It asks no proxy and follows no redirect: what is posted goes to its address and nowhere else.

    Only a connection has a limit; time over all steps together is for the caller to keep. Raises InvalidConfiguration.
    """
    if api_key is not None and not re.fullmatch(r"[!-~]+", api_key):
        # Found here, as the HTTP library would quote the key in its own error, once something is asked.
        raise InvalidConfiguration(f"{key_setting} has blanks, line ends or characters other than ASCII")
    # A compressed answer could unfold to any size inside the HTTP library, before a limit here sees it.
    plain = {"accept-encoding": "identity", "content-type": "application/json", "user-agent": "youju", **headers}
    return httpx.AsyncClient(
        headers=plain if api_key is None else plain | {"authorization": f"Bearer {api_key}"},
        timeout=httpx.Timeout(None, connect=connect_seconds),
        limits=connections,
        verify=ssl.create_default_context(),
        trust_env=False,
        follow_redirects=False,
    )


async def sign_of_life(asking: httpx.AsyncClient, base: httpx.URL, seconds: float, words: str) -> str:
    """`ok`, or why the server, which is called `words`, would not answer; any answer but a refused key or a server
    error is a living server, as not all of them have `/models`."""
    try:
        async with asyncio.timeout(seconds), asking.stream("GET", below(base, "models")) as incoming:
            status = incoming.status_code
    except (httpx.TransportError, TimeoutError) as error:
        return f"{words} cannot be reached: {shown(str(error) or type(error).__name__)}"
    if status in (401, 403):
        return f"{words} refuses the API key ({status})"
    return "ok" if status < 500 else f"{words} answers {status}"
