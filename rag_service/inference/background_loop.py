"""An asyncio event loop in a thread of its own, for adapters whose callers are not asynchronous."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

Made = TypeVar("Made")


class BackgroundLoop:
    """Runs what is posted, in order, until closed. The thread is a daemon: it never keeps the process alive."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def post(self, call: Callable[[], object]) -> bool:
        """From any thread; returns at once. False, and nothing will run, once the loop is closed."""
        with self._lock:
            if not self._closed:
                self._loop.call_soon_threadsafe(call)
            return not self._closed

    def begin(self, work: Coroutine[Any, Any, Made]) -> Future[Made]:
        """From any thread but the loop's own, and not once `close` has been called: nothing would ever run it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Runs `last` after everything posted so far, then ends the thread. Called once, not from the loop itself."""
        try:
            asyncio.run_coroutine_threadsafe(last, self._loop).result()
        finally:
            with self._lock:
                self._closed = True
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
