"""Modules whose libraries come with an extra: torch is not for those who do not use it."""

from __future__ import annotations

import importlib
from typing import Any

from rag_service.errors import InvalidConfiguration


def optional(module: str, extra: str) -> Any:
    """Raises InvalidConfiguration where the extra is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InvalidConfiguration(
            f"{error.name} is not installed: pip install 'youju[{extra}]'", package=error.name or "", extra=extra
        ) from error
