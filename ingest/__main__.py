"""`python -m ingest`: one ingestion worker, as `youju worker` and `youju serve` start it."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from ingest.bootstrap import open_ingestion
from ingest.worker import Worker
from rag_service import config
from rag_service.errors import YoujuError


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ingest", description="Run one ingestion worker.")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--config", type=Path)
    parser.add_argument(
        "--until-stdin-closes", action="store_true", help="stop when whoever started this is gone, however it went"
    )
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s worker %(levelname)s %(message)s")
    try:
        settings = config.load(given.config, data=given.data)
        work(settings, given.until_stdin_closes)
    except YoujuError as error:
        print(f"{error.title}: {error.detail}", file=sys.stderr)
        return 1
    return 0


def work(settings: config.Settings, until_stdin_closes: bool = False) -> None:
    """Until SIGTERM or SIGINT; documents under way are finished first."""
    ingestion = open_ingestion(settings)

    def stop(number: int, frame: FrameType | None) -> None:
        ingestion.worker.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if until_stdin_closes:
        threading.Thread(target=_stop_with_stdin, args=(ingestion.worker,), daemon=True).start()
    try:
        ingestion.run()
    finally:
        ingestion.close()


def _stop_with_stdin(worker: Worker) -> None:
    sys.stdin.buffer.read()
    worker.stop()


if __name__ == "__main__":
    sys.exit(main())
