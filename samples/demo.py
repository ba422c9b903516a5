"""`make demo`: the sample documents in, four questions asked. Exit code 0 only if each came out right."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from rag_service import config, console
from rag_service.answering.question import Question
from rag_service.bootstrap import open_service, open_storage
from rag_service.types import Answer

SAMPLES = Path(__file__).parent
TENANT, NAME = "default", "samples"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    ingest = [
        sys.executable,
        "-m",
        "rag_service",
        "ingest",
        str(SAMPLES / "documents"),
        "--kb",
        NAME,
        "--data",
        str(data),
    ]
    if subprocess.run(ingest).returncode:
        return 1
    questions = json.loads((SAMPLES / "questions.json").read_text("utf-8"))[:4]
    with closing(open_storage(config.load(data=data))) as storage:
        scope = (storage.knowledge_bases.named(TENANT, NAME).id,)
        asker = open_service(storage).asker
        right = [_ask(question, asker.ask(Question(TENANT, question["question"], scope))) for question in questions]
    console.out.print(f"\n{sum(right)} of {len(right)} as they should be.")
    return 0 if all(right) else 1


def _ask(question: dict[str, Any], made: Answer) -> bool:
    console.out.print(f"\n? {question['question']}", markup=False)
    console.answer(made)
    right = _is_right(question, made)
    if not right:
        console.out.print(f"  expected: {question['contains'] or 'a refusal'} from {question['document']}", style="red")
    return right


def _is_right(question: dict[str, Any], made: Answer) -> bool:
    if question["document"] is None:
        return made.outcome == "refused" and not made.citations
    return any(
        citation.filename == question["document"] and all(part in citation.quote for part in question["contains"])
        for citation in made.citations
    )


if __name__ == "__main__":
    sys.exit(main())
