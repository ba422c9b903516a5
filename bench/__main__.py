"""`make bench`: every target, measured in one run, as a table. Needs the evaluation sets (`--eval`)."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import tempfile
from pathlib import Path

from bench import (
    citations,
    extractive,
    files,
    freshness,
    generation,
    ingestion,
    killers,
    legs,
    memory,
    ocr,
    packing,
    pdf,
    retrieval,
    rewriting,
    scale,
)
from bench.results import markdown

_PARTS = {
    "ingestion": ingestion.run,
    "files": files.run,
    "ocr": ocr.run,
    "killers": killers.run,
    "memory": memory.run,
    "pdf": pdf.run,
    "scale": scale.run,
    "freshness": freshness.run,
    "retrieval": retrieval.run,
    "legs": legs.run,
    "extractive": extractive.run,
    "rewriting": rewriting.run,
    "packing": packing.run,
    "citations": citations.run,
    "generation": generation.run,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--eval", type=Path, required=True, help="folder of the evaluation sets")
    parser.add_argument("--only", choices=_PARTS, action="append", help="run these parts only")
    given = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory(prefix="youju-bench-") as scratch:
        for name in given.only or _PARTS:
            print(f"… {name}", flush=True)
            made = _PARTS[name](given.eval, Path(scratch))
            print(markdown(made), flush=True)
            results += made
    print(f"\n{datetime.date.today()}, {os.cpu_count()} cores, {_processor()}, Python {platform.python_version()}\n")
    print(markdown(results))
    return 0 if all(result.met is not False for result in results) else 1


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    raise SystemExit(main())
