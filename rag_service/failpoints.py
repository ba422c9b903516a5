"""Named places where a test may end the process or fail the step. Production arms none.

A name is `<what>.<step just done>`: `upload.blob-renamed`, `publish.committed`.
"""

from __future__ import annotations

from collections.abc import Callable

_armed: list[Callable[[str], None]] = []


def reach(name: str) -> None:
    """Tell whoever is armed that this place was reached; it may raise, or not return."""
    for action in _armed:
        action(name)


def arm(action: Callable[[str], None]) -> None:
    _armed.append(action)


def disarm() -> None:
    _armed.clear()
