"""Where a model is: a directory, or what the hub's cache on this machine has of it."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from rag_service.errors import InvalidConfiguration


def locate(model: str) -> Path:
    """A directory as it is, or where the hub's cache keeps `owner/name`; nothing is fetched.

    Raises InvalidConfiguration.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or model.startswith(".") or model.count("/") != 1:
        raise InvalidConfiguration(f"the model directory {model} does not exist", model=model, reason="missing")
    try:
        return Path(snapshot_download(model, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise InvalidConfiguration(
            f"{model} is neither a directory nor in the model cache; nothing is downloaded by itself: "
            f"`hf download {model}` fetches it once",
            model=model,
            reason="not-downloaded",
        ) from error
